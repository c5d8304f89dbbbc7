//! Finds the chains of other programs that would drop the target's packets.

use std::collections::HashSet;
use std::fs;

use super::BlockedChain;
use crate::error::Result;
use crate::host::nft::{ChainInfo, Nft, NftFamily, NftHook, RuleInfo, RuleTerm, Verdict};

/// Prefix of the names of the tables of runs.
const OWN_TABLES: &str = "netwatch-";

/// A base chain of another program that drops packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    pub chain: ChainInfo,
    pub hook: NftHook,
}

/// The chains that drop packets, by what netwatch can do about them.
#[derive(Debug, Default)]
pub struct FoundChains {
    pub open: Vec<ForeignChain>,
    pub blocked: Vec<BlockedChain>,
}

/// A chain of another program that processes packets which the host sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChain {
    /// As its own tool shows it: `ip filter OUTPUT`.
    pub name: String,
    /// Whether it can drop some of them.
    pub may_drop: bool,
}

/// The chains at the output hook, and those at the postrouting hook that can drop packets.
pub fn output(nft: &Nft) -> Result<Vec<OutputChain>> {
    let mut found = Vec::new();
    for chain in nft.chains()? {
        let Some(base) = chain.base.filter(|_| !chain.table.starts_with(OWN_TABLES)) else { continue };
        let is_output = base.hook == Some(NftHook::Output);
        if !is_output && base.hook != Some(NftHook::Postrouting) {
            continue;
        }
        // A rule for the interface of a run does not matter here.
        let may_drop = base.drops || reach(&nft.rules(chain.table(), None)?, &chain.name, "").drops;
        if is_output || may_drop {
            found.push(OutputChain { name: chain.to_string(), may_drop });
        }
    }
    Ok(found)
}

/// Inspects the chains at the forward and input hooks. Costs a single netlink request if there are
/// none.
pub fn foreign(nft: &Nft, interface: &str) -> Result<FoundChains> {
    let candidates: Vec<ForeignChain> = nft.chains()?.into_iter().filter_map(candidate).collect();
    let mut found = FoundChains::default();
    if candidates.is_empty() {
        return Ok(found);
    }
    let tables = nft.tables()?;
    let mut rules: Option<((NftFamily, String), Vec<RuleInfo>)> = None;
    for foreign in candidates {
        let key = (foreign.chain.family, foreign.chain.table.clone());
        let owner =
            tables.iter().find(|table| (table.family, &table.name) == (key.0, &key.1)).and_then(|table| table.owner);
        // If the policy drops packets, the rules are not read, because there can be tens of
        // thousands.
        let policy = foreign.chain.base.is_some_and(|base| base.drops);
        if policy && owner.is_none() {
            found.open.push(foreign);
            continue;
        }
        let known = rules.take().filter(|(known, _)| *known == key);
        let (_, all) = match known {
            Some(known) => rules.insert(known),
            None => rules.insert((key, nft.rules(foreign.chain.table(), None)?)),
        };
        let reach = reach(all, &foreign.chain.name, interface);
        match owner {
            _ if !policy && !reach.drops => {}
            None => found.open.push(foreign),
            Some(owner) if !reach.names_interface => found.blocked.push(owned(&foreign, owner)),
            Some(_) => {}
        }
    }
    Ok(found)
}

fn candidate(chain: ChainInfo) -> Option<ForeignChain> {
    let hook = chain.base?.hook.filter(|hook| [NftHook::Forward, NftHook::Input].contains(hook))?;
    (!chain.table.starts_with(OWN_TABLES)).then_some(ForeignChain { chain, hook })
}

/// The rules that a packet can reach from a chain.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reach {
    /// There is a drop or reject.
    drops: bool,
    /// There is a rule that matches the run's interface: the user has opened the chain for
    /// netwatch.
    names_interface: bool,
}

fn reach(rules: &[RuleInfo], start: &str, interface: &str) -> Reach {
    let mut reach = Reach::default();
    let (mut seen, mut next) = (HashSet::from([start]), vec![start]);
    while let Some(chain) = next.pop() {
        for term in rules.iter().filter(|rule| rule.chain == chain).flat_map(|rule| &rule.terms) {
            match term {
                // A map can hold any verdict; a false positive costs one narrow rule.
                RuleTerm::Verdict(Verdict::Drop) | RuleTerm::Reject | RuleTerm::VerdictMap => reach.drops = true,
                RuleTerm::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) if seen.insert(to) => next.push(to),
                RuleTerm::Verdict(_) => {}
                RuleTerm::InterfaceIn(name) => reach.names_interface |= matches_name(name, interface),
            }
        }
    }
    reach
}

/// A name padded with zeros, or a prefix without zeros (`nw*`).
fn matches_name(pattern: &[u8], interface: &str) -> bool {
    match pattern.iter().position(|byte| *byte == 0) {
        Some(end) => &pattern[..end] == interface.as_bytes(),
        None => !pattern.is_empty() && interface.as_bytes().starts_with(pattern),
    }
}

fn owned(foreign: &ForeignChain, owner: u32) -> BlockedChain {
    let process = fs::read_to_string(format!("/proc/{owner}/comm")).map(|name| name.trim_end().to_owned());
    let who = process.map_or_else(|_| "another program".into(), |name| format!("{name} (pid {owner})"));
    let open = if foreign.chain.table == "firewalld" {
        "firewall-cmd --zone=trusted --add-interface=nw+".into()
    } else {
        let what = if foreign.hook == NftHook::Input { "DNS from" } else { "packets from and to" };
        format!("configure {who} to accept {what} interfaces nw*")
    };
    let cause = format!("the table belongs to {who}, and no other program can change it");
    BlockedChain { chain: foreign.chain.to_string(), hook: foreign.hook, cause, open }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(chain: &str, terms: &[RuleTerm]) -> RuleInfo {
        RuleInfo { chain: chain.into(), handle: 1, comment: None, packets: None, terms: terms.to_vec() }
    }

    fn jump(to: &str) -> RuleTerm {
        RuleTerm::Verdict(Verdict::Jump(to.into()))
    }

    #[test]
    fn finds_drops_through_jumps_and_ends_in_loops() {
        let drop = RuleTerm::Verdict(Verdict::Drop);
        let rules = [
            rule("a", &[jump("b")]),
            rule("b", &[jump("a"), jump("c")]),
            rule("c", &[RuleTerm::Verdict(Verdict::Goto("d".into()))]),
            rule("d", std::slice::from_ref(&drop)),
            rule("quiet", &[RuleTerm::Verdict(Verdict::Accept), jump("nowhere")]),
            rule("other", &[drop]),
        ];
        assert!(reach(&rules, "a", "nw0").drops);
        assert_eq!(reach(&rules, "quiet", "nw0"), Reach::default());
    }

    #[test]
    fn matches_whole_names_and_prefixes() {
        assert!(matches_name(b"nw", "nw12"));
        assert!(matches_name(b"nw12\0\0\0", "nw12"));
        assert!(!matches_name(b"nw\0", "nw12"));
        assert!(!matches_name(b"eth", "nw12"));
        assert!(!matches_name(b"", "nw12"));
    }
}
