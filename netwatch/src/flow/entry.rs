//! One flow as user space keeps it: what its increments add up to.

use super::{Counters, Direction, Failed, FlowKey, IcmpError, Increment, PerDirection, Protocol, TcpFacts};

/// The FIN and RST bits of the TCP flag byte (RFC 9293, 3.1).
const FIN: u8 = 0x01;
const RST: u8 = 0x04;

/// A flow and everything counted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its ends and protocol.
    pub key: FlowKey,
    /// What each side sent.
    pub counters: PerDirection<Counters>,
    /// First packet, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Last packet so far, nanoseconds since the Unix epoch.
    pub last_seen_ns: u64,
    /// Who sent the first packet.
    pub opened_by: Direction,
    /// TCP handshakes begun; 0 for other protocols.
    pub connections: u64,
    /// TCP only.
    pub tcp: Option<TcpFacts>,
    /// The last ICMP error that ended an attempt of this flow.
    pub icmp_error: Option<IcmpError>,
}

/// Why a flow is over, in IPFIX's words (RFC 5102, flowEndReason).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// FIN from both sides, or RST.
    EndOfFlow,
}

impl Flow {
    pub(super) fn new(key: FlowKey, increment: &Increment) -> Self {
        Self {
            key,
            counters: increment.counters,
            first_seen_ns: increment.first_seen_ns,
            last_seen_ns: increment.last_seen_ns,
            opened_by: increment.opened_by,
            connections: increment.connections.into(),
            tcp: increment.tcp,
            icmp_error: None,
        }
    }

    pub(super) fn absorb(&mut self, increment: &Increment) {
        self.counters += increment.counters;
        if increment.first_seen_ns < self.first_seen_ns {
            // The kernel's side may hand over parts of one flow in any order (per-CPU tables): the earliest part knows who opened it.
            self.opened_by = increment.opened_by;
            self.first_seen_ns = increment.first_seen_ns;
        }
        self.last_seen_ns = self.last_seen_ns.max(increment.last_seen_ns);
        self.connections += u64::from(increment.connections);
        match (&mut self.tcp, &increment.tcp) {
            (Some(facts), Some(later)) => facts.absorb(later),
            (none, later) => *none = none.or(*later),
        }
    }

    /// Attempts of this flow that came to nothing.
    pub fn failed(&self) -> Failed {
        match &self.tcp {
            Some(facts) => Failed::of_tcp(facts, self.opened_by, self.connections, self.icmp_error),
            None => Failed { unreachable: self.icmp_error.is_some().into(), ..Failed::default() },
        }
    }

    /// Connections as users count them: TCP handshakes begun (also those that failed), one for each flow of another protocol.
    pub fn connections(&self) -> u64 {
        if self.key.protocol == Protocol::TCP.0 && !self.key.fragment { self.connections } else { 1 }
    }

    /// Why the flow is over; `None` while it may go on.
    pub fn end_reason(&self) -> Option<EndReason> {
        let PerDirection { egress, ingress } = self.tcp?.flags;
        let over = (egress | ingress) & RST != 0 || egress & ingress & FIN != 0;
        over.then_some(EndReason::EndOfFlow)
    }
}
