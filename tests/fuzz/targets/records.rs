//! Passes records of the process programs, each after a length of two bytes, to a `Trace`: no
//! panic, and every process that the result refers to is in it.

use netwatch::flow::{Direction, FlowKey, ObservationPoint};
use netwatch::meter::event_of;
use netwatch::process::{FlowToAttribute, LiveProcess, PacketCoverage, ProcessAction, ProcessEvent, SystemView, Trace};

/// A system on which no process can be observed any more.
struct EmptySystem;

impl SystemView for EmptySystem {
    fn process(&mut self, _: u32) -> Option<LiveProcess> {
        None
    }

    fn is_bound(&mut self, _: &str) -> Option<bool> {
        None
    }
}

/// Applies the records that one input describes; returns how many were recognized.
pub fn follow(input: &[u8]) -> usize {
    let (mut trace, mut rest, mut recognized, mut flows) = (Trace::of_namespaces(vec![1]), input, 0, Vec::new());
    trace.set_command(1);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
        rest = after;
        if let Some(event) = event_of(record) {
            recognized += 1;
            flows.extend(flow_of(&event));
            trace.apply(event, &mut EmptySystem);
        }
    }
    let result = trace.result(flows.into_iter(), PacketCoverage::Final);
    let is_present = |id| result.processes.get(id).is_some();
    assert!(result.processes.local_sockets.iter().flat_map(|peer| &peer.processes).all(|id| is_present(*id)));
    assert!(result.users.iter().flat_map(|(_, users)| users).all(|user| is_present(user.process)));
    assert!(result.attempts.iter().filter_map(|attempt| attempt.process).all(is_present));
    recognized
}

/// The flow of a socket that was closed and whose announcement was lost: it is found by its ends
/// and its port.
fn flow_of(event: &ProcessEvent) -> Option<FlowToAttribute> {
    let ProcessAction::ClosedSocket(closed) = &event.action else { return None };
    let (protocol, local) = (closed.protocol?.0, closed.local?);
    let remote = closed.remote.unwrap_or(local);
    let key = FlowKey { point: ObservationPoint::Link, protocol, fragment: false, local, remote };
    let (opened_by, first_ns, last_ns) = (Direction::Egress, event.time_ns, event.time_ns);
    Some(FlowToAttribute { key, opened_by, first_ns, last_ns })
}
