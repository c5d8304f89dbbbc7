//! How many connections are open and how many attempts have failed, while a session runs.

use super::{FlowTable, Place};
use crate::flow::{Direction, Flow, FlowKey, ObservationPoint};

/// Numbers of flows of one observation point.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowActivity {
    /// Flows so far.
    pub opened: u64,
    /// TCP connections that have not ended, without failed attempts. Those that are not tracked
    /// individually are not included.
    pub open: u64,
    /// Failed attempts of the target, without those that may still be answered.
    pub failed: u64,
    /// Those among them that no late answer takes back: their flow has ended, or the answer was a
    /// refusal.
    pub failed_for_good: u64,
}

/// What of a flow is part of numbers over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowState {
    /// It is a TCP connection, not a failed attempt.
    pub is_connection: bool,
    /// It can continue.
    pub is_live: bool,
    /// The side that opened it.
    pub opened_by: Direction,
    /// Failed attempts, without those that may still be answered.
    pub failed_so_far: u64,
    /// Failed attempts if nothing follows.
    pub failed: u64,
    /// The time of the TCP handshake, if it was measured.
    pub handshake_rtt_ns: Option<u64>,
}

impl FlowTable {
    /// What of the flow at a place is part of numbers over time.
    pub fn state(&self, place: Place) -> Option<FlowState> {
        let stored = self.store.stored(place)?;
        // Few flows have an error, and only those are copied.
        let with_error = self.pending_error(stored).map(|_| self.with_error(stored));
        let flow = with_error.as_ref().unwrap_or(&stored.flow);
        let (failed, is_live) = (flow.failed().attempts(), flow.end_reason().is_none());
        Some(FlowState {
            is_connection: flow.tcp.is_some() && failed == 0,
            is_live,
            opened_by: flow.opened_by,
            failed_so_far: if failed > 0 { flow.failed_so_far().attempts() } else { 0 },
            failed,
            handshake_rtt_ns: flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns),
        })
    }

    /// Failed attempts of the folded flows of the link, those with an error that may still belong
    /// to another flow included.
    pub fn folded_failed(&self) -> u64 {
        let settled = self.evicted.link_failed() + self.untracked.link_failed();
        if self.evicted.counts().flows + self.untracked.counts().flows == 0 {
            return settled;
        }
        let is_folded = |key: &FlowKey| {
            let is_listed = self.evicted.has_endpoint(key) || self.untracked.has_endpoint(key);
            key.point == ObservationPoint::Link && is_listed && self.store.find(key).is_none()
        };
        let pending = self.icmp_errors.keys().filter(|(key, by_target)| !by_target && is_folded(key));
        settled + pending.count() as u64
    }

    /// Numbers of flows of one observation point. Looks at every flow.
    pub fn activity(&self, point: ObservationPoint) -> FlowActivity {
        // All of them have ended; untracked ones may not have.
        let evicted = self.evicted.failed(point);
        let mut activity = FlowActivity {
            opened: self.opened(point),
            open: 0,
            failed: evicted + self.untracked.failed(point),
            failed_for_good: evicted,
        };
        for stored in self.store.iter().filter(|stored| stored.flow.key.point == point) {
            // Few flows have an error, and only those are copied.
            let failed = match self.pending_error(stored) {
                Some(_) => self.with_error(stored).failed_so_far().attempts(),
                None => stored.flow.failed_so_far().attempts(),
            };
            activity.open += u64::from(failed == 0 && stored.flow.is_open());
            if failed > 0 && stored.flow.opened_by == Direction::Egress {
                activity.failed += failed;
                activity.failed_for_good += for_good(&stored.flow);
            }
        }
        activity
    }
}

/// Failed attempts of a flow that no late answer takes back. An ICMP error that may belong to
/// another flow is none.
fn for_good(flow: &Flow) -> u64 {
    let failed = flow.failed();
    if flow.end_reason().is_some() { failed.attempts() } else { failed.attempts() - failed.unanswered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{
        Counters, EndReason, Increment, PayloadGrowth, PerDirection, TcpFacts, Traffic, TransportAddress,
    };

    /// A flow that the target opened with so many SYNs, and resets that answered it.
    fn attempt(port: u16, syns: u64, resets: u64, ended: Option<EndReason>) -> Increment {
        let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
        let key = FlowKey {
            point: ObservationPoint::Link,
            protocol: 6,
            fragment: false,
            local: end([10, 0, 0, 2], port),
            remote: end([198, 51, 100, 1], 443),
        };
        let tcp = TcpFacts {
            syns: PerDirection { egress: syns, ingress: 0 },
            resets: PerDirection { egress: 0, ingress: resets },
            ..TcpFacts::default()
        };
        let egress = Counters { skbs: 1, packets: 1, bytes: 60, wire_bytes: 60 };
        Increment {
            traffic: Traffic::Flow(key),
            point: ObservationPoint::Link,
            counters: PerDirection { egress, ingress: Counters::default() },
            payload: PayloadGrowth::default(),
            first_seen_ns: 1,
            last_seen_ns: 1,
            opened_by: Direction::Egress,
            connections: 1,
            superseded: false,
            is_last: false,
            initial_sequence: None,
            epoch: 0,
            ended,
            tcp: Some(tcp),
        }
    }

    #[test]
    fn an_attempt_that_may_be_answered_has_not_failed() {
        let activity = |increments: &[Increment]| {
            let mut table = FlowTable::new(100);
            increments.iter().for_each(|increment| _ = table.apply(*increment));
            let FlowActivity { opened, open, failed, failed_for_good } = table.activity(ObservationPoint::Link);
            (opened, open, failed, failed_for_good)
        };
        assert_eq!(activity(&[attempt(1, 1, 0, None)]), (1, 1, 0, 0), "its SYN was sent once");
        assert_eq!(activity(&[attempt(1, 2, 0, None)]), (1, 0, 1, 0), "its SYN was repeated");
        assert_eq!(activity(&[attempt(1, 1, 0, Some(EndReason::IdleTimeout))]), (1, 0, 1, 1), "it ended");
        let (.., failed, for_good) = activity(&[attempt(1, 1, 1, None), attempt(2, 1, 0, None)]);
        assert_eq!((failed, for_good), (1, 1), "one was refused");
        let of_a_remote = Increment { opened_by: Direction::Ingress, ..attempt(1, 1, 1, None) };
        assert_eq!(activity(&[swapped(of_a_remote)]), (1, 0, 0, 0), "an attempt of a remote");
    }

    /// The same with both directions exchanged.
    fn swapped(mut increment: Increment) -> Increment {
        let swap = |pair: &mut PerDirection<u64>| std::mem::swap(&mut pair.egress, &mut pair.ingress);
        let tcp = increment.tcp.as_mut().expect("TCP");
        swap(&mut tcp.syns);
        swap(&mut tcp.resets);
        increment
    }

    #[test]
    fn only_tcp_connections_are_open() {
        let mut datagram = attempt(1, 0, 0, None);
        datagram.tcp = None;
        if let Traffic::Flow(key) = &mut datagram.traffic {
            key.protocol = 17;
        }
        let mut table = FlowTable::new(100);
        table.apply(datagram);
        let FlowActivity { opened, open, failed, .. } = table.activity(ObservationPoint::Link);
        assert_eq!((opened, open, failed), (1, 0, 0));
    }
}
