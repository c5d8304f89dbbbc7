//! Corrects the byte counts of frames that were converted to Ethernet frames for the classifier in
//! the kernel.

use std::collections::HashMap;

use netwatch_common::observation::Observation;

use crate::flow::{Counters, Direction, FlowKey, Increment, PerDirection, Traffic};
use crate::meter::host;

/// Bytes added to frames, by the traffic and direction that they were counted under.
#[derive(Debug, Default)]
pub(super) struct AddedBytes(HashMap<(Traffic, Direction), AddedTo>);

/// What was added to the frames of one direction.
#[derive(Debug, Default, Clone, Copy)]
struct AddedTo {
    frames: i64,
    bytes: i64,
}

impl AddedTo {
    /// Takes the bytes that were added to this many of the frames. Several connections may have the
    /// same key; all frames of a link layer become longer by the same number of bytes.
    fn take(&mut self, frames: i64) -> i64 {
        let bytes = if frames >= self.frames { self.bytes } else { self.bytes * frames / self.frames };
        self.frames -= frames.min(self.frames);
        self.bytes -= bytes;
        bytes
    }
}

impl AddedBytes {
    /// Notes that a packet was counted with this many extra bytes.
    pub(super) fn note(&mut self, seen: &Observation, bytes: i64) {
        if bytes != 0 {
            let added = self.0.entry(sent(seen)).or_default();
            added.frames += 1;
            added.bytes += bytes;
        }
    }

    /// Whether no frame was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The increment without the added bytes.
    pub(super) fn subtract(&mut self, increment: Increment) -> Increment {
        let [egress, ingress] = match increment.traffic {
            Traffic::Flow(key) => {
                let back = FlowKey { local: key.remote, remote: key.local, ..key };
                [Traffic::Flow(key), Traffic::Flow(back)].map(|traffic| (traffic, Direction::Egress))
            }
            other => [Direction::Egress, Direction::Ingress].map(|direction| (other, direction)),
        };
        let mut without = |counters: Counters, key| {
            let frames = i64::try_from(counters.skbs).unwrap_or(i64::MAX);
            let added = self.0.get_mut(&key).map_or(0, |added| added.take(frames));
            let less = |bytes: u64| bytes.saturating_add_signed(-added);
            Counters { bytes: less(counters.bytes), wire_bytes: less(counters.wire_bytes), ..counters }
        };
        let PerDirection { egress: sent, ingress: received } = increment.counters;
        let counters = PerDirection { egress: without(sent, egress), ingress: without(received, ingress) };
        Increment { counters, ..increment }
    }
}

/// Packets of a flow are noted as sent by their sender, because the local end is known only at the
/// end of the replay.
fn sent(seen: &Observation) -> (Traffic, Direction) {
    let traffic = host::as_sent(&seen.packet);
    let is_egress = matches!(traffic, Traffic::Flow(_)) || seen.direction == netwatch_common::flow::EGRESS;
    (traffic, if is_egress { Direction::Egress } else { Direction::Ingress })
}
