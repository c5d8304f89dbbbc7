//! Everything about the network of a run that is decided before anything is changed: the settings,
//! checked against the host as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::net::if_::if_nametoindex;

use super::SetupContext;
use crate::commands::run::RunPlan;
use crate::dns::upstream::Upstream;
use crate::error::{Error, Result};
use crate::host::firewall::FirewallNeeds;
use crate::host::forwarding::{Families, ForwardingSpec, Ipv6Switch};
use crate::host::link::LinkPlan;
use crate::host::listeners;
use crate::host::nat::{LinkAddresses, NatSpec};
use crate::host::netlink::Netlink;
use crate::host::publish::Publish;
use crate::host::subnet::{Occupied, Subnet, Subnets, WantedSubnets};
use crate::host::uplink::Uplink;
use crate::loopback::{self, ChoiceInput, RunningProxy, ServiceChoice};
use crate::settings::HostPorts;
use crate::target::mounts::MountPlan;
use crate::undo::{Exclusive, RunId};
use crate::wire::port;

/// The network of a run, as it will be set up.
#[derive(Debug)]
pub(in crate::commands::run) struct NetworkPlan {
    pub run: RunId,
    /// Name of the host's end of the link.
    pub interface: String,
    /// Name of the network namespace, if it gets one.
    pub name: Option<String>,
    pub subnets: Subnets,
    /// Whether the host has an IPv6 address, which may be a link-local one.
    pub has_ipv6_address: bool,
    /// Of both ends of the link, bytes.
    pub mtu: u32,
    /// The host's default routes.
    pub uplink: Uplink,
    pub masquerade: bool,
    /// Services of the host's loopback that the namespace's loopback leads to.
    pub host_services: ServiceChoice,
    pub publish: Vec<Publish>,
    /// Resolvers to use instead of the host's; empty for the host's.
    pub resolvers: Vec<SocketAddr>,
    pub ipv6_switch: Ipv6Switch,
    pub mounts: MountPlan,
}

/// The families of the target are those of the host, so that it gets the same answers as outside,
/// without those in which the host lets the user send nothing. A host without an uplink has IPv4,
/// by which the target can reach it.
/// `uplink` has no route of a closed family.
fn families(uplink: &Uplink, has_ipv4: bool, closed: Families) -> Families {
    let has_ipv4 = has_ipv4 && !closed.ipv4;
    Families { ipv4: uplink.v4.is_some() || uplink.v6.is_none() || has_ipv4, ipv6: uplink.v6.is_some() }
}

/// Without `--host-loopback`, none.
fn host_services(plan: &RunPlan) -> Result<ServiceChoice> {
    let ports = match &plan.settings.host_loopback {
        None => return Ok(ServiceChoice::default()),
        Some(HostPorts::All) => None,
        Some(HostPorts::Listed(ports)) => Some(ports.as_slice()),
    };
    Ok(loopback::choose(&ChoiceInput {
        ports,
        listeners: &listeners::on_loopback()?,
        client_ports: listeners::client_ports()?,
        published: &plan.publish.iter().map(|publish| publish.host_port).collect::<Vec<_>>(),
        limit: RunningProxy::max_services(),
    }))
}

impl NetworkPlan {
    /// Decides all of it. The subnets are free only as long as the lock is held: it is released
    /// when the link has its addresses.
    pub(super) fn resolve(
        plan: &RunPlan,
        context: &SetupContext<'_>,
        closed: Families,
        _held: &Exclusive,
    ) -> Result<Self> {
        let (run, run_dir) = (context.id, context.dir);
        let settings = &plan.settings;
        let wanted = WantedSubnets::parse(settings.subnet.iter().map(String::as_str))?;
        let mut netlink = Netlink::route()?;
        let uplink = Uplink::find(&mut netlink)?.without(closed);
        let occupied = Occupied::read(&mut netlink, &wanted)?;
        // A different starting point for each run, so that subnets are not reused at once.
        let seed = u64::from_str_radix(run.as_str(), 16).unwrap_or(0);
        Ok(Self {
            run: run.clone(),
            interface: run.interface(),
            name: settings.name.clone(),
            subnets: Subnets::choose(&wanted, families(&uplink, occupied.has_ipv4(), closed), &occupied, seed)?,
            has_ipv6_address: occupied.has_ipv6(),
            mtu: uplink.mtu(),
            uplink,
            masquerade: !settings.no_nat,
            host_services: host_services(plan)?,
            publish: plan.publish.clone(),
            resolvers: plan.dns.clone(),
            ipv6_switch: Ipv6Switch::of_kernel(),
            mounts: MountPlan::of_run(run_dir, settings.name.clone()),
        })
    }

    /// The target's addresses, IPv4 first.
    pub(super) fn targets(&self) -> Vec<IpAddr> {
        self.ends(Subnet::target)
    }

    /// The host's addresses on the link, IPv4 first.
    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.ends(Subnet::gateway)
    }

    /// The broadcast address of the link, if it has IPv4.
    pub(super) fn broadcast(&self) -> Option<Ipv4Addr> {
        self.all_subnets().find_map(|subnet| subnet.broadcast())
    }

    fn ends(&self, end: impl Fn(&Subnet) -> IpAddr) -> Vec<IpAddr> {
        self.all_subnets().map(|subnet| end(&subnet)).collect()
    }

    /// The subnets, IPv4 first.
    pub(super) fn all_subnets(&self) -> impl Iterator<Item = Subnet> {
        self.subnets.all()
    }

    /// Whether the host has a default route.
    pub(super) fn has_uplink(&self) -> bool {
        self.uplink.v4.is_some() || self.uplink.v6.is_some()
    }

    pub(super) fn families(&self) -> Families {
        Families { ipv4: self.subnets.v4.is_some(), ipv6: self.subnets.v6.is_some() }
    }

    /// Whether packets to or from the host's 127.0.0.1 cross the link.
    pub(super) fn needs_route_localnet(&self) -> bool {
        self.subnets.v4.is_some() && self.publish.iter().any(|port| port.serves(false))
    }

    pub(super) fn link(&self) -> LinkPlan<'_> {
        LinkPlan { interface: &self.interface, mtu: self.mtu, subnets: self.subnets, link_local: self.has_ipv6_address }
    }

    /// The port that DNS queries have to be redirected to, if the forwarder could not have the
    /// gateway's port 53.
    pub(super) fn redirected_dns_port(listening: &[(IpAddr, u16)]) -> Option<u16> {
        listening.iter().map(|(_, port)| *port).find(|port| *port != port::DNS)
    }

    pub(super) fn nat(&self, dns_port: Option<u16>) -> Result<NatSpec<'_>> {
        let v4 = |addr: IpAddr| if let IpAddr::V4(addr) = addr { addr } else { Ipv4Addr::UNSPECIFIED };
        let v6 = |addr: IpAddr| if let IpAddr::V6(addr) = addr { addr } else { Ipv6Addr::UNSPECIFIED };
        let Subnets { v4: subnet, v6: subnet6 } = self.subnets;
        let interface = self.interface.as_str();
        let link = if_nametoindex(interface).map_err(|errno| Error::os("find interface", interface, errno))?;
        Ok(NatSpec {
            run: &self.run,
            link,
            ipv4: subnet.map(|subnet| LinkAddresses { gateway: v4(subnet.gateway()), target: v4(subnet.target()) }),
            ipv6: subnet6.map(|subnet| LinkAddresses { gateway: v6(subnet.gateway()), target: v6(subnet.target()) }),
            masquerade: self.masquerade,
            dns_port,
            publish: &self.publish,
        })
    }

    pub(super) fn forwarding(&self) -> ForwardingSpec {
        ForwardingSpec {
            run: self.run.clone(),
            families: self.families(),
            subnets: self.all_subnets().map(|subnet| subnet.net()).collect(),
            ipv6_switch: self.ipv6_switch,
        }
    }

    pub(super) fn firewall(&self, dns_port: Option<u16>) -> FirewallNeeds {
        FirewallNeeds { dns_port: dns_port.unwrap_or(port::DNS), publish: !self.publish.is_empty() }
    }

    pub(super) fn upstream(&self) -> Upstream {
        if self.resolvers.is_empty() { Upstream::host() } else { Upstream::fixed(self.resolvers.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::uplink::DefaultRoute;

    fn route(remote: &str) -> Option<DefaultRoute> {
        let remote = remote.parse().expect("an address");
        Some(DefaultRoute {
            interface: "eth0".into(),
            index: 2,
            gateway: None,
            remote,
            source: None,
            table: 254,
            mtu: 1500,
        })
    }

    #[test]
    fn a_family_in_which_the_user_may_send_nothing_is_not_that_of_the_target() {
        let both = || Uplink { v4: route("203.0.113.77"), v6: route("2001:db8:7777::77") };
        let of = |uplink, closed: [bool; 2]| {
            let [ipv4, ipv6] = closed;
            let closed = Families { ipv4, ipv6 };
            let families = families(&Uplink::without(uplink, closed), true, closed);
            [families.ipv4, families.ipv6]
        };
        assert_eq!(of(both(), [false, false]), [true, true]);
        assert_eq!(of(both(), [true, false]), [false, true], "although the host has an IPv4 address");
        assert_eq!(of(both(), [false, true]), [true, false]);
        assert_eq!(of(Uplink { v4: None, ..both() }, [false, false]), [true, true], "networks of the host");
        assert_eq!(of(Uplink::default(), [false, false]), [true, false]);
    }
}
