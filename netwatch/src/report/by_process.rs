//! What each process sent and received: its flows on the link, added up.

use std::collections::BTreeMap;

use super::{KnownFlow, Report};
use crate::flow::{Counters, Direction, EndpointKey, PerDirection};
use crate::process::{Evidence, ProcessId};

/// A process's part of an endpoint, or of everything.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How many flows.
    pub flows: u64,
    /// What they carried.
    pub counters: PerDirection<Counters>,
}

impl Part {
    fn add(&mut self, known: &KnownFlow) {
        self.flows += 1;
        self.counters += known.flow.counters;
    }
}

/// What one process sent and received on the link. A flow counts for the process that used it, the surest and latest where there are several.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OfProcess {
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointKey, Part>,
    /// All of them.
    pub sum: Part,
}

/// How many flows of the link are attributed, by how sure that is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributed {
    /// By the packet's own socket.
    pub socket: u64,
    /// Inferred from addresses and ports.
    pub tuple: u64,
    /// It must be one of the run's.
    pub netns: u64,
    /// Of nobody: opened from outside, and the kernel answered by itself.
    pub nobody: u64,
    /// Of a process of the run's that is not known any more.
    pub unattributed: u64,
}

impl Report {
    /// What each process of the report sent and received, in their order there.
    pub fn by_process(&self) -> Vec<OfProcess> {
        let mut parts = vec![OfProcess::default(); self.processes.list.len()];
        for known in &self.flows {
            let Some(part) = user_of(known).and_then(|user| parts.get_mut(user.0 as usize)) else { continue };
            part.sum.add(known);
            let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
            part.endpoints.entry(key).or_default().add(known);
        }
        parts
    }

    /// How many flows of the link are attributed, and how.
    pub fn attributed(&self) -> Attributed {
        let mut sums = Attributed::default();
        for known in &self.flows {
            *match known.users.first().map(|user| user.evidence) {
                Some(Evidence::Socket) => &mut sums.socket,
                Some(Evidence::Tuple) => &mut sums.tuple,
                Some(Evidence::Netns) => &mut sums.netns,
                None if known.flow.opened_by == Direction::Ingress => &mut sums.nobody,
                None => &mut sums.unattributed,
            } += 1;
        }
        sums
    }
}

fn user_of(known: &KnownFlow) -> Option<ProcessId> {
    known.users.first().map(|user| user.process)
}
