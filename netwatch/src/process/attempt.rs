//! Connection attempts that failed.

use std::net::SocketAddr;

use super::ProcessId;
use crate::flow::{IcmpError, Protocol};

/// What an attempt was to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptTarget {
    /// An address and port (0 where there is none).
    Address(SocketAddr),
    /// A name that DNS did not resolve, with the type of the query.
    Name(String, String),
    /// The path of a local socket; an abstract name begins with `@`.
    LocalSocket(String),
}

impl AttemptTarget {
    /// Whether a failed attempt counts as a failure. Those on local sockets do not, because most
    /// programs try some that do not exist, nor sockets that could not be created, because they
    /// have no remote: programs like `ping` try one kind after another.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Address(end) => !(end.ip().is_unspecified() && end.port() == 0),
            Self::Name(..) => true,
            Self::LocalSocket(_) => false,
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptCause {
    /// TCP: no SYN was answered.
    Timeout,
    /// TCP: answered by RST.
    Refused,
    /// TCP: reset during the handshake.
    Reset,
    /// An ICMP error came back.
    Icmp(IcmpError),
    /// The call failed at once with this errno: no route, no such address family, denied by a
    /// policy and the like.
    Errno(i32),
    /// TCP: the call failed before a packet was sent, and its errno was not recorded.
    NoPacket,
    /// The response code of DNS (`nxdomain`, `servfail`), or [`AttemptCause::TIMEOUT`].
    Dns(String),
}

impl AttemptCause {
    /// The cause of a TCP connection or a DNS query without an answer.
    pub const TIMEOUT: &'static str = "timeout";

    /// The cause of a lookup with this response code. Old recordings have another word for a query
    /// without an answer.
    pub fn of_lookup(code: String) -> Self {
        Self::Dns(if code == "unanswered" { Self::TIMEOUT.to_owned() } else { code })
    }

    /// The name in documents: `timeout`, `refused`, `reset`, `unreachable`, `no_route`,
    /// `no_address_family`, `denied`, `errno`, `failed_at_once`, `dns`.
    pub fn name(&self) -> &'static str {
        // From errno-base.h and errno.h: these numbers are the same on every architecture that
        // supports BPF.
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        const EAFNOSUPPORT: i32 = 97;
        const ENETUNREACH: i32 = 101;
        const EHOSTUNREACH: i32 = 113;
        match self {
            Self::Timeout => Self::TIMEOUT,
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Icmp(_) => "unreachable",
            Self::Errno(ENETUNREACH | EHOSTUNREACH) => "no_route",
            Self::Errno(EAFNOSUPPORT) => "no_address_family",
            Self::Errno(EPERM | EACCES) => "denied",
            Self::Errno(_) => "errno",
            Self::NoPacket => "failed_at_once",
            Self::Dns(_) => "dns",
        }
    }

    /// The word for people, the same in every output: `timeout`, `refused`, `no route`, `NXDOMAIN`.
    pub fn word(&self) -> String {
        match self {
            Self::Dns(code) if code == Self::TIMEOUT => code.clone(),
            Self::Dns(code) => code.to_uppercase(),
            Self::Errno(number) if self.name() == "errno" => format!("errno {number}"),
            cause => cause.name().replace('_', " "),
        }
    }
}

/// Attempts of one process to reach one target that failed with the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Time of the first one, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Time of the last one, nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// Number of attempts.
    pub count: u64,
    /// Packets sent for them where that number differs: SYNs, retransmissions included.
    pub packets: u64,
    /// What they were to reach.
    pub target: AttemptTarget,
    /// `None` for local sockets.
    pub protocol: Option<Protocol>,
    /// Why they failed.
    pub cause: AttemptCause,
    /// The process that made the attempt; `None` if it is not known.
    pub process: Option<ProcessId>,
}
