//! The subjects of a comparison: whatever two runs can have in common.

use std::fmt;

use crate::flow::{Direction, FIRST_EPHEMERAL_PORT, Protocol};

/// Kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKind {
    /// Remotes, by name where there is one, with protocol and port.
    Endpoints,
    /// Protocols and ports, regardless of the remote.
    Ports,
    /// Transport and application protocols.
    Protocols,
    /// Names that were looked up or sent.
    Names,
    /// Programs.
    Processes,
    /// Failed attempts.
    Failures,
}

impl SubjectKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Endpoints, Self::Ports, Self::Protocols, Self::Names, Self::Processes, Self::Failures];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Ports => "ports",
            Self::Protocols => "protocols",
            Self::Names => "names",
            Self::Processes => "processes",
            Self::Failures => "failures",
        }
    }
}

/// The port of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComparedPort {
    /// The protocol has no ports, or the port is not known.
    None,
    /// This port.
    Number(u16),
    /// A port of the ephemeral range, which starts at 32768. All of these count as equal.
    Ephemeral,
}

impl ComparedPort {
    /// The port of an endpoint.
    pub(super) fn of(protocol: Protocol, port: u16) -> Self {
        match port {
            _ if !protocol.has_ports() => Self::None,
            FIRST_EPHEMERAL_PORT.. => Self::Ephemeral,
            port => Self::Number(port),
        }
    }
}

/// A thing that both sides can have. They have the same one if the subjects are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A remote and its service.
    Endpoint {
        /// The side that opened the flows.
        direction: Direction,
        /// The protocol.
        protocol: Protocol,
        /// The server's port.
        port: ComparedPort,
        /// A name, an address, or a placeholder such as `(this machine)`.
        remote: String,
    },
    /// A service, regardless of the remote.
    Port {
        /// The side that opened the flows.
        direction: Direction,
        /// The protocol.
        protocol: Protocol,
        /// The server's port.
        port: ComparedPort,
    },
    /// A protocol, and the application protocol that was identified by content.
    Protocol {
        /// The IP protocol.
        protocol: Protocol,
        /// The application protocol.
        application: Option<String>,
    },
    /// A name.
    Name(String),
    /// The path of a program, or its name if the path is not known.
    Process(String),
    /// A failed attempt.
    Failure {
        /// What the program tried to reach.
        target: String,
        /// The protocol.
        protocol: Option<Protocol>,
        /// Why it failed.
        cause: String,
    },
}

impl Subject {
    /// The kind of this subject.
    pub fn kind(&self) -> SubjectKind {
        match self {
            Self::Endpoint { .. } => SubjectKind::Endpoints,
            Self::Port { .. } => SubjectKind::Ports,
            Self::Protocol { .. } => SubjectKind::Protocols,
            Self::Name(_) => SubjectKind::Names,
            Self::Process(_) => SubjectKind::Processes,
            Self::Failure { .. } => SubjectKind::Failures,
        }
    }
}

/// `tcp/443`, `udp/ephemeral`, `icmp`.
fn service(protocol: Protocol, port: ComparedPort) -> String {
    let protocol = protocol.name().map_or_else(|| format!("protocol {protocol}"), str::to_owned);
    match port {
        ComparedPort::None => protocol,
        ComparedPort::Number(port) => format!("{protocol}/{port}"),
        ComparedPort::Ephemeral => format!("{protocol}/ephemeral"),
    }
}

/// For text output. Names and paths are not escaped.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { direction, protocol, port, remote } => {
                write!(f, "{} {} {remote}", service(*protocol, *port), direction.of_flow())
            }
            Self::Port { direction, protocol, port } => {
                write!(f, "{} {}", service(*protocol, *port), direction.of_flow())
            }
            Self::Protocol { protocol, application: None } => f.write_str(&service(*protocol, ComparedPort::None)),
            Self::Protocol { protocol, application: Some(application) } => {
                write!(f, "{application} over {}", service(*protocol, ComparedPort::None))
            }
            Self::Name(name) => f.write_str(name),
            Self::Process(program) => f.write_str(program),
            Self::Failure { target, protocol: Some(protocol), cause } => write!(f, "{protocol} {target}: {cause}"),
            Self::Failure { target, protocol: None, cause } => write!(f, "{target}: {cause}"),
        }
    }
}
