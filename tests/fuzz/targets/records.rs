//! Records of the processes' programs, behind lengths of two bytes, into a `Trace`: no panic, and a result in which everybody is there.

use netwatch::probe::event_of;
use netwatch::process::{Found, Look, Trace};

/// A machine on which nothing can be seen any more.
struct Nothing;

impl Look for Nothing {
    fn process(&mut self, _: u32) -> Option<Found> {
        None
    }

    fn is_bound(&mut self, _: &str) -> Option<bool> {
        None
    }
}

/// Takes in what one input describes; how many records were understood.
pub fn follow(input: &[u8]) -> usize {
    let (mut trace, mut rest, mut understood) = (Trace::of_namespace(Some(1)), input, 0);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
        rest = after;
        if let Some(event) = event_of(record) {
            understood += 1;
            trace.apply(event, &mut Nothing);
        }
    }
    let result = trace.result(Some(1), std::iter::empty(), true);
    let is_there = |id| result.processes.get(id).is_some();
    assert!(result.processes.unix.iter().flat_map(|peer| &peer.processes).all(|id| is_there(*id)));
    assert!(result.attempts.iter().filter_map(|attempt| attempt.process).all(is_there));
    understood
}
