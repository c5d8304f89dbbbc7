//! `--only`: selects packets by process, name or endpoint, in user space, where these are known.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::identity::PacketIdentity;
use crate::flow::{FlowKey, TransportAddress};

/// A condition as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyCondition {
    text: String,
    kind: ConditionKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ConditionKind {
    /// Name or id of the process.
    Process(String),
    /// Name of the remote; with a leading dot, names below it too; with `*.`, only those.
    Name(String),
    /// The remote: a network, a port, or both.
    Endpoint(Option<EndpointNetwork>, Option<u16>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndpointNetwork {
    address: IpAddr,
    /// Length of the prefix.
    length: u8,
}

/// The conditions of a capture. A packet is selected if, for each kind, it fulfills one of the
/// conditions of this kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection(Vec<OnlyCondition>);

impl Selection {
    /// All conditions that were typed.
    pub fn new(conditions: Vec<OnlyCondition>) -> Self {
        Self(conditions)
    }

    /// Whether every packet is selected.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a packet is selected. Packets in no flow have neither process nor remote.
    pub(super) fn includes(&self, flow: Option<&FlowKey>, identity: &PacketIdentity) -> bool {
        self.0.iter().all(|condition| {
            let is_alternative =
                |other: &&OnlyCondition| std::mem::discriminant(&other.kind) == std::mem::discriminant(&condition.kind);
            self.0.iter().filter(is_alternative).any(|condition| condition.kind.is_fulfilled(flow, identity))
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|condition| condition.text.as_str()).collect();
        f.write_str(&texts.join(" "))
    }
}

impl ConditionKind {
    fn is_fulfilled(&self, flow: Option<&FlowKey>, identity: &PacketIdentity) -> bool {
        match self {
            Self::Process(wanted) => {
                let is_pid = wanted.parse().is_ok_and(|pid: u32| identity.pid == Some(pid));
                is_pid || identity.comm.as_deref() == Some(wanted)
            }
            Self::Name(wanted) => identity.name.as_deref().is_some_and(|name| is_name(name, wanted)),
            Self::Endpoint(network, port) => flow.is_some_and(|flow| {
                let TransportAddress { addr, port: remote_port } = flow.remote;
                network.is_none_or(|network| network.contains(addr)) && port.is_none_or(|port| port == remote_port)
            }),
        }
    }
}

/// Names are compared without regard to case, as in DNS.
fn is_name(name: &str, wanted: &str) -> bool {
    let is_below = |domain: &str| {
        let end = name.len().checked_sub(domain.len()).filter(|at| *at > 0).and_then(|at| name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(domain))
    };
    match (wanted.strip_prefix('.'), wanted.strip_prefix('*')) {
        (Some(domain), _) => name.eq_ignore_ascii_case(domain) || is_below(wanted),
        (None, Some(domain)) => is_below(domain),
        (None, None) => name.eq_ignore_ascii_case(wanted),
    }
}

impl EndpointNetwork {
    fn contains(self, address: IpAddr) -> bool {
        let shifted = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shr(32 - u32::from(self.length)).unwrap_or(0)),
            IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - u32::from(self.length)).unwrap_or(0),
        };
        self.address.is_ipv4() == address.is_ipv4() && shifted(self.address) == shifted(address)
    }
}

impl FromStr for OnlyCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected process=NAME, process=PID, name=NAME or endpoint=ADDR[/LEN][:PORT]".to_owned();
        let kind = match text.split_once('=') {
            Some((_, "")) => return Err(wrong()),
            Some(("process", value)) => ConditionKind::Process(value.to_owned()),
            Some(("name", value)) => ConditionKind::Name(name(value)?),
            Some(("endpoint", value)) => endpoint(value).ok_or_else(|| {
                format!("{value} is no endpoint; examples: 198.51.100.7:443, [2001:db8::7]:443, 198.51.100.0/24, :53")
            })?,
            _ => return Err(wrong()),
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

/// A name of DNS, without the dot of the root at its end.
fn name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels = name.strip_prefix("*.").or(name.strip_prefix('.')).unwrap_or(name);
    if labels.is_empty() || labels.contains('*') {
        return Err(format!("{text} is no name; examples: app.example, .app.example, *.app.example"));
    }
    Ok(name.to_owned())
}

fn endpoint(text: &str) -> Option<ConditionKind> {
    let unbracketed;
    let (network, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let (length, port) = rest.split_once(':').map_or((rest, None), |(length, port)| (length, Some(port)));
            if !(length.is_empty() || length.starts_with('/')) {
                return None;
            }
            unbracketed = format!("{address}{length}");
            (unbracketed.as_str(), port)
        }
        // A text with several colons is an IPv6 address without a port.
        None => match text.split_once(':') {
            Some((network, port)) if !port.contains(':') => (network, Some(port)),
            _ => (text, None),
        },
    };
    let port = port.map(|port| port.parse().ok()).map_or(Some(None), |port: Option<u16>| port.map(Some))?;
    if network.is_empty() {
        return port.map(|port| ConditionKind::Endpoint(None, Some(port)));
    }
    let (address, length) =
        network.split_once('/').map_or((network, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(width), |length| length.parse().ok().filter(|length| *length <= width))?;
    Some(ConditionKind::Endpoint(Some(EndpointNetwork { address, length }), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::ObservationPoint;

    fn flow(address: &str, port: u16) -> FlowKey {
        let end = |text: &str, port| TransportAddress { addr: text.parse().expect("an address"), port };
        let (local, remote) = (end("10.0.0.2", 40_000), end(address, port));
        FlowKey { point: ObservationPoint::Link, protocol: 6, fragment: false, local, remote }
    }

    fn includes(conditions: &[&str], flow: &FlowKey, identity: &PacketIdentity) -> bool {
        let conditions = conditions.iter().map(|text| text.parse().expect("a condition")).collect();
        Selection::new(conditions).includes(Some(flow), identity)
    }

    #[test]
    fn conditions_of_one_kind_are_alternatives_and_kinds_are_combined() {
        let curl = PacketIdentity {
            pid: Some(7),
            comm: Some("curl".into()),
            name: Some("API.app.example".into()),
            ..PacketIdentity::default()
        };
        let web = flow("198.51.100.7", 443);
        assert!(includes(&[], &web, &PacketIdentity::default()));
        assert!(includes(&["process=wget", "process=curl"], &web, &curl) && includes(&["process=7"], &web, &curl));
        assert!(!includes(&["process=curl", "endpoint=:80"], &web, &curl));
        assert!(includes(&["name=api.app.example"], &web, &curl) && includes(&["name=.app.example"], &web, &curl));
        assert!(!includes(&["name=app.example"], &web, &curl) && !includes(&["name=.pp.example"], &web, &curl));
        assert!(!includes(&["name=app.example"], &web, &PacketIdentity::default()));
        assert!(includes(&["name=api.app.example."], &web, &curl) && includes(&["name=*.App.example"], &web, &curl));
        assert!(!includes(&["name=*.api.app.example"], &web, &curl) && !includes(&["name=*.pp.example"], &web, &curl));
    }

    #[test]
    fn endpoints_are_networks_and_ports() {
        let unknown = PacketIdentity::default();
        let (v4, v6) = (flow("198.51.100.7", 443), flow("2001:db8::7", 53));
        for text in ["198.51.100.7", "198.51.100.7:443", "198.51.100.0/24", "198.51.100.0/24:443", ":443", "0.0.0.0/0"]
        {
            let condition = format!("endpoint={text}");
            assert!(includes(&[&condition], &v4, &unknown) && !includes(&[&condition], &v6, &unknown), "{text}");
        }
        let networks = ["[2001:db8::]/32", "[2001:db8::]/32:53", "[2001:db8::/32]:53", "2001:db8::/32"];
        for text in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:53", ":53"].into_iter().chain(networks) {
            let condition = format!("endpoint={text}");
            assert!(includes(&[&condition], &v6, &unknown) && !includes(&[&condition], &v4, &unknown), "{text}");
        }
        assert!(!includes(&["endpoint=[2001:db8:1::]/48"], &v6, &unknown));
        let endpoints =
            ["x", "198.51.100.7:x", "198.51.100.0/33", "[2001:db8::]48", "[2001:db8::/32]/32", "[2001:db8::]/129"]
                .map(|text| format!("endpoint={text}"));
        let names = ["", ".", "*", "*.", "a.*", "*a.example", "*.*.example"].map(|text| format!("name={text}"));
        let others = ["", "x", "process=", "pid=1"].map(str::to_owned);
        for text in endpoints.into_iter().chain(names).chain(others) {
            assert!(text.parse::<OnlyCondition>().is_err(), "{text}");
        }
    }
}
