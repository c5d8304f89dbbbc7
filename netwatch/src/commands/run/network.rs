//! The network of a run, put together: namespace, link, addresses, NAT, forwarding, firewall, DNS. Each part undoes itself; the order
//! of the fields is the order in which they go.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::io::unix::AsyncFd;

use super::Plan;
use super::signals::Signals;
use crate::dns::forwarder::{Forwarder, RunningForwarder};
use crate::dns::upstream::Upstream;
use crate::error::{Error, Result};
use crate::host::changes::Changes;
use crate::host::firewall::{self, OpenSpec};
use crate::host::forwarding::{self, Families, Forwarding, ForwardingSpec, Ipv6Switch};
use crate::host::link::{Link, LinkPlan};
use crate::host::namespace::Namespace;
use crate::host::nat::{Ends, Nat, NatSpec};
use crate::host::netlink::Netlink;
use crate::host::publish::{Reservation, reserve};
use crate::host::subnet::{Occupied, Subnets, Wanted};
use crate::host::uplink::Uplink;
use crate::meter::Probe;
use crate::readiness::{Watched, watch};
use crate::target::mounts::keep::Keeper;
use crate::target::mounts::{MountPlan, private_dir, write_readable};
use crate::undo::{Exclusive, Journal, RunId};

/// DNS's port.
const DOMAIN: u16 = 53;

/// What keeps the command's private files in place.
struct Kept {
    /// Of the keeper, and closed before it: the last descriptor to be closed is the one that waits.
    ready: AsyncFd<Watched<OwnedFd>>,
    keeper: Keeper,
}

/// Everything between the command and the host's own network.
pub(super) struct Network {
    pub forwarding: Forwarding,
    pub nat: Nat,
    pub link: Link,
    pub namespace: Namespace,
    pub subnets: Subnets,
    pub mtu: u32,
    pub mounts: MountPlan,
    kept: Option<Kept>,
    going: Vec<JoinHandle<()>>,
    changes: Changes,
    dns: RunningForwarder,
    _ports: Reservation,
}

/// What the host changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Interfaces or their switches.
    Interfaces,
    /// Its resolv.conf.
    ResolvConf,
}

/// Where the run keeps things.
pub(super) struct Place<'a> {
    pub id: &'a RunId,
    pub dir: &'a Path,
    pub journal: &'a Journal,
    pub signals: &'a Signals,
}

impl Network {
    /// Sets everything up, in the order of ARCHITECTURE.md. What was made before a failure undoes itself.
    pub(super) fn set_up(
        plan: &Plan,
        place: &Place<'_>,
        notes: &mut Vec<String>,
        probe: impl FnOnce() -> Result<Probe>,
    ) -> Result<(Self, Probe)> {
        let ports = reserve(&plan.publish)?;
        let Joined { subnets, mtu, namespace, link, probe } = join(plan, place, notes, probe)?;
        place.signals.step("dns")?;
        let gateways = gateways(&subnets);
        // resolv.conf names the IPv4 gateway only, so only that one listens, and one port says it all.
        let forwarder = Forwarder::bind(&gateways[..1], Some(link.name()))?;
        let dns_port = forwarder.listening().iter().map(|(_, port)| *port).find(|port| *port != DOMAIN);
        place.signals.step("nat")?;
        let spec = nat_spec(plan, place, &subnets, link.name(), dns_port);
        let families = families(&subnets);
        let nat = Nat::install(&spec)?;
        place.signals.step("forwarding")?;
        let switch = Ipv6Switch::of_kernel();
        // Before the first look, so that nothing that comes later is missed.
        let changes = Changes::follow()?;
        let forwarding = Forwarding::enable(
            ForwardingSpec { run: place.id.clone(), families, ipv6_switch: switch },
            place.journal,
            &nat,
        )?;
        place.signals.step("firewall")?;
        let blocked = firewall::open(&open_spec(plan, place, &link, dns_port), place.journal)?;
        blocked.iter().for_each(|blocked| warn(&blocked.to_string(), notes));
        let dns = forwarder.start(upstream(plan))?;
        let resolv_conf = write_resolv_conf(place, &dns, gateways[0])?;
        if let Some(named) = namespace.named() {
            let _held = Exclusive::take()?;
            named.provide_resolv_conf(&String::from_utf8_lossy(&dns.render(gateways[0])), place.journal)?;
        }
        let mounts = MountPlan { resolv_conf, private: private_dir(place.dir), netns: plan.settings.name.clone() };
        make_private(&mounts.private)?;
        let keeper = Keeper::watch(&mounts)?;
        let ready = watch(duplicate(keeper.as_fd())?, "the host's resolv.conf")?;
        let network = Self {
            forwarding,
            nat,
            link,
            namespace,
            subnets,
            mtu,
            mounts,
            kept: Some(Kept { ready, keeper }),
            going: Vec::new(),
            changes,
            dns,
            _ports: ports,
        };
        Ok((network, probe))
    }

    /// The target's addresses.
    pub(super) fn targets(&self) -> Vec<IpAddr> {
        ends(&self.subnets, |subnet| subnet.target())
    }

    /// The host's addresses on the link.
    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        gateways(&self.subnets)
    }

    /// Who answers behind the gateway.
    pub(super) fn resolvers(&self) -> Vec<SocketAddr> {
        self.dns.resolvers()
    }

    /// What can only be said at the end.
    pub(super) fn late_notes(&self) -> Vec<String> {
        let stats = self.dns.stats();
        let mut notes = Vec::new();
        if stats.dropped_in_flight + stats.dropped_connections > 0 {
            notes.push(format!(
                "the DNS forwarder was overrun: {} queries and {} connections were dropped",
                stats.dropped_in_flight, stats.dropped_connections
            ));
        }
        if stats.servfail > 0 {
            notes.push(format!("{} DNS queries got no answer from any of the host's resolvers", stats.servfail));
        }
        notes
    }

    /// Keeps the command's private files in place from here on, given its mount namespace.
    pub(super) fn keep(&mut self, mount_namespace: OwnedFd) -> Result<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.keeper.enter(mount_namespace)?;
        kept.keeper.check().map(drop)
    }

    /// No process of the command's is left to look at its files. The kernel takes up to 20 ms to close an inotify instance, so that begins
    /// before anything else is taken away.
    pub(super) fn no_longer_keep(&mut self) {
        if let Some(Kept { ready, keeper }) = self.kept.take() {
            drop(ready);
            self.going.push(thread::spawn(move || drop(keeper)));
        }
    }

    /// Takes it all away. Closing the socket of the nftables table waits for a grace period in the kernel, so that is done while the journal is
    /// undone; whoever holds the handles waits for them at the very end.
    pub(super) fn let_go(mut self) -> Vec<JoinHandle<()>> {
        self.no_longer_keep();
        let Self { forwarding, nat, mut going, .. } = self;
        // Forwarding before the table that keeps the host from forwarding for others.
        drop(forwarding);
        going.push(thread::spawn(move || drop(nat)));
        going
    }

    /// Waits until the host changes something that concerns us.
    pub(super) async fn host_changed(&mut self) -> Result<Change> {
        tokio::select! {
            changed = self.changes.next() => changed.map(|()| Change::Interfaces),
            changed = resolv_conf_changed(self.kept.as_ref()) => changed.map(|()| Change::ResolvConf),
        }
    }

    /// Acts upon it.
    pub(super) fn follow(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Interfaces => self.forwarding.refresh(&self.nat),
            Change::ResolvConf => {
                let Some(kept) = &mut self.kept else { return Ok(()) };
                if kept.keeper.check()?.host_changed {
                    let text = self.dns.render(self.gateways()[0]);
                    write_readable(&self.mounts.resolv_conf, &text)?;
                }
                Ok(())
            }
        }
    }
}

/// Never where nothing is kept.
async fn resolv_conf_changed(kept: Option<&Kept>) -> Result<()> {
    let Some(kept) = kept else { return std::future::pending().await };
    let mut ready = kept.ready.readable().await.map_err(|error| Error::os("follow", "the host's changes", error))?;
    ready.clear_ready();
    Ok(())
}

/// What the user should know before the command starts, and again afterwards. A closed standard error changes nothing.
fn warn(text: &str, notes: &mut Vec<String>) {
    let _ = writeln!(std::io::stderr(), "netwatch: {text}");
    notes.push(text.to_owned());
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| Error::os("duplicate", "a descriptor", error))
}

fn make_private(dir: &Path) -> Result<()> {
    std::fs::create_dir(dir).map_err(|error| Error::os("create", dir.display().to_string(), error))
}

/// The link and what it joins.
struct Joined {
    subnets: Subnets,
    mtu: u32,
    namespace: Namespace,
    link: Link,
    probe: Probe,
}

/// Namespace and link on a free subnet, counted from the first packet on. The lock is held until the addresses are there for others to see.
fn join(
    plan: &Plan,
    place: &Place<'_>,
    notes: &mut Vec<String>,
    probe: impl FnOnce() -> Result<Probe>,
) -> Result<Joined> {
    place.signals.step("subnet")?;
    let wanted = Wanted::parse(plan.settings.subnet.iter().map(String::as_str))?;
    let mut netlink = Netlink::route()?;
    let uplink = Uplink::find(&mut netlink)?;
    if uplink.v4.is_none() && uplink.v6.is_none() {
        warn(super::notes::NO_UPLINK, notes);
    }
    let mut probe = probe()?;
    let _held = Exclusive::take()?;
    let occupied = Occupied::read(&mut netlink, &wanted)?;
    let seed = u64::from_str_radix(place.id.as_str(), 16).unwrap_or(0);
    let subnets = Subnets::choose(&wanted, uplink.v6.is_some(), &occupied, seed)?;
    place.signals.step("namespace")?;
    let mut namespace = Namespace::create(plan.settings.name.as_deref(), place.journal)?;
    place.signals.step("link")?;
    let (interface, mtu) = (place.id.interface(), uplink.mtu());
    let link = Link::create(&LinkPlan { interface: &interface, mtu, subnets }, &mut namespace, |name, index| {
        place.signals.step("attach")?;
        forwarding::prepare_interface(name, families(&subnets), needs_route_localnet(plan))?;
        probe.attach_link(index)
    })?;
    Ok(Joined { subnets, mtu, namespace, link, probe })
}

fn families(subnets: &Subnets) -> Families {
    Families { ipv4: true, ipv6: subnets.v6.is_some() }
}

/// Both reach the host's 127.0.0.1, or come from it.
fn needs_route_localnet(plan: &Plan) -> bool {
    plan.settings.host_loopback || plan.publish.iter().any(|port| port.serves(false))
}

fn ends(subnets: &Subnets, end: impl Fn(crate::host::subnet::Subnet) -> IpAddr) -> Vec<IpAddr> {
    std::iter::once(subnets.v4).chain(subnets.v6).map(end).collect()
}

fn gateways(subnets: &Subnets) -> Vec<IpAddr> {
    ends(subnets, |subnet| subnet.gateway())
}

fn nat_spec<'a>(
    plan: &'a Plan,
    place: &'a Place<'_>,
    subnets: &Subnets,
    interface: &'a str,
    dns_port: Option<u16>,
) -> NatSpec<'a> {
    let v4 = |addr: IpAddr| if let IpAddr::V4(addr) = addr { addr } else { Ipv4Addr::UNSPECIFIED };
    let v6 = |addr: IpAddr| if let IpAddr::V6(addr) = addr { addr } else { Ipv6Addr::UNSPECIFIED };
    NatSpec {
        run: place.id,
        interface,
        ipv4: Some(Ends { gateway: v4(subnets.v4.gateway()), target: v4(subnets.v4.target()) }),
        ipv6: subnets.v6.map(|subnet| Ends { gateway: v6(subnet.gateway()), target: v6(subnet.target()) }),
        masquerade: !plan.settings.no_nat,
        dns_port,
        publish: &plan.publish,
        host_loopback: plan.settings.host_loopback,
    }
}

fn open_spec<'a>(plan: &Plan, place: &'a Place<'_>, link: &'a Link, dns_port: Option<u16>) -> OpenSpec<'a> {
    OpenSpec {
        run: place.id,
        interface: link.name(),
        dns_port: dns_port.unwrap_or(DOMAIN),
        publish: !plan.publish.is_empty(),
        host_loopback: plan.settings.host_loopback,
    }
}

fn upstream(plan: &Plan) -> Upstream {
    if plan.dns.is_empty() { Upstream::host() } else { Upstream::fixed(plan.dns.clone()) }
}

/// The file that the command will see as its /etc/resolv.conf.
fn write_resolv_conf(place: &Place<'_>, dns: &RunningForwarder, gateway: IpAddr) -> Result<PathBuf> {
    place.signals.step("resolv_conf")?;
    let path = place.dir.join("resolv.conf");
    write_readable(&path, &dns.render(gateway))?;
    Ok(path)
}
