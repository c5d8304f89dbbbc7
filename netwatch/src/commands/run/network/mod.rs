//! The network of a run, put together: namespace, link, addresses, NAT, forwarding, firewall, DNS.
//! [`plan`] decides what it will be, [`Network::set_up`] makes it, and [`host_thread`] follows the
//! changes of the host meanwhile.

mod firewall_follower;
mod host_thread;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use host_thread::HostThread;
use host_thread::ResolverFile;
pub(super) use host_thread::{ClosingNetwork, HostEvent};
use plan::NetworkPlan;

use super::RunPlan;
use super::notes;
use super::signals::HeldSignals;
use crate::dns::forwarder::{Forwarder, ForwarderStatus, RunningForwarder};
use crate::error::{Error, Result};
use crate::host::changes::HostChanges;
use crate::host::conntrack::TrackedConnections;
use crate::host::firewall::{self, FirewallNeeds, FirewallWatch};
use crate::host::forwarding::{self, Families, Forwarding};
use crate::host::link::{self, Link, MadeLinks};
use crate::host::namespace::Namespace;
use crate::host::nat::Nat;
use crate::host::publish::{PortReservation, privileged, reserve};
use crate::host::route_check::{self, RoutesOfRun};
use crate::host::socket_sysctls::SocketSysctls;
use crate::host::subnet::Subnet;
use crate::loopback::{LoopbackSockets, RunningProxy};
use crate::meter::KernelMeter;
use crate::report::HostService;
use crate::target::mounts::keep::Keeper;
use crate::target::mounts::write_readable;
use crate::terminal::print_message;
use crate::undo::{Exclusive, Journal, RunId};

/// Everything between the target and the host's own network.
pub(super) struct Network {
    pub plan: NetworkPlan,
    pub link: Link,
    pub namespace: Namespace,
    /// What the host's firewall has to let pass.
    pub firewall: FirewallNeeds,
    /// The chains of the host's firewall that could not be opened.
    pub blocked: Vec<String>,
    /// Published ports that the user of the command may not bind.
    pub privileged_ports: Vec<u16>,
    made_links: MadeLinks,
    host: HostThread,
    changes: HostChanges,
    dns: RunningForwarder,
    /// Until the target's mount namespace exists.
    keeper: Option<Keeper>,
    /// `--host-loopback`, until the end of the command.
    loopback: Option<RunningProxy>,
    _ports: PortReservation,
}

/// The run that a network is set up for.
pub(super) struct SetupContext<'a> {
    pub id: &'a RunId,
    pub dir: &'a Path,
    pub journal: &'a Journal,
    pub signals: &'a HeldSignals,
}

/// What was found out about the host while the classifier was loaded.
pub(super) struct SetupFacts {
    /// The host's sysctls of sockets.
    pub sysctls: SocketSysctls,
    /// The families in which the host lets the user send nothing.
    pub closed: Families,
    /// The resolvers of the run.
    pub resolvers: Vec<IpAddr>,
    /// The name and the id of the user.
    pub user: (String, u32),
}

impl SetupContext<'_> {
    /// Waits for the lock until a signal ends the set-up.
    fn lock(&self) -> Result<Exclusive> {
        Exclusive::take_while(|| self.signals.check_interrupted())
    }
}

impl Network {
    /// Sets everything up, in the order of ARCHITECTURE.md, with the loaded classifier. After a
    /// failure the journal is undone.
    pub(super) fn set_up(
        plan: &RunPlan,
        context: &SetupContext<'_>,
        facts: &SetupFacts,
        notes: &mut Vec<String>,
        meter: &mut KernelMeter,
    ) -> Result<Self> {
        let ports = reserve(&plan.publish)?;
        context.signals.step("subnet")?;
        let held = context.lock()?;
        let plan = NetworkPlan::resolve(plan, context, facts.closed, &held)?;
        if !plan.has_uplink() {
            warn(notes::NO_UPLINK, notes);
        }
        let (namespace, link) = make_link(&plan, context, &facts.sysctls, notes, meter)?;
        drop(held);
        let made_links = namespace.run_in(MadeLinks::follow)??;
        let privileged_ports = if facts.user.1 == 0 { Vec::new() } else { privileged(&plan.publish)? };
        context.signals.step("host_loopback")?;
        let loopback = start_proxy(&plan, &namespace, notes)?;
        context.signals.step("dns")?;
        let gateway = plan.gateways()[0];
        // resolv.conf names one gateway, so that is the only address to listen on.
        let forwarder = Forwarder::bind(&[gateway], Some(link.name()))?.only_for(plan.targets()[0]);
        let dns_port = NetworkPlan::redirected_dns_port(&forwarder.listening());
        context.signals.step("nat")?;
        context.journal.record(&TrackedConnections { targets: plan.targets() })?;
        let nat = Arc::new(Nat::install(&plan.nat(dns_port)?)?);
        let host = HostThread::start(nat.clone(), FirewallWatch::follow()?)?;
        context.signals.step("forwarding")?;
        // Before the switches are read for the first time, so that no later change is missed.
        let changes = HostChanges::follow()?;
        host.follow(Forwarding::enable(plan.forwarding(), context.journal, &nat, &context.lock()?)?);
        drop(nat);
        context.signals.step("firewall")?;
        let firewall = plan.firewall(dns_port);
        let blocked = firewall::open(&firewall.of(&plan.run, &plan.interface), context.journal)?;
        let blocked: Vec<String> = blocked.iter().map(ToString::to_string).collect();
        blocked.iter().for_each(|blocked| warn(blocked, notes));
        let subnets: Vec<Subnet> = plan.all_subnets().collect();
        notes.extend(route_check::verify(&RoutesOfRun {
            link: link.index(),
            subnets: &subnets,
            uplink: &plan.uplink,
            resolvers: &facts.resolvers,
            user: (&facts.user.0, facts.user.1),
        })?);
        let dns = forwarder.start(plan.upstream())?;
        write_resolv_conf(&plan, context, &namespace, &dns.status().render(gateway))?;
        let keeper = Some(Keeper::watch(&plan.mounts)?);
        Ok(Self {
            plan,
            link,
            namespace,
            firewall,
            blocked,
            privileged_ports,
            made_links,
            host,
            changes,
            dns,
            keeper,
            loopback,
            _ports: ports,
        })
    }

    /// The target's addresses.
    pub(super) fn targets(&self) -> Vec<IpAddr> {
        self.plan.targets()
    }

    /// The host's addresses on the link.
    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.plan.gateways()
    }

    /// The broadcast address of the link.
    pub(super) fn broadcast(&self) -> Option<Ipv4Addr> {
        self.plan.broadcast()
    }

    /// The DNS forwarder, for another thread: reading its state can block.
    pub(super) fn dns(&self) -> ForwarderStatus {
        self.dns.status().clone()
    }

    /// Services of the host's loopback that the namespace has.
    pub(super) fn host_services(&self) -> Vec<HostService> {
        self.loopback.as_ref().map(|proxy| proxy.services().to_vec()).unwrap_or_default()
    }

    /// Interfaces that the command made in its namespace.
    pub(super) fn made_links(&self) -> BTreeSet<String> {
        self.made_links.names(self.link.inner_index())
    }

    /// The proxy of `--host-loopback`, to be finished after the command.
    pub(super) fn take_loopback(&mut self) -> Option<RunningProxy> {
        self.loopback.take()
    }

    /// Keeps the target's private files mounted from here on, in its mount namespace.
    pub(super) async fn keep_mounts(&mut self, mount_namespace: OwnedFd) -> Result<()> {
        match self.keeper.take() {
            Some(keeper) => {
                let (dns, gateway) = (self.dns(), self.gateways()[0]);
                let read = move || ResolverFile { resolvers: dns.resolvers(), text: dns.render(gateway) };
                self.host.keep_mounts(keeper, mount_namespace, Box::new(read)).await
            }
            None => Ok(()),
        }
    }

    /// No process of the target is left that could read its private files.
    pub(super) fn release_mounts(&mut self) {
        self.host.release_mounts();
    }

    /// A function that removes the link now, instead of leaving that to the kernel. For another
    /// thread, because it can wait for the kernel. `if_moved`: only if the target has moved its end
    /// to another namespace.
    pub(super) fn link_deletion(&mut self, if_moved: bool) -> impl FnOnce() -> Result<()> + Send + 'static {
        let (name, inner_index) = (self.link.name().to_owned(), self.link.inner_index());
        let route = if_moved.then(|| self.namespace.take_route());
        move || {
            if let Some(route) = route
                && !link::inner_end_is_elsewhere(inner_index, &mut route?)?
            {
                return Ok(());
            }
            link::delete(&name).map(drop)
        }
    }

    /// Closes everything: the host thread in the background, the rest at once.
    pub(super) fn close(self) -> ClosingNetwork {
        self.host.close()
    }

    /// Passes changes of the host to the host thread, until it has an event.
    pub(super) async fn host_event(&mut self) -> HostEvent {
        loop {
            tokio::select! {
                changed = self.changes.next() => match changed {
                    Ok(()) => self.host.interfaces_changed(),
                    Err(error) => return HostEvent::Failed(error),
                },
                event = self.host.event() => return event,
            }
        }
    }
}

/// Namespace and link, with the classifier attached before the first packet.
fn make_link(
    plan: &NetworkPlan,
    context: &SetupContext<'_>,
    sysctls: &SocketSysctls,
    notes: &mut Vec<String>,
    meter: &mut KernelMeter,
) -> Result<(Namespace, Link)> {
    context.signals.step("namespace")?;
    let mut namespace = Namespace::create(plan.name.as_deref(), context.journal)?;
    notes.extend(notes::refused_sysctls(&namespace.run_in(|| sysctls.apply())?));
    context.signals.step("link")?;
    let link = Link::create(&plan.link(), &mut namespace, |name, index| {
        context.signals.step("attach")?;
        forwarding::prepare_interface(name, plan.families(), plan.needs_route_localnet())?;
        meter.attach_link(index)
    })?;
    Ok((namespace, link))
}

/// Binds the ports of `--host-loopback` in the namespace, and serves them from here, the host's.
fn start_proxy(plan: &NetworkPlan, namespace: &Namespace, notes: &mut Vec<String>) -> Result<Option<RunningProxy>> {
    let choice = &plan.host_services;
    notes.extend(notes::host_services_left_out(choice.left_out));
    if choice.services.is_empty() {
        return Ok(None);
    }
    LoopbackSockets::bind(namespace, &choice.services).and_then(RunningProxy::start).map(Some)
}

/// The file that the target will find as its /etc/resolv.conf, the one for processes that join a
/// named namespace, and the directory for further private files.
fn write_resolv_conf(plan: &NetworkPlan, context: &SetupContext<'_>, namespace: &Namespace, text: &[u8]) -> Result<()> {
    context.signals.step("resolv_conf")?;
    write_readable(&plan.mounts.resolv_conf, text)?;
    if let Some(named) = namespace.named() {
        let _held = context.lock()?;
        named.provide_resolv_conf(&String::from_utf8_lossy(text), context.journal)?;
    }
    let private = &plan.mounts.private;
    std::fs::create_dir(private).map_err(|error| Error::os("create", private.display().to_string(), error))
}

/// Reports something before the command starts, and again in the notes.
fn warn(text: &str, notes: &mut Vec<String>) {
    print_message(text);
    notes.push(text.to_owned());
}
