//! Attempts that came to nothing.

use std::net::SocketAddr;

use super::ProcessId;
use crate::flow::{IcmpError, Protocol};

/// ProcessAction was to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptTarget {
    /// An address and port (0 where there is none).
    Address(SocketAddr),
    /// A name that DNS did not resolve, with the type of the question.
    Name(String, String),
    /// A path of a unix socket; an abstract name begins with `@`.
    LocalSocket(String),
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptCause {
    /// TCP: nothing answered any SYN.
    Unanswered,
    /// TCP: answered by RST.
    Refused,
    /// TCP: reset before the handshake was over.
    Reset,
    /// An ICMP error came back.
    Icmp(IcmpError),
    /// The call failed at once, with this errno: no route, no such address family, denied by a policy and the like.
    Errno(i32),
    /// TCP was to connect, and not a packet came of it: the call failed at once, and with which errno was not looked for.
    NoPacket,
    /// DNS answered with this response code (`nxdomain`, `servfail`), or `unanswered`.
    Dns(String),
}

impl AttemptCause {
    /// The name in reports: `unanswered`, `refused`, `reset`, `icmp`, `no_route`, `no_address_family`, `denied`, `errno`, `no_packet`, `dns`.
    pub fn name(&self) -> &'static str {
        // Numbers of Linux's ABI, the same on every architecture that has BPF: errno-base.h and errno.h.
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        const EAFNOSUPPORT: i32 = 97;
        const ENETUNREACH: i32 = 101;
        const EHOSTUNREACH: i32 = 113;
        match self {
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Icmp(_) => "icmp",
            Self::Errno(ENETUNREACH | EHOSTUNREACH) => "no_route",
            Self::Errno(EAFNOSUPPORT) => "no_address_family",
            Self::Errno(EPERM | EACCES) => "denied",
            Self::Errno(_) => "errno",
            Self::NoPacket => "no_packet",
            Self::Dns(_) => "dns",
        }
    }
}

/// Attempts of one process at one target that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The first of them, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// The last of them.
    pub last_ns: u64,
    /// How many.
    pub count: u64,
    /// Packets sent for them where that differs: SYNs, repeats included.
    pub tries: u64,
    /// ProcessAction was to be reached.
    pub target: AttemptTarget,
    /// `None` for unix sockets.
    pub protocol: Option<Protocol>,
    /// Why nothing came of it.
    pub cause: AttemptCause,
    /// Who tried, where that is known.
    pub process: Option<ProcessId>,
}
