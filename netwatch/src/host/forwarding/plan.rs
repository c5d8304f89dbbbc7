//! Which switches a run needs, in which order they are written, and what is put back. Writes
//! nothing itself.

use super::ledger::{Ledger, SwitchEntry};
use super::sysctl::{self, SysctlSetting, read};
use super::{Families, ForwardingSpec, Ipv6Switch};
use crate::error::Result;
use crate::host::nat::ForwardGuard;
use crate::undo::RunId;

/// The IPv6 switch for everything, of kernels without one for each interface.
const ALL_IPV6: &str = "ipv6/conf/all/forwarding";

/// Enters the run into the ledger for everything it needs. Returns what is to be written, in order:
/// `accept_ra` before the switch that would stop router advertisements.
pub fn join(ledger: &mut Ledger<'_>, spec: &ForwardingSpec) -> Result<Vec<SysctlSetting>> {
    let mut wanted = Vec::new();
    if spec.families.ipv4 {
        wanted.extend(each("ipv4", "forwarding")?);
    }
    match spec.ipv6_switch {
        _ if !spec.families.ipv6 => {}
        Ipv6Switch::PerInterface if is_on(ALL_IPV6)? && !ledger.entries().contains_key(ALL_IPV6) => {}
        Ipv6Switch::PerInterface => wanted.extend(each("ipv6", "force_forwarding")?),
        Ipv6Switch::AllInterfaces => wanted.extend(all_ipv6(ledger)?),
    }
    let mut writes = Vec::new();
    for setting in wanted {
        writes.extend(enter(ledger, &spec.run, setting)?);
    }
    Ok(writes)
}

/// What shall not be forwarded for others although the switches now allow it.
pub fn guards(ledger: &Ledger<'_>, run: &RunId) -> Result<Vec<ForwardGuard>> {
    let mut guards = Vec::new();
    for (key, entry) in ledger.entries().iter().filter(|(_, entry)| entry.runs.contains(run)) {
        if entry.original == "0" && !overruled(key, entry)? {
            guards.extend(guard(key));
        }
    }
    // The one switch for all interfaces means that forwarding of IPv6 is everybody's now.
    if !ledger.entries().contains_key(ALL_IPV6) && is_on(ALL_IPV6)? {
        guards.retain(|guard| !matches!(guard, ForwardGuard::Ipv6(_)));
    }
    Ok(guards)
}

/// Strikes the run out. Returns what is to be put back, in order: the switch for all interfaces
/// overwrites each one's, and `accept_ra` may only go back to 1 when the interface no longer
/// forwards.
pub fn leave(ledger: &mut Ledger<'_>, run: &RunId) -> Result<Vec<SysctlSetting>> {
    let mut writes = Vec::new();
    for (key, entry) in ledger.entries_mut() {
        entry.runs.retain(|user| user != run);
        if entry.runs.is_empty() && read(key)?.as_ref() == Some(&entry.set) && !overruled(key, entry)? {
            writes.push(SysctlSetting::new(key, &entry.original));
        }
    }
    ledger.entries_mut().retain(|_, entry| !entry.runs.is_empty());
    writes.sort_by_key(|setting| match setting.key.as_str() {
        ALL_IPV6 => 0,
        key if key.ends_with("/forwarding") => 1,
        _ => 2,
    });
    Ok(writes)
}

/// What the run's own interface needs.
pub fn own_interface(interface: &str, families: Families, route_localnet: bool) -> Result<Vec<SysctlSetting>> {
    let mut wanted = Vec::new();
    if families.ipv4 {
        let key = |name: &str| format!("ipv4/conf/{interface}/{name}");
        wanted.push(SysctlSetting::new(key("forwarding"), "1"));
        if route_localnet {
            wanted.push(SysctlSetting::new(key("route_localnet"), "1"));
        }
        // Strict filtering drops the target's packets where a policy rule (a VPN's) leads the way
        // back to it elsewhere. The kernel takes the larger of this and `all`, so 2 (loose) is the
        // most that can be had.
        if read(&key("rp_filter"))?.as_deref() == Some("1") || read("ipv4/conf/all/rp_filter")?.as_deref() == Some("1")
        {
            wanted.push(SysctlSetting::new(key("rp_filter"), "2"));
        }
    }
    if families.ipv6 {
        let values = [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0"), ("force_forwarding", "1")];
        wanted.extend(values.map(|(name, value)| SysctlSetting::new(format!("ipv6/conf/{interface}/{name}"), value)));
    }
    let differs = |setting: &SysctlSetting| Ok(read(&setting.key)?.is_some_and(|value| value != setting.value));
    let mut writes = Vec::new();
    for setting in wanted {
        if differs(&setting)? {
            writes.push(setting);
        }
    }
    Ok(writes)
}

/// One switch of every interface.
fn each(family: &str, name: &str) -> Result<Vec<SysctlSetting>> {
    let names = sysctl::interfaces(family)?;
    Ok(names.iter().map(|interface| SysctlSetting::new(format!("{family}/conf/{interface}/{name}"), "1")).collect())
}

/// The way of kernels before 6.17.
fn all_ipv6(ledger: &Ledger<'_>) -> Result<Vec<SysctlSetting>> {
    if is_on(ALL_IPV6)? && !ledger.entries().contains_key(ALL_IPV6) {
        return Ok(Vec::new());
    }
    let mut wanted = Vec::new();
    // `default` only for its own forwarding: an interface born with accept_ra 2 would keep it for
    // good, so new ones are followed.
    for interface in sysctl::interfaces("ipv6")?.into_iter().chain(["default".into()]) {
        let key = |name: &str| format!("ipv6/conf/{interface}/{name}");
        let (forwarding, accept_ra) = (key("forwarding"), key("accept_ra"));
        let known = ledger.entries().contains_key(&accept_ra);
        // While the switch for all is on because of us, only the ledger knows which interfaces
        // forwarded before.
        let forwarded = ledger.entries().contains_key(&forwarding)
            || (!ledger.entries().contains_key(ALL_IPV6) && is_on(&forwarding)?);
        if forwarded {
            wanted.push(SysctlSetting::new(forwarding, "1"));
        } else if interface != "default" && (known || read(&accept_ra)?.as_deref() == Some("1")) {
            wanted.push(SysctlSetting::new(accept_ra, "2"));
        }
    }
    wanted.push(SysctlSetting::new(ALL_IPV6, "1"));
    Ok(wanted)
}

/// Enters one switch; returns what is to be written, if it is not so already.
fn enter(ledger: &mut Ledger<'_>, run: &RunId, setting: SysctlSetting) -> Result<Option<SysctlSetting>> {
    let Some(current) = read(&setting.key)? else { return Ok(None) };
    let global = global(&setting.key).map_or(Ok(None), |key| read(&key))?;
    let entries = ledger.entries_mut();
    let differs = current != setting.value;
    if let Some(entry) = entries.get_mut(&setting.key) {
        if !entry.runs.contains(run) {
            entry.runs.push(run.clone());
        }
        if differs {
            // Somebody has changed it since: what they chose is what is put back.
            *entry = SwitchEntry { original: current, set: setting.value.clone(), global, runs: entry.runs.clone() };
        }
    } else if differs || needs_rewriting(&setting.key) {
        let entry = SwitchEntry { original: current, set: setting.value.clone(), global, runs: vec![run.clone()] };
        entries.insert(setting.key.clone(), entry);
    }
    Ok(differs.then_some(setting))
}

/// An interface's own IPv6 switch is lost when the one for all goes off: it is written down
/// although it does not change now.
fn needs_rewriting(key: &str) -> bool {
    key.starts_with("ipv6/") && key.ends_with("/forwarding") && key != ALL_IPV6
}

/// Whether somebody has since switched the whole namespace.
fn overruled(key: &str, entry: &SwitchEntry) -> Result<bool> {
    // The IPv6 one is ours where it is in the ledger, and says nothing about `accept_ra`.
    if needs_rewriting(key) || key.ends_with("/accept_ra") {
        return Ok(false);
    }
    Ok(match global(key) {
        Some(global) => read(&global)? != entry.global,
        None => false,
    })
}

/// `ipv4/conf/all/forwarding` for `ipv4/conf/eth0/forwarding`.
fn global(key: &str) -> Option<String> {
    let (family, interface, name) = split(key)?;
    (interface != "all").then(|| format!("{family}/conf/all/{name}"))
}

fn guard(key: &str) -> Option<ForwardGuard> {
    let (family, interface, name) = split(key)?;
    match (family, name) {
        _ if key == ALL_IPV6 => Some(ForwardGuard::Ipv6All),
        ("ipv4", "forwarding") => Some(ForwardGuard::Ipv4(interface.into())),
        ("ipv6", "force_forwarding") => Some(ForwardGuard::Ipv6(interface.into())),
        _ => None,
    }
}

fn split(key: &str) -> Option<(&str, &str, &str)> {
    let (family, rest) = key.split_once("/conf/")?;
    let (interface, name) = rest.rsplit_once('/')?;
    Some((family, interface, name))
}

fn is_on(key: &str) -> Result<bool> {
    Ok(read(key)?.is_some_and(|value| value != "0"))
}
