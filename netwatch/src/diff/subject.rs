//! What is compared, under what name: two runs talk about the same thing if their subjects are equal.

use std::fmt;

use crate::flow::{Direction, FIRST_EPHEMERAL_PORT, Protocol};

/// Kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Who was talked to, by name where there is one.
    Endpoints,
    /// At which ports, whoever was there.
    Ports,
    /// What was spoken.
    Protocols,
    /// Names that were looked up or said.
    Names,
    /// Programs.
    Processes,
    /// Attempts that came to nothing.
    Failures,
}

impl Kind {
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

/// A port, where which one it is means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// The protocol has none, or it is not known.
    None,
    /// This one.
    Number(u16),
    /// One of the range from which systems choose at will, from 32768 on: never a difference.
    Ephemeral,
}

impl Port {
    /// The port of an endpoint.
    pub(super) fn of(protocol: Protocol, port: u16) -> Self {
        match port {
            _ if !protocol.has_ports() => Self::None,
            FIRST_EPHEMERAL_PORT.. => Self::Ephemeral,
            port => Self::Number(port),
        }
    }
}

/// One thing that can be on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A remote and its service.
    Endpoint {
        /// Who opened.
        direction: Direction,
        /// The protocol.
        protocol: Protocol,
        /// The port that was asked for.
        port: Port,
        /// A name, an address, or who it stands for.
        remote: String,
    },
    /// A service.
    Port {
        /// Who opened.
        direction: Direction,
        /// The protocol.
        protocol: Protocol,
        /// The port that was asked for.
        port: Port,
    },
    /// A protocol, and what its bytes prove to be inside.
    Protocol {
        /// Of IP.
        protocol: Protocol,
        /// Of applications.
        application: Option<String>,
    },
    /// A name.
    Name(String),
    /// A program's path, or its name where no path is known.
    Process(String),
    /// What was tried in vain.
    Failure {
        /// What was to be reached.
        target: String,
        /// By which protocol.
        protocol: Option<Protocol>,
        /// Why not.
        cause: String,
    },
}

impl Subject {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint { .. } => Kind::Endpoints,
            Self::Port { .. } => Kind::Ports,
            Self::Protocol { .. } => Kind::Protocols,
            Self::Name(_) => Kind::Names,
            Self::Process(_) => Kind::Processes,
            Self::Failure { .. } => Kind::Failures,
        }
    }
}

/// `tcp/443`, `udp/ephemeral`, `icmp`.
fn service(protocol: Protocol, port: Port) -> String {
    let protocol = protocol.name().map_or_else(|| format!("protocol {protocol}"), str::to_owned);
    match port {
        Port::None => protocol,
        Port::Number(port) => format!("{protocol}/{port}"),
        Port::Ephemeral => format!("{protocol}/ephemeral"),
    }
}

/// As people read it; words of the outside world are as they are.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { direction, protocol, port, remote } => {
                write!(f, "{} {} {remote}", service(*protocol, *port), direction.of_flow())
            }
            Self::Port { direction, protocol, port } => {
                write!(f, "{} {}", service(*protocol, *port), direction.of_flow())
            }
            Self::Protocol { protocol, application: None } => f.write_str(&service(*protocol, Port::None)),
            Self::Protocol { protocol, application: Some(inside) } => {
                write!(f, "{inside} over {}", service(*protocol, Port::None))
            }
            Self::Name(name) => f.write_str(name),
            Self::Process(program) => f.write_str(program),
            Self::Failure { target, protocol: Some(protocol), cause } => write!(f, "{protocol} {target}: {cause}"),
            Self::Failure { target, protocol: None, cause } => write!(f, "{target}: {cause}"),
        }
    }
}
