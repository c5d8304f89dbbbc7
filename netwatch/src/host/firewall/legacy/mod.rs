//! The tables of iptables-legacy, which exist independently of nf_tables: finds the chains that
//! would drop the target's packets, and opens them with the rules that [`super::accept`] has for
//! iptables. Such a table can only be replaced as a whole, with the rules of all programs in it
//! (`edit`), and the kernel sends no notification of a change, so netwatch compares them at
//! intervals.

mod edit;
mod table;

use serde::{Deserialize, Serialize};

use self::edit::TableLock;
use self::table::{IPV4, IPV6, LegacyLayout, LegacyTable};
use super::{BlockedChain, OpenSpec, OutputChain};
use crate::error::{Error, Result};
use crate::host::nft::NftHook;
use crate::undo::{Journal, UndoRecord};

const HOOKS: [NftHook; 2] = [NftHook::Forward, NftHook::Input];

/// Rules in a table of iptables-legacy, found again by the interface of the run, which no other
/// rule names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyRules {
    /// Whether it is a table of `ip6tables-legacy`.
    is_ipv6: bool,
    table: String,
}

impl UndoRecord for LegacyRules {
    const KIND: &'static str = "legacy_rules";
}

impl LegacyRules {
    /// The rules in this table.
    pub fn of_table(is_ipv6: bool, table: &str) -> Self {
        Self { is_ipv6, table: table.to_owned() }
    }
}

/// The chains that drop packets and have no rule for the interface, in the notation of their own
/// tool.
pub fn found(interface: &str) -> Result<Vec<(String, NftHook)>> {
    let mut found = Vec::new();
    for (layout, name) in tables() {
        let table = LegacyTable::read(layout, &name)?;
        found.extend(dropping(&table, interface).map(|hook| (shown(layout, &name, hook), hook)));
    }
    Ok(found)
}

/// The chains at the output hook that have rules, or a policy that drops.
pub fn output() -> Result<Vec<OutputChain>> {
    let mut found = Vec::new();
    for (layout, name) in tables() {
        let table = LegacyTable::read(layout, &name)?;
        if table.has_rules(NftHook::Output) {
            let may_drop = table.drops(NftHook::Output, "");
            found.push(OutputChain { name: format!("{} -t {name} OUTPUT", layout.program), may_drop });
        }
    }
    Ok(found)
}

/// The result of [`open`].
#[derive(Debug, Default)]
pub struct OpenedLegacy {
    /// The chains that dropped packets until now, as their own tool shows them.
    pub opened: Vec<String>,
    /// Those that could not be opened.
    pub blocked: Vec<BlockedChain>,
}

/// Opens the chains that drop packets and have no rule for the run's interface, after recording it.
pub fn open(spec: &OpenSpec<'_>, journal: &Journal) -> Result<OpenedLegacy> {
    let mut all = OpenedLegacy::default();
    for (layout, name) in tables() {
        let mut hooks: Vec<NftHook> = dropping(&LegacyTable::read(layout, &name)?, spec.interface).collect();
        if hooks.is_empty() {
            continue;
        }
        journal.record(&LegacyRules::of_table(layout.is_ipv6, &name))?;
        let opened = TableLock::take(layout).and_then(|lock| {
            edit::replace(&lock, &name, |table| {
                hooks = dropping(table, spec.interface).collect();
                edit::with_rules(table, spec, &hooks)
            })
        });
        match opened {
            Ok(()) => all.opened.extend(hooks.iter().map(|hook| shown(layout, &name, *hook))),
            Err(error) => all.blocked.extend(hooks.iter().map(|hook| refused(layout, &name, *hook, spec, &error))),
        }
    }
    Ok(all)
}

/// Removes the rules of a run; succeeds if they or the table are gone.
pub fn undo(interface: &str, record: &LegacyRules) -> Result<()> {
    let layout = if record.is_ipv6 { &IPV6 } else { &IPV4 };
    if !layout.tables().contains(&record.table) {
        return Ok(());
    }
    let has_rules = LegacyTable::read(layout, &record.table)?.all().any(|entry| entry.is_of(interface));
    if !has_rules {
        return Ok(());
    }
    edit::replace(&TableLock::take(layout)?, &record.table, |table| edit::without_rules(table, interface))
}

fn tables() -> impl Iterator<Item = (&'static LegacyLayout, String)> {
    [&IPV4, &IPV6].into_iter().flat_map(|layout| layout.tables().into_iter().map(move |name| (layout, name)))
}

fn dropping(table: &LegacyTable<'_>, interface: &str) -> impl Iterator<Item = NftHook> {
    HOOKS.into_iter().filter(|hook| table.drops(*hook, interface))
}

fn chain(hook: NftHook) -> &'static str {
    if hook == NftHook::Input { "INPUT" } else { "FORWARD" }
}

fn shown(layout: &LegacyLayout, table: &str, hook: NftHook) -> String {
    format!("{} -t {table} {}", layout.program, chain(hook))
}

fn refused(layout: &LegacyLayout, table: &str, hook: NftHook, spec: &OpenSpec<'_>, error: &Error) -> BlockedChain {
    let port = spec.dns_port;
    let rules = match hook {
        NftHook::Input => vec![format!("-i nw+ -p udp --dport {port}"), format!("-i nw+ -p tcp --dport {port}")],
        _ => vec!["-i nw+".into(), "-o nw+ -m conntrack --ctstate RELATED,ESTABLISHED,DNAT".into()],
    };
    let command = |rule: &String| format!("{} -t {table} -I {} {rule} -j ACCEPT", layout.program, chain(hook));
    BlockedChain {
        chain: shown(layout, table, hook),
        hook,
        cause: error.to_string(),
        open: rules.iter().map(command).collect::<Vec<_>>().join(" && "),
    }
}
