//! What a report does not know, for whoever takes it for a complete list.

use std::collections::BTreeSet;

use super::Report;
use crate::flow::{RemainderKind, Remote};
use crate::process::Processes;

impl Report {
    /// Reasons for which there may have been more than is listed, a sentence without a full stop each; empty when nothing was missed.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let mut gap = |is_one: bool, text: String| {
            if is_one {
                gaps.push(text)
            }
        };
        gap(!self.complete, "it was not over, these are interim figures".to_owned());
        let packets = |kind| self.remainders.of(kind).both().packets;
        let (overflow, malformed) = (packets(RemainderKind::Overflow), packets(RemainderKind::Malformed));
        gap(overflow > 0, format!("{overflow} packets found the flow table full, their remotes are not known"));
        gap(malformed > 0, format!("{malformed} packets could not be read"));
        gap(self.lost.samples > 0, format!("{} samples were lost, names may be missing", self.lost.samples));
        let Processes { lost, .. } = &self.processes;
        let events = lost.events + lost.unknown;
        gap(events > 0, format!("{events} events of processes were lost"));
        gap(lost.sockets > 0, format!("{} sockets could not be followed", lost.sockets));
        gap(lost.beyond > 0, format!("{} processes, sockets and attempts were more than are kept", lost.beyond));
        let (at_least, folded) = (if self.folded.at_least { "at least " } else { "" }, self.folded.flows);
        gap(folded > 0, format!("{at_least}{folded} flows were counted in their endpoint only"));
        let names = self.naming.lost.sum();
        gap(names > 0, format!("{names} losses while names were read, some may be missing"));
        if let Some(early) = self.replay.as_ref().and_then(|replay| replay.ended_early.as_ref()) {
            gap(true, format!("it was read to byte {} only ({})", early.offset, early.cause));
        }
        for others in self.others() {
            gap(true, format!("there were more remotes by {others} than could be told apart"));
        }
        gaps
    }

    /// `udp out` and the like, of remotes that are not told apart.
    fn others(&self) -> BTreeSet<String> {
        let keys = self.endpoints.iter().map(|known| &known.endpoint.key);
        let others = keys.filter(|key| key.remote == Remote::Others);
        others.map(|key| format!("{} {}", key.protocol, key.direction.of_flow())).collect()
    }
}
