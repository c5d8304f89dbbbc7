//! Failed connection attempts, derived from the packet headers of a flow. The headers show how an
//! attempt failed, not why.

use std::net::IpAddr;
use std::ops::AddAssign;

use super::{Direction, FlowKey, PerDirection, TcpFacts};

/// The ACK bit of the TCP flag byte (RFC 9293, 3.1).
const ACK: u8 = 0x10;

/// Failed connection attempts, by how they failed. Each attempt is counted in one field only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailedAttempts {
    /// TCP: SYN answered by RST.
    pub refused: u64,
    /// TCP: SYN without an answer.
    pub unanswered: u64,
    /// SYNs sent for the unanswered attempts, retransmissions included. They are not attempts and
    /// not part of [`FailedAttempts::attempts`].
    pub unanswered_tries: u64,
    /// TCP: SYN-ACK, then RST before the handshake was complete.
    pub reset: u64,
    /// Answered by an ICMP error (UDP and others; TCP before the handshake).
    pub unreachable: u64,
}

impl FailedAttempts {
    /// Number of failed attempts.
    pub fn attempts(&self) -> u64 {
        self.refused + self.unanswered + self.reset + self.unreachable
    }

    /// The sum of both.
    pub(super) fn plus(mut self, other: Self) -> Self {
        self += other;
        self
    }

    /// Without those that were counted before.
    pub(super) fn minus(self, before: Self) -> Self {
        Self {
            refused: self.refused.saturating_sub(before.refused),
            unanswered: self.unanswered.saturating_sub(before.unanswered),
            unanswered_tries: self.unanswered_tries.saturating_sub(before.unanswered_tries),
            reset: self.reset.saturating_sub(before.reset),
            unreachable: self.unreachable.saturating_sub(before.unreachable),
        }
    }

    /// The causes of which there are some, by the words of every output, with their numbers.
    pub fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Self { refused, unanswered, reset, unreachable, .. } = *self;
        let causes = [("refused", refused), ("timeout", unanswered), ("reset", reset), ("unreachable", unreachable)];
        causes.into_iter().filter(|(_, attempts)| *attempts > 0)
    }

    /// Failed attempts according to the TCP headers of a flow. If several connections share the
    /// five-tuple, they cannot be distinguished once one of them was answered.
    pub(super) fn of_tcp(facts: &TcpFacts, opener: Direction, connections: u64, icmp: Option<IcmpError>) -> Self {
        let other = opener.opposite();
        let syns = *facts.syns.of(opener);
        if syns == 0 {
            return Self::default();
        }
        if *facts.syn_acks.of(other) > 0 {
            return Self { reset: u64::from(was_reset(facts, opener)), ..Self::default() };
        }
        let attempts = connections.max(1);
        let refused = attempts.min(*facts.resets.of(other));
        let unanswered = attempts - refused;
        if unanswered > 0 && icmp.is_some() {
            return Self { refused, unreachable: unanswered, ..Self::default() };
        }
        let unanswered_tries = if unanswered > 0 { syns.saturating_sub(refused).max(unanswered) } else { 0 };
        Self { refused, unanswered, unanswered_tries, ..Self::default() }
    }
}

/// Whether the handshake was reset. A complete handshake contains an ACK of the opener; the RST
/// that a kernel sends for an unexpected SYN-ACK has none (RFC 9293, 3.10.7.1).
fn was_reset(facts: &TcpFacts, opener: Direction) -> bool {
    let PerDirection { egress, ingress } = facts.resets;
    facts.flags.of(opener) & ACK == 0 && egress + ingress > 0
}

impl AddAssign for FailedAttempts {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.unanswered_tries += other.unanswered_tries;
        self.reset += other.reset;
        self.unreachable += other.unreachable;
    }
}

/// An ICMP or ICMPv6 error that quoted a packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IcmpError {
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
}

/// An ICMP error with the flow of the packet that it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuotedError {
    /// The flow of the quoted packet. On the loopback, its local end sent the packet.
    pub flow: FlowKey,
    /// The error.
    pub error: IcmpError,
    /// True if the target sent the error, in response to a packet from the remote.
    pub by_target: bool,
    /// Time of the error, nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

impl IcmpError {
    /// True for errors that end an attempt: destination unreachable and time exceeded.
    /// "Fragmentation needed" and "packet too big" only make the sender use smaller packets.
    pub fn is_failure(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => (self.kind == 3 && self.code != 4) || self.kind == 11,
            IpAddr::V6(_) => matches!(self.kind, 1 | 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Direction = Direction::Egress;

    fn facts(syns: u64, syn_acks: u64, resets: (u64, u64), flags: u8) -> TcpFacts {
        TcpFacts {
            flags: PerDirection { egress: flags, ingress: 0 },
            handshake_rtt_ns: None,
            syns: PerDirection { egress: syns, ingress: 0 },
            syn_acks: PerDirection { egress: 0, ingress: syn_acks },
            resets: PerDirection { egress: resets.0, ingress: resets.1 },
            ..TcpFacts::default()
        }
    }

    #[test]
    fn counts_a_syn_answered_by_rst_as_refused() {
        let failed = FailedAttempts::of_tcp(&facts(1, 0, (0, 1), 2), OUT, 1, None);
        assert_eq!(failed, FailedAttempts { refused: 1, ..FailedAttempts::default() });
    }

    #[test]
    fn counts_an_unanswered_attempt_once_and_all_its_syns() {
        let failed = FailedAttempts::of_tcp(&facts(4, 0, (0, 0), 2), OUT, 1, None);
        assert_eq!(failed, FailedAttempts { unanswered: 1, unanswered_tries: 4, ..FailedAttempts::default() });
    }

    #[test]
    fn counts_an_unanswered_attempt_with_icmp_error_as_unreachable() {
        let error = Some(IcmpError { kind: 3, code: 13 });
        let failed = FailedAttempts::of_tcp(&facts(4, 0, (0, 0), 2), OUT, 1, error);
        assert_eq!(failed, FailedAttempts { unreachable: 1, ..FailedAttempts::default() });
    }

    #[test]
    fn counts_rst_as_a_failure_only_before_the_handshake_is_complete() {
        let half_open = FailedAttempts::of_tcp(&facts(1, 1, (1, 0), 0x06), OUT, 1, None);
        assert_eq!(half_open, FailedAttempts { reset: 1, ..FailedAttempts::default() });
        let established = FailedAttempts::of_tcp(&facts(1, 1, (1, 0), 0x16), OUT, 1, None);
        assert_eq!(established.attempts(), 0);
    }

    #[test]
    fn separates_refused_and_unanswered_attempts_of_one_five_tuple() {
        let failed = FailedAttempts::of_tcp(&facts(5, 0, (0, 1), 2), OUT, 2, None);
        assert_eq!(
            failed,
            FailedAttempts { refused: 1, unanswered: 1, unanswered_tries: 4, ..FailedAttempts::default() }
        );
    }

    #[test]
    fn ignores_packet_too_big() {
        let (v4, v6) = ([198, 51, 100, 1].into(), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
        assert!(!IcmpError { kind: 3, code: 4 }.is_failure(v4));
        assert!(IcmpError { kind: 3, code: 3 }.is_failure(v4));
        assert!(!IcmpError { kind: 2, code: 0 }.is_failure(v6));
        assert!(IcmpError { kind: 1, code: 4 }.is_failure(v6));
    }
}
