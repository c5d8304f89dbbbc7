//! Turns on forwarding between the link and every interface by which replies may arrive, and
//! restores every switch when the last run that used it ends. While a switch is on, routing rules
//! (`rules`) prevent the host from forwarding for other machines: they are added before the switch
//! is turned on and removed after it is off, and they stay in force without any process.
//! [`super::nat`] and [`super::firewall`] filter what may pass.
//!
//! For IPv4, the switch of the incoming interface decides. IPv6 has such a switch
//! (`force_forwarding`) since Linux 6.17; before, only one for all interfaces, which also stops
//! them from accepting router advertisements unless `accept_ra` is 2.

mod plan;
mod register;
mod rules;
#[cfg(test)]
mod tests;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::register::SwitchRegister;
use self::rules::{PolicyRuleKind, RulePriorities};
use super::nat::{ForwardGuard, Nat};
use super::netlink::Netlink;
use super::sysctl;
use crate::error::Result;
use crate::undo::{Exclusive, Journal, RunId, UndoRecord};

/// The address families of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the families' own names")]
pub struct Families {
    pub ipv4: bool,
    pub ipv6: bool,
}

/// The kind of switch that controls IPv6 forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6Switch {
    /// One switch for each incoming interface (`force_forwarding`, since Linux 6.17).
    PerInterface,
    /// One switch for all interfaces (`all.forwarding`).
    AllInterfaces,
}

impl Ipv6Switch {
    /// The switch of this kernel.
    pub fn of_kernel() -> Self {
        if sysctl::exists("ipv6/conf/default/force_forwarding") { Self::PerInterface } else { Self::AllInterfaces }
    }
}

/// What a run needs.
#[derive(Debug, Clone)]
pub struct ForwardingSpec {
    /// The run.
    pub run: RunId,
    /// The address families of the target.
    pub families: Families,
    /// The subnets of the link.
    pub subnets: Vec<IpNet>,
    /// The kernel's switch: [`Ipv6Switch::of_kernel`], except in tests of older kernels.
    pub ipv6_switch: Ipv6Switch,
}

/// Forwarding that was switched on. When [`super::changes`] reports that interfaces or switches
/// have changed, call [`Forwarding::update`]. Dropped without [`Forwarding::disable`], the journal
/// switches it back.
#[derive(Debug)]
pub struct Forwarding {
    spec: ForwardingSpec,
    cookie: u64,
    guards: Vec<ForwardGuard>,
}

impl Forwarding {
    /// Switches forwarding on for all interfaces but `lo` and the run's own, which
    /// [`prepare_interface`] has prepared. `nat` drops what would be forwarded for others.
    pub fn enable(spec: ForwardingSpec, journal: &Journal, nat: &Nat, held: &Exclusive) -> Result<Self> {
        let cookie = sysctl::netns_cookie()?;
        journal.record(&ForwardingInUse { netns_cookie: cookie })?;
        let mut forwarding = Self { spec, cookie, guards: Vec::new() };
        forwarding.update(nat, held)?;
        Ok(forwarding)
    }

    /// Reads the switches again: switches on what is new, and releases what another program has
    /// switched on for all interfaces. Also puts back routing rules that another program removed.
    pub fn update(&mut self, nat: &Nat, held: &Exclusive) -> Result<()> {
        let mut register = SwitchRegister::open(self.cookie, held)?;
        let mut netlink = Netlink::route()?;
        let writes = plan::join(&mut register, &self.spec)?;
        let guards = plan::guards(&register)?;
        let kinds = rules::guards(&guards, &sysctl::interfaces("ipv6")?);
        let priorities = RulePriorities::read(&mut netlink)?;
        for kind in self.passes().chain(kinds.iter().cloned()) {
            register.add_rule(kind, |kind| priorities.place(kind))?;
        }
        register.save()?;
        rules::add(&mut netlink, register.rules())?;
        if guards != self.guards {
            nat.guard(&guards)?;
            self.guards = guards;
        }
        writes.iter().try_for_each(sysctl::SysctlSetting::write_if_there)?;
        remove_unused_guards(&mut register, &kinds, &mut netlink)
    }

    fn passes(&self) -> impl Iterator<Item = PolicyRuleKind> {
        self.spec.subnets.iter().map(|net| PolicyRuleKind::Pass { run: self.spec.run.clone(), net: *net })
    }

    /// Puts every switch back that this run was the last to use.
    pub fn disable(self, held: &Exclusive) -> Result<()> {
        release(&self.spec.run, self.cookie, held).map(drop)
    }
}

/// The run uses sysctls of a network namespace; their old values are in the switch register that
/// parallel runs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingInUse {
    /// `SO_NETNS_COOKIE` of the namespace.
    pub netns_cookie: u64,
}

impl UndoRecord for ForwardingInUse {
    const KIND: &'static str = "forwarding";
}

/// The result of [`release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// No switch of this run is left.
    Done,
    /// The switches are in another network namespace that still exists: only a process in it can
    /// put them back.
    OtherNamespace,
}

/// Undoes [`ForwardingInUse`]: puts back the switches that this run was the last to use, unless
/// another program has changed them since; then removes its routing rules. Idempotent.
pub fn release(run: &RunId, netns_cookie: u64, held: &Exclusive) -> Result<Released> {
    if netns_cookie != sysctl::netns_cookie()? {
        let left = SwitchRegister::find(netns_cookie, held)?.is_some_and(|register| register.lists(run));
        let alive = left && !register::remove_if_dead(netns_cookie, held)?;
        return Ok(if alive { Released::OtherNamespace } else { Released::Done });
    }
    let Some(mut register) = SwitchRegister::find(netns_cookie, held)? else { return Ok(Released::Done) };
    let writes = plan::leave(&mut register, run)?;
    for setting in &writes {
        setting.write_if_there()?;
    }
    // The guards are removed after the switches are off, and no entry leaves the file before it is
    // undone.
    let mut netlink = Netlink::route()?;
    let kinds = rules::guards(&plan::guards(&register)?, &sysctl::interfaces("ipv6")?);
    let passes = register.take_rules(|kind| !matches!(kind, PolicyRuleKind::Pass { run: of, .. } if of == run));
    rules::remove(&mut netlink, &passes)?;
    take_unused_guards(&mut register, &kinds, &mut netlink)?;
    register.save()?;
    Ok(Released::Done)
}

/// Removes the guards of switches that netwatch no longer has on, for example because another
/// program has switched all of them on.
fn remove_unused_guards(
    register: &mut SwitchRegister<'_>,
    used: &[PolicyRuleKind],
    netlink: &mut Netlink,
) -> Result<()> {
    if take_unused_guards(register, used, netlink)? { register.save() } else { Ok(()) }
}

/// As [`remove_unused_guards`], without saving the register. Returns whether there were any.
fn take_unused_guards(
    register: &mut SwitchRegister<'_>,
    used: &[PolicyRuleKind],
    netlink: &mut Netlink,
) -> Result<bool> {
    let unused = register.take_rules(|kind| matches!(kind, PolicyRuleKind::Pass { .. }) || used.contains(kind));
    rules::remove(netlink, &unused)?;
    Ok(!unused.is_empty())
}

/// The switches that a run would have to turn on, and that this process cannot write: in a
/// container, /proc/sys is often read-only.
pub fn unwritable_switches(families: Families) -> Result<Vec<String>> {
    let switches = plan::switches_to_turn_on(families, Ipv6Switch::of_kernel())?;
    Ok(switches.into_iter().filter(|key| !sysctl::is_writable(key)).collect())
}

/// Fails if a run could not guard the switches that it would have to turn on: a routing rule of
/// another program stands where the guard has to be.
pub fn check_guards(families: Families) -> Result<()> {
    let switches = plan::switches_to_turn_on(families, Ipv6Switch::of_kernel())?;
    let guards: Vec<ForwardGuard> = switches.iter().filter_map(|key| plan::guard(key)).collect();
    let priorities = RulePriorities::read(&mut Netlink::route()?)?;
    rules::guards(&guards, &sysctl::interfaces("ipv6")?)
        .into_iter()
        .try_for_each(|kind| priorities.place(kind).map(drop))
}

/// Whether the network namespace with this inode is not the caller's and still exists.
pub fn lives_elsewhere(netns_inode: u64) -> Result<bool> {
    Ok(sysctl::netns_inode()? != netns_inode && register::is_alive(netns_inode))
}

/// Removes the registers of namespaces that no longer exist.
pub fn forget_dead_namespaces(held: &Exclusive) -> Result<()> {
    register::all(held)?.into_iter().try_for_each(|cookie| register::remove_if_dead(cookie, held).map(drop))
}

/// Sets the switches of the run's own interface before it is brought up: forwarding, and
/// replacements for defaults of the host that would delay or break a point-to-point link. They are
/// not restored, because the interface is removed with the run.
pub fn prepare_interface(interface: &str, families: Families, route_localnet: bool) -> Result<()> {
    plan::own_interface(interface, families, route_localnet)?.iter().try_for_each(sysctl::SysctlSetting::write_own)
}
