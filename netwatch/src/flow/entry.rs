//! One flow as user space keeps it: what its increments add up to.

use netwatch_common::tcp;

use super::{
    Counters, Direction, FailedAttempts, FlowId, FlowKey, IcmpError, Increment, PerDirection, Protocol, TcpFacts,
};

/// A flow and everything counted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its ends and protocol.
    pub key: FlowKey,
    /// Which of the successive connections on this key it is: 0 for the first.
    pub epoch: u32,
    /// Its number in its session, in the order in which flows were opened: identifies its row in
    /// a recording.
    pub serial: u64,
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
    /// Why it ended; `None` while the meter has an entry for it.
    pub ended: Option<EndReason>,
}

/// Why a flow ended: the values of IPFIX's flowEndReason (information element 136, RFC 5102 and RFC 7012).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// It had no packet for the idle timeout.
    IdleTimeout,
    /// It was reported after the active timeout and goes on.
    ActiveTimeout,
    /// TCP closed it: FIN from both sides, or RST.
    EndOfFlow,
    /// The session was shut down.
    ForcedEnd,
    /// The table was nearly full.
    LackOfResources,
}

impl EndReason {
    /// All of them, by number.
    pub const ALL: [Self; 5] =
        [Self::IdleTimeout, Self::ActiveTimeout, Self::EndOfFlow, Self::ForcedEnd, Self::LackOfResources];

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::ActiveTimeout => "active_timeout",
            Self::EndOfFlow => "end_of_flow",
            Self::ForcedEnd => "forced_end",
            Self::LackOfResources => "lack_of_resources",
        }
    }

    /// The value of IPFIX's flowEndReason.
    pub fn number(self) -> u8 {
        match self {
            Self::IdleTimeout => 1,
            Self::ActiveTimeout => 2,
            Self::EndOfFlow => 3,
            Self::ForcedEnd => 4,
            Self::LackOfResources => 5,
        }
    }
}

impl Flow {
    pub(super) fn new(id: FlowId, increment: &Increment) -> Self {
        Self {
            key: id.key,
            epoch: id.epoch,
            serial: 0,
            counters: increment.counters,
            first_seen_ns: increment.first_seen_ns,
            last_seen_ns: increment.last_seen_ns,
            opened_by: increment.opened_by,
            connections: increment.connections.into(),
            tcp: increment.tcp,
            icmp_error: None,
            ended: None,
        }
    }

    /// Its identity.
    pub fn id(&self) -> FlowId {
        FlowId { key: self.key, epoch: self.epoch }
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
    pub fn failed(&self) -> FailedAttempts {
        match &self.tcp {
            Some(facts) => FailedAttempts::of_tcp(facts, self.opened_by, self.connections, self.icmp_error),
            None => FailedAttempts { unreachable: self.icmp_error.is_some().into(), ..FailedAttempts::default() },
        }
    }

    /// Connections as users count them: TCP handshakes begun (also those that failed), one for each flow of another protocol.
    pub fn connections(&self) -> u64 {
        if self.key.protocol == Protocol::TCP.0 && !self.key.fragment { self.connections } else { 1 }
    }

    /// Why the flow ended; `None` while it may go on. A flow that TCP closed is
    /// [`EndReason::EndOfFlow`] also while the meter still has an entry for it.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.ended.or_else(|| {
            let PerDirection { egress, ingress } = self.tcp?.flags;
            tcp::is_closed(egress, ingress).then_some(EndReason::EndOfFlow)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_reasons_have_the_numbers_of_ipfix() {
        let numbered = EndReason::ALL.map(|reason| (reason.number(), reason.name()));
        let registry = [
            (1, "idle_timeout"),
            (2, "active_timeout"),
            (3, "end_of_flow"),
            (4, "forced_end"),
            (5, "lack_of_resources"),
        ];
        assert_eq!(numbered, registry);
    }
}
