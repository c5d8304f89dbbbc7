//! Parses tables, chains and rules as the kernel lists them, as far as netwatch needs: owners,
//! policies and verdicts.

use super::attributes::{find, find_text, find_u32, find_u64, parse, text};
use super::expression::Verdict;
use super::wire::*;
use super::{NftFamily, NftHook, NftTable};

/// A table of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its family.
    pub family: NftFamily,
    /// Its name.
    pub name: String,
    /// The netlink port of the socket that owns it (usually the process id), if a socket owns it.
    pub owner: Option<u32>,
}

/// A chain of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// Family of its table.
    pub family: NftFamily,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Hook and policy; `None` if only other chains lead to it.
    pub base: Option<BaseInfo>,
}

/// Hook and policy of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseInfo {
    /// Its hook; `None` for hooks of other families (ingress).
    pub hook: Option<NftHook>,
    /// Whether its policy is drop.
    pub drops: bool,
}

/// A rule of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its chain.
    pub chain: String,
    /// Its handle, which is unique in the table.
    pub handle: u64,
    /// The comment of nft, or of `iptables -m comment`.
    pub comment: Option<String>,
    /// Number of packets that its counter has counted.
    pub packets: Option<u64>,
    /// The parts that netwatch parses, in order.
    pub terms: Vec<RuleTerm>,
}

/// A part of a rule that affects where packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleTerm {
    /// A verdict.
    Verdict(Verdict),
    /// A reject, or an xtables target that discards.
    Reject,
    /// A verdict from a map: it can be any verdict.
    VerdictMap,
    /// Matches the incoming interface by this prefix of its name (with a final NUL, by the whole
    /// name).
    InterfaceIn(Vec<u8>),
}

impl TableInfo {
    pub(super) fn parse(family: u8, attributes: &[u8]) -> Option<Self> {
        let family = NftFamily::from_raw(family)?;
        Some(Self { family, name: find_text(attributes, TABLE_NAME)?, owner: find_u32(attributes, TABLE_OWNER) })
    }
}

impl ChainInfo {
    /// Its table.
    pub fn table(&self) -> NftTable<'_> {
        NftTable { family: self.family, name: &self.table }
    }

    pub(super) fn parse(family: u8, attributes: &[u8]) -> Option<Self> {
        let base = find(attributes, CHAIN_HOOK).map(|hook| BaseInfo {
            hook: find_u32(hook, HOOK_NUM).and_then(NftHook::from_raw),
            drops: find_u32(attributes, CHAIN_POLICY) == Some(libc::NF_DROP as u32),
        });
        Some(Self {
            family: NftFamily::from_raw(family)?,
            table: find_text(attributes, CHAIN_TABLE)?,
            name: find_text(attributes, CHAIN_NAME)?,
            base,
        })
    }
}

impl std::fmt::Display for ChainInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

impl RuleInfo {
    pub(super) fn parse(_family: u8, attributes: &[u8]) -> Option<Self> {
        let expressions = find(attributes, RULE_EXPRESSIONS).unwrap_or_default();
        Some(Self {
            chain: find_text(attributes, RULE_CHAIN)?,
            handle: find_u64(attributes, RULE_HANDLE)?,
            comment: find(attributes, RULE_USERDATA).and_then(comment).or_else(|| xtables_comment(expressions)),
            packets: counted(expressions),
            terms: terms(expressions),
        })
    }
}

/// The user data of nft is a list of type, length, value.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            return Some(text(value));
        }
        userdata = &rest[value.len()..];
    }
    None
}

/// iptables-restore turns a comment of nft into an xtables match (`-m comment`).
fn xtables_comment(list: &[u8]) -> Option<String> {
    let data = parse(list).filter_map(|(_, element)| find(element, EXPR_DATA));
    let mut comments = data.filter(|data| find_text(data, XT_NAME).as_deref() == Some("comment"));
    comments.find_map(|data| find_text(data, XT_INFO))
}

fn counted(list: &[u8]) -> Option<u64> {
    let is_counter = |element: &&[u8]| find_text(element, EXPR_NAME).as_deref() == Some("counter");
    let counter = parse(list).map(|(_, element)| element).find(is_counter)?;
    find_u64(find(counter, EXPR_DATA)?, COUNTER_PACKETS)
}

fn terms(list: &[u8]) -> Vec<RuleTerm> {
    let mut interface_loaded = false;
    let mut found = Vec::new();
    for (_, element) in parse(list) {
        let name = find_text(element, EXPR_NAME).unwrap_or_default();
        let data = find(element, EXPR_DATA).unwrap_or_default();
        found.extend(term(&name, data, interface_loaded));
        interface_loaded = name == "meta" && find_u32(data, META_KEY) == Some(libc::NFT_META_IIFNAME as u32);
    }
    found
}

fn term(name: &str, data: &[u8], interface_loaded: bool) -> Option<RuleTerm> {
    match name {
        "immediate" => verdict(data).map(RuleTerm::Verdict),
        "reject" => Some(RuleTerm::Reject),
        "target" => xtables_target(&find_text(data, XT_NAME)?),
        "lookup" => (find_u32(data, LOOKUP_DREG)? == libc::NFT_REG_VERDICT as u32).then_some(RuleTerm::VerdictMap),
        "cmp" if interface_loaded && find_u32(data, CMP_OP) == Some(CMP_EQ) => {
            Some(RuleTerm::InterfaceIn(find(find(data, CMP_DATA)?, DATA_VALUE)?.to_vec()))
        }
        _ => None,
    }
}

fn verdict(data: &[u8]) -> Option<Verdict> {
    let fields = find(find(data, IMMEDIATE_DATA)?, DATA_VERDICT)?;
    Some(Verdict::from_code(find_u32(fields, VERDICT_CODE)? as i32, find_text(fields, VERDICT_CHAIN)))
}

/// Targets that discard packets; the others mark, log or translate.
fn xtables_target(name: &str) -> Option<RuleTerm> {
    ["REJECT", "DROP", "TARPIT", "CHAOS", "DELUDE"].contains(&name).then_some(RuleTerm::Reject)
}
