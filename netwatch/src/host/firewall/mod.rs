//! Firewalls of other programs: finds the chains that would drop the target's packets, and inserts
//! narrow accept rules for the run's interface at their top, because an accept in one table never
//! overrides a drop in another. Chains that cannot be opened are reported with the command that
//! opens them. netwatch's own table is in [`super::nat`].

mod accept;
mod find;
mod legacy;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use self::find::OutputChain;
pub use self::legacy::{LegacyRules, undo as undo_legacy};
pub use self::watch::{FirewallWatch, has_legacy_tables};

use self::accept::RuleStyle;
use self::find::ForeignChain;
use super::nft::{Batch, Nft, NftFamily, NftHook, NftTable};
use crate::error::{Error, Result};
use crate::undo::{Journal, RunId, UndoRecord};

/// What must be accepted.
#[derive(Debug, Clone)]
pub struct OpenSpec<'a> {
    /// The run; its id marks the rules.
    pub run: &'a RunId,
    /// The host-side interface.
    pub interface: &'a str,
    /// The port of the DNS forwarder: 53, or another one to which queries are redirected.
    pub dns_port: u16,
    /// Whether ports are published.
    pub publish: bool,
}

/// The fields of [`OpenSpec`] that depend on the settings of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in OpenSpec")]
pub struct FirewallNeeds {
    pub dns_port: u16,
    pub publish: bool,
}

impl FirewallNeeds {
    /// The complete specification for this run.
    pub fn of<'a>(&self, run: &'a RunId, interface: &'a str) -> OpenSpec<'a> {
        let Self { dns_port, publish } = *self;
        OpenSpec { run, interface, dns_port, publish }
    }
}

/// A chain that will drop packets of the target, and that netwatch cannot open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedChain {
    /// The chain as its own tool shows it: `inet firewalld filter_FORWARD`.
    pub chain: String,
    /// Its hook.
    pub hook: NftHook,
    /// Why netwatch cannot open it.
    pub cause: String,
    /// The command that opens it, or advice if there is none.
    pub open: String,
}

impl fmt::Display for BlockedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the host's firewall may drop the command's packets in {}: {}; open it with: {}",
            self.chain, self.cause, self.open
        )
    }
}

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// `run` will insert an accept rule at the top of this chain.
    Opens {
        /// `ip filter FORWARD`.
        chain: String,
        /// Its hook.
        hook: NftHook,
    },
    /// `run` cannot open this chain.
    Blocked(BlockedChain),
}

/// Opens every chain that can be opened, after recording it; returns the others.
pub fn open(spec: &OpenSpec<'_>, journal: &Journal) -> Result<Vec<BlockedChain>> {
    let nft = Nft::open()?;
    let found = find::foreign(&nft, spec.interface)?;
    let mut blocked = legacy::open(spec, journal)?.blocked;
    blocked.extend(found.blocked);
    blocked.extend(open_chains(&nft, spec, &found.open, journal)?);
    Ok(blocked)
}

/// The state of the host's firewall after a [`repair`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairedFirewall {
    /// The chains that were opened, as their own tool shows them: they dropped the target's packets
    /// until now.
    pub opened: Vec<String>,
    /// The chains that drop packets of the target and that netwatch cannot open, as
    /// [`BlockedChain`] shows them.
    pub blocked: Vec<String>,
}

/// Opens the chains that have no rules of the run, because another program has replaced the
/// firewall since.
pub fn repair(spec: &OpenSpec<'_>, journal: &Journal) -> Result<RepairedFirewall> {
    let nft = Nft::open()?;
    let found = find::foreign(&nft, spec.interface)?;
    let mut missing = Vec::new();
    for foreign in found.open {
        if !foreign.is_open(&nft, spec.run)? {
            missing.push(foreign);
        }
    }
    let legacy = legacy::open(spec, journal)?;
    let mut blocked = legacy.blocked;
    blocked.extend(found.blocked);
    let refused = open_chains(&nft, spec, &missing, journal)?;
    let opened = missing.iter().map(|foreign| foreign.chain.to_string());
    let opened = opened.filter(|chain| refused.iter().all(|blocked| blocked.chain != *chain));
    let opened = legacy.opened.into_iter().chain(opened).collect();
    let blocked = blocked.iter().chain(&refused).map(BlockedChain::to_string).collect();
    Ok(RepairedFirewall { opened, blocked })
}

/// Inserts the rules into these chains, after recording it; returns the chains that refuse them.
fn open_chains(
    nft: &Nft,
    spec: &OpenSpec<'_>,
    chains: &[ForeignChain],
    journal: &Journal,
) -> Result<Vec<BlockedChain>> {
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    for foreign in chains {
        journal.record(&foreign.undo_record(spec.run))?;
    }
    let mut all = Batch::new();
    chains.iter().for_each(|foreign| foreign.insert(spec, foreign.style(), &mut all));
    if nft.commit(&all).is_ok() {
        return Ok(Vec::new());
    }
    // The refusal of one chain undoes the whole batch, so the chains are tried one by one.
    Ok(chains.iter().filter_map(|foreign| open_one(nft, spec, foreign).err()).collect())
}

/// What [`open()`] would do in a run; for `doctor`.
pub fn inspect() -> Result<Vec<Finding>> {
    let interface = "nw00000000";
    let found = find::foreign(&Nft::open()?, interface)?;
    let opens =
        found.open.iter().map(|foreign| Finding::Opens { chain: foreign.chain.to_string(), hook: foreign.hook });
    let legacy = legacy::found(interface)?.into_iter().map(|(chain, hook)| Finding::Opens { chain, hook });
    Ok(legacy.chain(opens).chain(found.blocked.into_iter().map(Finding::Blocked)).collect())
}

/// The chains of other programs that process packets which the host sends. Costs a single netlink
/// request if there are none.
pub fn output_chains() -> Result<Vec<OutputChain>> {
    let mut chains = find::output(&Nft::open()?)?;
    chains.extend(legacy::output()?);
    Ok(chains)
}

/// Rules in a chain of another program, found again by their comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRule {
    /// `NFPROTO_*` of the table.
    family: u8,
    table: String,
    chain: String,
    /// `netwatch:<run id>`.
    comment: String,
}

impl UndoRecord for ForeignRule {
    const KIND: &'static str = "foreign_rule";
}

/// Removes the rules with these comments; succeeds if table or chain is gone. In one transaction,
/// because after a deletion the kernel makes the next one, and the close of the socket, wait for an
/// RCU grace period (6 to 15 ms).
pub fn undo(records: &[ForeignRule]) -> Result<()> {
    let mut marks = Vec::new();
    for ForeignRule { family, table, chain, comment } in records {
        let mark = RuleMark { family: family_of(*family, table)?, table, chain, comment };
        // Deleting a rule twice fails.
        if !marks.contains(&mark) {
            marks.push(mark);
        }
    }
    remove_marked(&marks)
}

/// A chain with rules of netwatch, and the comment that marks them.
#[derive(PartialEq)]
struct RuleMark<'a> {
    family: NftFamily,
    table: &'a str,
    chain: &'a str,
    comment: &'a str,
}

fn family_of(family: u8, table: &str) -> Result<NftFamily> {
    let fail = || Error::other("remove rules from table", table, format!("there is no family {family}"));
    NftFamily::from_raw(family).ok_or_else(fail)
}

fn remove_marked(marks: &[RuleMark<'_>]) -> Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let nft = Nft::open()?;
    // Another program may change the chain at the same time; then the second attempt succeeds.
    remove_found(&nft, marks).or_else(|error| match error.errno() {
        Some(Errno::ENOENT) => remove_found(&nft, marks),
        _ => Err(error),
    })
}

fn remove_found(nft: &Nft, marks: &[RuleMark<'_>]) -> Result<()> {
    let mut batch = Batch::new();
    for mark in marks {
        let table = NftTable { family: mark.family, name: mark.table };
        for rule in nft.rules(table, Some(mark.chain))? {
            if rule.comment.as_deref() == Some(mark.comment) {
                batch.delete_rule(table, mark.chain, rule.handle);
            }
        }
    }
    nft.commit(&batch)
}

/// In the style of the table, otherwise in the native one: the kernel may lack what the style of
/// iptables needs.
fn open_one(nft: &Nft, spec: &OpenSpec<'_>, foreign: &ForeignChain) -> Result<(), BlockedChain> {
    let attempt = |style| {
        let mut batch = Batch::new();
        foreign.insert(spec, style, &mut batch);
        nft.commit(&batch)
    };
    attempt(foreign.style()).or_else(|_| attempt(RuleStyle::Native)).map_err(|error| foreign.refused(&error))
}

impl ForeignChain {
    fn undo_record(&self, run: &RunId) -> ForeignRule {
        ForeignRule {
            family: self.chain.family as u8,
            table: self.chain.table.clone(),
            chain: self.chain.name.clone(),
            comment: run.comment(),
        }
    }

    /// Whether it has rules of the run.
    fn is_open(&self, nft: &Nft, run: &RunId) -> Result<bool> {
        let comment = run.comment();
        let rules = nft.rules(self.chain.table(), Some(&self.chain.name))?;
        Ok(rules.iter().any(|rule| rule.comment.as_deref() == Some(&comment)))
    }

    fn insert(&self, spec: &OpenSpec<'_>, style: RuleStyle, batch: &mut Batch) {
        for rule in accept::rules(spec, self.hook, self.chain.family, style) {
            batch.insert_rule(self.chain.table(), &self.chain.name, &rule.comment(spec.run.comment()));
        }
    }

    fn style(&self) -> RuleStyle {
        RuleStyle::of(&self.chain)
    }

    fn refused(&self, error: &Error) -> BlockedChain {
        let direction = if self.hook == NftHook::Input { "" } else { " && nft insert rule @ oifname \"nw*\" accept" };
        let open = format!("nft insert rule @ iifname \"nw*\" accept{direction}").replace('@', &self.chain.to_string());
        BlockedChain { chain: self.chain.to_string(), hook: self.hook, cause: error.to_string(), open }
    }
}
