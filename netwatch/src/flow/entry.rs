//! A flow in user space: the sum of its increments.

use netwatch_common::tcp;

use super::{
    Counters, Direction, FailedAttempts, FlowId, FlowKey, IcmpError, Increment, Payload, PayloadGap, PerDirection,
    Protocol, TcpFacts,
};

/// A flow and its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The key.
    pub key: FlowKey,
    /// Distinguishes successive connections on this key: 0 for the first.
    pub epoch: u32,
    /// Serial number within the session, in the order in which flows were opened. Identifies the
    /// row of the flow in a recording.
    pub serial: u64,
    /// Counts by direction.
    pub counters: PerDirection<Counters>,
    /// What applications sent and received.
    pub payload: Payload,
    /// Time of the first packet, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Time of the last packet so far, nanoseconds since the Unix epoch.
    pub last_seen_ns: u64,
    /// The side that sent the first packet.
    pub opened_by: Direction,
    /// TCP handshakes that began; 0 for other protocols.
    pub connections: u64,
    /// Facts from TCP headers; `None` for other protocols.
    pub tcp: Option<TcpFacts>,
    /// The last ICMP error that ended a connection attempt of this flow.
    pub icmp_error: Option<IcmpError>,
    /// Why the flow ended; `None` while the meter has an entry for it.
    pub ended: Option<EndReason>,
}

/// Why a flow ended: the values of flowEndReason in IPFIX (information element 136, RFC 5102 and
/// RFC 7012).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// It had no packet during the idle timeout.
    IdleTimeout,
    /// It was reported after the active timeout and continues.
    ActiveTimeout,
    /// It was closed by TCP: FIN from both sides, or RST.
    EndOfFlow,
    /// The session was shut down.
    ForcedEnd,
    /// The table was nearly full.
    LackOfResources,
}

impl EndReason {
    /// All reasons, sorted by number.
    pub const ALL: [Self; 5] =
        [Self::IdleTimeout, Self::ActiveTimeout, Self::EndOfFlow, Self::ForcedEnd, Self::LackOfResources];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::ActiveTimeout => "active_timeout",
            Self::EndOfFlow => "end_of_flow",
            Self::ForcedEnd => "forced_end",
            Self::LackOfResources => "lack_of_resources",
        }
    }

    /// The value of flowEndReason in IPFIX.
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
        let mut payload = Payload::default();
        payload.grow(increment.payload);
        Self {
            key: id.key,
            epoch: id.epoch,
            serial: 0,
            counters: increment.counters,
            payload,
            first_seen_ns: increment.first_seen_ns,
            last_seen_ns: increment.last_seen_ns,
            opened_by: increment.opened_by,
            connections: increment.connections.into(),
            tcp: increment.tcp,
            icmp_error: None,
            ended: None,
        }
    }

    /// The identity of the flow.
    pub fn id(&self) -> FlowId {
        FlowId { key: self.key, epoch: self.epoch }
    }

    pub(super) fn absorb(&mut self, increment: &Increment) {
        self.counters += increment.counters;
        // After its end, a connection only has late copies of what was sent before.
        let is_late = increment.payload.gap == Some(PayloadGap::NoHandshake) && self.is_closed();
        if !is_late {
            self.payload.grow(increment.payload);
        }
        if increment.first_seen_ns < self.first_seen_ns {
            // The kernel has tables per CPU, so the parts of a flow arrive in any order. The side
            // that opened the flow is that of the earliest part.
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

    /// The failed attempts of this flow.
    pub fn failed(&self) -> FailedAttempts {
        match &self.tcp {
            Some(facts) => FailedAttempts::of_tcp(facts, self.opened_by, self.connections, self.icmp_error),
            None => FailedAttempts { unreachable: self.icmp_error.is_some().into(), ..FailedAttempts::default() },
        }
    }

    /// The failed attempts without those that may still be answered: an attempt of a live flow
    /// counts as unanswered when its SYN was repeated.
    pub fn failed_so_far(&self) -> FailedAttempts {
        let failed = self.failed();
        let is_pending = self.end_reason().is_none() && failed.unanswered_tries <= failed.unanswered;
        if is_pending { FailedAttempts { unanswered: 0, unanswered_tries: 0, ..failed } } else { failed }
    }

    /// Whether it has TCP headers.
    pub(super) fn is_tcp(&self) -> bool {
        self.key.protocol == Protocol::TCP.0 && !self.key.fragment
    }

    /// Whether it is a TCP connection of which no handshake was observed: it began before the meter
    /// did.
    pub fn is_without_handshake(&self) -> bool {
        self.is_tcp() && self.connections == 0
    }

    /// Number of connections: TCP handshakes that began, failed ones included, or one for a flow of
    /// another protocol. ICMP of the remote that the target did not answer is none: these are
    /// errors, which belong to other flows.
    pub fn connections(&self) -> u64 {
        let is_answered = self.opened_by == Direction::Egress || self.counters.egress.packets > 0;
        if self.is_tcp() { self.connections } else { u64::from(is_answered || !Protocol(self.key.protocol).is_icmp()) }
    }

    /// Whether it is a TCP connection that has not ended.
    pub fn is_open(&self) -> bool {
        self.is_tcp() && self.end_reason().is_none()
    }

    /// Why the flow ended; `None` while it can continue. A flow that was closed by TCP has
    /// [`EndReason::EndOfFlow`] also while the meter still has an entry for it.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.ended.or_else(|| self.is_closed().then_some(EndReason::EndOfFlow))
    }

    /// Whether TCP closed it.
    fn is_closed(&self) -> bool {
        self.tcp.is_some_and(|facts| tcp::is_closed(facts.flags.egress, facts.flags.ingress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_reasons_have_ipfix_numbers() {
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
