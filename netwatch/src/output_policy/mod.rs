//! Determines whether the host lets a user send packets. The packets of the command are forwarded,
//! so they would bypass a policy for programs of the host, such as a kill switch or a firewall that
//! denies outgoing traffic. No evaluation of rules is complete, so netwatch sends probes from
//! sockets of the user, and a program at the interfaces detects and discards them, so none leaves.
//! Probes are sent only where a chain of another program processes what the host sends.

mod probe;
mod verdict;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use self::probe::{ProbeTarget, ProbeTransport, Sent};
use crate::error::Result;
use crate::host::firewall::{self, OutputChain};
use crate::host::forwarding::Families;
use crate::host::uplink::Uplink;
use crate::meter::EgressWatch;

/// Public addresses that every host may be expected to send to. Probes also go to an address behind
/// each default route ([`DefaultRoute::remote`](crate::host::uplink::DefaultRoute)).
const PUBLIC_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));
const PUBLIC_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe));
/// DNS, HTTP, HTTPS, and a port that no common service uses.
const PORTS: [u16; 4] = [53, 80, 443, 42_424];

/// The user whose packets are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The name of the user, for notes.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// What the host permits.
#[derive(Debug)]
pub struct OutputPolicy {
    /// The families in which nothing may be sent.
    pub closed: Families,
    /// For the report: what is not permitted, or could not be verified.
    pub notes: Vec<String>,
    /// Discards probes that the kernel sends later, after it has resolved a neighbor.
    watch: Option<EgressWatch>,
}

impl OutputPolicy {
    /// A host that permits everything.
    pub fn open() -> Self {
        Self { closed: Families { ipv4: false, ipv6: false }, notes: Vec::new(), watch: None }
    }

    fn unverified(cause: &str) -> Self {
        Self { notes: vec![format!("output policy not fully verified: {cause}")], ..Self::open() }
    }

    /// Whether nothing may be sent in any family in which the host has an uplink.
    pub fn is_closed(&self, uplink: &Uplink) -> bool {
        let Families { ipv4, ipv6 } = self.closed;
        let has_open = (!ipv4 && uplink.v4.is_some()) || (!ipv6 && uplink.v6.is_some());
        let is_closed = ipv4 || ipv6;
        is_closed && !has_open
    }

    /// The program that discards late probes. The caller keeps it until the end of the run.
    pub fn take_watch(&mut self) -> Option<EgressWatch> {
        self.watch.take()
    }
}

/// Finds out what this user may send to public addresses and to these resolvers, from the network
/// namespace of the calling thread. Changes the thread's user for file access, so call it in a
/// separate thread.
pub fn find(uplink: &Uplink, resolvers: &[SocketAddr], sender: &Sender) -> Result<OutputPolicy> {
    let chains = firewall::output_chains()?;
    if chains.is_empty() || (uplink.v4.is_none() && uplink.v6.is_none()) {
        return Ok(OutputPolicy::open());
    }
    let targets = targets(uplink, resolvers);
    let (sent, watch) = match probe::send(&targets, sender) {
        Ok(sent) => sent,
        // There is no tcx (before Linux 6.6), or no program can be attached.
        Err(error) => return Ok(OutputPolicy::unverified(&error.to_string())),
    };
    Ok(judge(&sent, &chains, sender, watch))
}

fn judge(sent: &[Sent], chains: &[OutputChain], sender: &Sender, watch: EgressWatch) -> OutputPolicy {
    let is_pending = sent.iter().any(Sent::is_pending);
    let verdict = verdict::of(sent, chains, &sender.name);
    OutputPolicy { closed: verdict.closed, notes: verdict.notes, watch: is_pending.then_some(watch) }
}

/// The addresses of the host's interfaces; none if they cannot be read, which only means more
/// probes.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    interfaces.filter_map(|interface| interface.address.and_then(address)).collect()
}

/// What to send probes to: ports of public addresses, and the resolvers.
fn targets(uplink: &Uplink, resolvers: &[SocketAddr]) -> Vec<ProbeTarget> {
    let mut targets = Vec::new();
    for (route, public) in [(&uplink.v4, PUBLIC_V4), (&uplink.v6, PUBLIC_V6)] {
        let Some(route) = route else { continue };
        for address in [route.remote, public] {
            targets.extend(PORTS.map(|port| SocketAddr::new(address, port)));
        }
    }
    // A resolver on the host itself sends its own queries.
    let own = own_addresses();
    targets.extend(resolvers.iter().filter(|resolver| !resolver.ip().is_loopback() && !own.contains(&resolver.ip())));
    // A resolver can be one of the public addresses.
    let target = |to, transport| ProbeTarget { to, transport, is_resolver: resolvers.contains(&to) };
    targets
        .into_iter()
        .flat_map(|to| [ProbeTransport::Tcp, ProbeTransport::Udp].map(|transport| target(to, transport)))
        .collect()
}
