//! Decides which switches a run needs, in which order they are written, and which are put back.
//! Writes no switch itself.

use super::register::{SwitchEntry, SwitchRegister};
use super::{Families, ForwardingSpec, Ipv6Switch};
use crate::error::Result;
use crate::host::nat::ForwardGuard;
use crate::host::sysctl::{self, SysctlSetting, read};
use crate::undo::RunId;

/// The IPv6 switch for all interfaces, for kernels without one for each interface.
const ALL_IPV6: &str = "ipv6/conf/all/forwarding";

/// Enters the run into the register for every switch that it needs. Returns the settings to write,
/// in order: `accept_ra` before the switch that would stop router advertisements.
pub fn join(register: &mut SwitchRegister<'_>, spec: &ForwardingSpec) -> Result<Vec<SysctlSetting>> {
    let mut wanted = Vec::new();
    if spec.families.ipv4 {
        wanted.extend(each("ipv4", "forwarding")?);
    }
    match spec.ipv6_switch {
        _ if !spec.families.ipv6 => {}
        Ipv6Switch::PerInterface if is_on(ALL_IPV6)? && !register.entries().contains_key(ALL_IPV6) => {}
        Ipv6Switch::PerInterface => wanted.extend(each("ipv6", "force_forwarding")?),
        Ipv6Switch::AllInterfaces => wanted.extend(all_ipv6(register)?),
    }
    let mut writes = Vec::new();
    for setting in wanted {
        writes.extend(enter(register, &spec.run, setting)?);
    }
    Ok(writes)
}

/// The switches that are off and that a run needs, if no other run has turned any on.
pub fn switches_to_turn_on(families: Families, ipv6_switch: Ipv6Switch) -> Result<Vec<String>> {
    let mut wanted = if families.ipv4 { each("ipv4", "forwarding")? } else { Vec::new() };
    if families.ipv6 && !is_on(ALL_IPV6)? {
        match ipv6_switch {
            Ipv6Switch::PerInterface => wanted.extend(each("ipv6", "force_forwarding")?),
            Ipv6Switch::AllInterfaces => wanted.push(SysctlSetting::new(ALL_IPV6, "1")),
        }
    }
    let mut keys = Vec::new();
    for setting in wanted {
        if !is_on(&setting.key)? {
            keys.push(setting.key);
        }
    }
    Ok(keys)
}

/// Traffic that must not be forwarded for others although the switches permit it because of some
/// run.
pub fn guards(register: &SwitchRegister<'_>) -> Result<Vec<ForwardGuard>> {
    let mut guards = Vec::new();
    for (key, entry) in register.entries() {
        if entry.original == "0" && !overruled(key, entry)? {
            guards.extend(guard(key));
        }
    }
    // If another program has switched on IPv6 forwarding for all interfaces, it is intended for all
    // traffic.
    if !register.entries().contains_key(ALL_IPV6) && is_on(ALL_IPV6)? {
        guards.retain(|guard| !matches!(guard, ForwardGuard::Ipv6(_)));
    }
    Ok(guards)
}

/// Removes the run from the register. Returns the settings to put back, in order: the switch for
/// all interfaces overwrites those of each interface, and `accept_ra` may be 1 again only when the
/// interface no longer forwards.
pub fn leave(register: &mut SwitchRegister<'_>, run: &RunId) -> Result<Vec<SysctlSetting>> {
    let mut writes = Vec::new();
    for (key, entry) in register.entries_mut() {
        entry.runs.retain(|user| user != run);
        if entry.runs.is_empty() && read(key)?.as_ref() == Some(&entry.set) && !overruled(key, entry)? {
            writes.push(SysctlSetting::new(key, &entry.original));
        }
    }
    register.entries_mut().retain(|_, entry| !entry.runs.is_empty());
    writes.sort_by_key(|setting| match setting.key.as_str() {
        ALL_IPV6 => 0,
        key if key.ends_with("/forwarding") => 1,
        _ => 2,
    });
    Ok(writes)
}

/// The settings of the run's own interface.
pub fn own_interface(interface: &str, families: Families, route_localnet: bool) -> Result<Vec<SysctlSetting>> {
    let mut wanted = Vec::new();
    if families.ipv4 {
        let key = |name: &str| format!("ipv4/conf/{interface}/{name}");
        wanted.push(SysctlSetting::new(key("forwarding"), "1"));
        wanted.extend(["accept_redirects", "secure_redirects"].map(|name| SysctlSetting::new(key(name), "0")));
        if route_localnet {
            wanted.push(SysctlSetting::new(key("route_localnet"), "1"));
        }
        // Strict filtering drops the target's packets where a policy rule (of a VPN) routes the
        // answers elsewhere. The kernel uses the larger of this value and that of `all`, so 2
        // (loose) is the most permissive value that has an effect.
        if read(&key("rp_filter"))?.as_deref() == Some("1") || read("ipv4/conf/all/rp_filter")?.as_deref() == Some("1")
        {
            wanted.push(SysctlSetting::new(key("rp_filter"), "2"));
        }
    }
    if families.ipv6 {
        let values = [
            ("disable_ipv6", "0"),
            ("accept_ra", "0"),
            ("accept_redirects", "0"),
            ("accept_dad", "0"),
            ("force_forwarding", "1"),
        ];
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

/// The same switch of every interface.
fn each(family: &str, name: &str) -> Result<Vec<SysctlSetting>> {
    let names = sysctl::interfaces(family)?;
    Ok(names.iter().map(|interface| SysctlSetting::new(format!("{family}/conf/{interface}/{name}"), "1")).collect())
}

/// For kernels before 6.17.
fn all_ipv6(register: &SwitchRegister<'_>) -> Result<Vec<SysctlSetting>> {
    if is_on(ALL_IPV6)? && !register.entries().contains_key(ALL_IPV6) {
        return Ok(Vec::new());
    }
    let mut wanted = Vec::new();
    // For `default` only forwarding is set: an interface created with accept_ra 2 would keep that
    // value, so new interfaces are followed instead.
    for interface in sysctl::interfaces("ipv6")?.into_iter().chain(["default".into()]) {
        let key = |name: &str| format!("ipv6/conf/{interface}/{name}");
        let (forwarding, accept_ra) = (key("forwarding"), key("accept_ra"));
        let known = register.entries().contains_key(&accept_ra);
        // While netwatch has the switch for all interfaces on, only the register contains which
        // interfaces forwarded before.
        let forwarded = register.entries().contains_key(&forwarding)
            || (!register.entries().contains_key(ALL_IPV6) && is_on(&forwarding)?);
        if forwarded {
            wanted.push(SysctlSetting::new(forwarding, "1"));
        } else if interface != "default" && (known || read(&accept_ra)?.as_deref() == Some("1")) {
            wanted.push(SysctlSetting::new(accept_ra, "2"));
        }
    }
    wanted.push(SysctlSetting::new(ALL_IPV6, "1"));
    Ok(wanted)
}

/// Enters one switch; returns the setting if it has to be written.
fn enter(register: &mut SwitchRegister<'_>, run: &RunId, setting: SysctlSetting) -> Result<Option<SysctlSetting>> {
    let Some(current) = read(&setting.key)? else { return Ok(None) };
    let global = global(&setting.key).map_or(Ok(None), |key| read(&key))?;
    let entries = register.entries_mut();
    let differs = current != setting.value;
    if let Some(entry) = entries.get_mut(&setting.key) {
        if !entry.runs.contains(run) {
            entry.runs.push(run.clone());
        }
        if differs {
            // Another program has changed it since: its value is the one to put back.
            *entry = SwitchEntry { original: current, set: setting.value.clone(), global, runs: entry.runs.clone() };
        }
    } else if differs || needs_rewriting(&setting.key) {
        let entry = SwitchEntry { original: current, set: setting.value.clone(), global, runs: vec![run.clone()] };
        entries.insert(setting.key.clone(), entry);
    }
    Ok(differs.then_some(setting))
}

/// The IPv6 switch of an interface is reset when the one for all interfaces is switched off, so it
/// is entered although it does not change now.
fn needs_rewriting(key: &str) -> bool {
    key.starts_with("ipv6/") && key.ends_with("/forwarding") && key != ALL_IPV6
}

/// Whether another program has switched the whole namespace since.
fn overruled(key: &str, entry: &SwitchEntry) -> Result<bool> {
    // If the IPv6 switch for all interfaces is in the register, netwatch has set it; and it does
    // not affect `accept_ra`.
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

pub fn guard(key: &str) -> Option<ForwardGuard> {
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
