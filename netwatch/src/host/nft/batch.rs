//! Changes that are committed together or not at all. Pure: builds bytes, sends nothing.

use super::attributes::Attributes;
use super::rule::Rule;
use super::wire::*;
use super::{NftFamily, NftTable};

/// The hook of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of the kernel")]
#[repr(u32)]
pub enum NftHook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl NftHook {
    /// From `NF_INET_*`; `None` for hooks of other families.
    pub fn from_raw(raw: u32) -> Option<Self> {
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting]
            .into_iter()
            .find(|hook| *hook as u32 == raw)
    }
}

impl std::fmt::Display for NftHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of the kernel")]
pub enum ChainKind {
    Filter,
    Nat,
}

/// The properties of a base chain. Its policy is accept: netwatch's own chains drop by rules only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of the kernel")]
pub struct BaseChain {
    pub kind: ChainKind,
    pub hook: NftHook,
    pub priority: i32,
}

/// Changes for [`super::Nft::commit`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    messages: Vec<BatchMessage>,
}

/// One change: operation and object for errors, and its bytes without netlink header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchMessage {
    pub operation: &'static str,
    pub object: String,
    kind: u16,
    flags: u16,
    family: u8,
    attributes: Attributes,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has no change.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Creates a table that belongs to the socket: no other program can change it, and the kernel
    /// removes it when the socket is closed, even by SIGKILL.
    pub fn create_owned_table(&mut self, table: NftTable<'_>) {
        let mut attributes = Attributes::default();
        attributes.put_text(TABLE_NAME, table.name);
        attributes.put_u32(TABLE_FLAGS, TABLE_F_OWNER);
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, "create nftables table", table.to_string(), table, attributes);
    }

    /// Creates a chain; with `base`, a base chain.
    pub fn create_chain(&mut self, table: NftTable<'_>, name: &str, base: Option<BaseChain>) {
        let mut attributes = Attributes::default();
        attributes.put_text(CHAIN_TABLE, table.name);
        attributes.put_text(CHAIN_NAME, name);
        if let Some(base) = base {
            attributes.nest(CHAIN_HOOK, |hook| {
                hook.put_u32(HOOK_NUM, base.hook as u32);
                hook.put_u32(HOOK_PRIORITY, base.priority as u32);
            });
            attributes.put_text(CHAIN_TYPE, if base.kind == ChainKind::Nat { "nat" } else { "filter" });
            attributes.put_u32(CHAIN_POLICY, libc::NF_ACCEPT as u32);
        }
        let object = format!("{table} {name}");
        self.push(libc::NFT_MSG_NEWCHAIN, CREATE, "create nftables chain", object, table, attributes);
    }

    /// Adds a rule at the end of a chain.
    pub fn append_rule(&mut self, table: NftTable<'_>, chain: &str, rule: &Rule) {
        self.rule(libc::NLM_F_CREATE | libc::NLM_F_APPEND, table, chain, rule);
    }

    /// Inserts a rule at the top of a chain.
    pub fn insert_rule(&mut self, table: NftTable<'_>, chain: &str, rule: &Rule) {
        self.rule(libc::NLM_F_CREATE, table, chain, rule);
    }

    /// Removes one rule.
    pub fn delete_rule(&mut self, table: NftTable<'_>, chain: &str, handle: u64) {
        let mut attributes = in_chain(table, chain);
        attributes.put_u64(RULE_HANDLE, handle);
        let object = format!("{table} {chain} handle {handle}");
        self.push(libc::NFT_MSG_DELRULE, 0, "delete nftables rule", object, table, attributes);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, table: NftTable<'_>, chain: &str) {
        let object = format!("{table} {chain}");
        self.push(libc::NFT_MSG_DELRULE, 0, "flush nftables chain", object, table, in_chain(table, chain));
    }

    fn rule(&mut self, flags: i32, table: NftTable<'_>, chain: &str, rule: &Rule) {
        let mut attributes = in_chain(table, chain);
        rule.encode(&mut attributes);
        let object = format!("{table} {chain}");
        self.push(libc::NFT_MSG_NEWRULE, flags, "add nftables rule to", object, table, attributes);
    }

    fn push(
        &mut self,
        kind: i32,
        flags: i32,
        operation: &'static str,
        object: String,
        table: NftTable<'_>,
        attributes: Attributes,
    ) {
        let (kind, flags, family) = (SUBSYSTEM << 8 | kind as u16, flags as u16, table.family as u8);
        self.messages.push(BatchMessage { operation, object, kind, flags, family, attributes });
    }

    /// The message with this sequence number of [`Batch::encode`]; `None` for the two that enclose
    /// the batch.
    pub(super) fn message(&self, first: u32, sequence: u32) -> Option<&BatchMessage> {
        self.messages.get(sequence.checked_sub(first)?.checked_sub(1)? as usize)
    }

    /// The sequence number of the last change, which is acknowledged.
    pub(super) fn last(&self, first: u32) -> u32 {
        first + self.messages.len() as u32
    }

    /// BEGIN, the changes, END. The sequence numbers count from `first`; only the last change
    /// requests an acknowledgment, because errors are reported for every message anyway.
    pub(super) fn encode(&self, first: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 * (self.messages.len() + 1));
        push_frame(&mut bytes, libc::NFNL_MSG_BATCH_BEGIN as u16, 0, first);
        for (message, sequence) in self.messages.iter().zip(first + 1..) {
            let acknowledge = if sequence == self.last(first) { libc::NLM_F_ACK as u16 } else { 0 };
            let body = message.attributes.bytes();
            push_header(&mut bytes, body.len(), message.kind, message.flags | acknowledge, sequence);
            bytes.extend([message.family, 0, 0, 0]);
            bytes.extend(body);
        }
        push_frame(&mut bytes, libc::NFNL_MSG_BATCH_END as u16, 0, self.last(first) + 1);
        bytes
    }
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

fn in_chain(table: NftTable<'_>, chain: &str) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.put_text(RULE_TABLE, table.name);
    attributes.put_text(RULE_CHAIN, chain);
    attributes
}

/// The messages that enclose a batch name the subsystem in `res_id`.
fn push_frame(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) {
    push_header(bytes, 0, kind, flags, sequence);
    bytes.extend([0, 0]);
    bytes.extend(SUBSYSTEM.to_be_bytes());
}

fn push_header(bytes: &mut Vec<u8>, body: usize, kind: u16, flags: u16, sequence: u32) {
    bytes.extend(((NETLINK_HEADER + NFGEN_HEADER + body) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
}

/// A request to list all objects of a kind, or those that the attributes select.
pub(super) fn encode_dump(kind: i32, family: Option<NftFamily>, attributes: &Attributes, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let kind = SUBSYSTEM << 8 | kind as u16;
    push_header(&mut bytes, attributes.bytes().len(), kind, libc::NLM_F_DUMP as u16, sequence);
    bytes.extend([family.map_or(libc::NFPROTO_UNSPEC as u8, |family| family as u8), 0, 0, 0]);
    bytes.extend(attributes.bytes());
    bytes
}

/// Selects the rules of a table, or of a chain in it.
pub(super) fn rules_of(table: NftTable<'_>, chain: Option<&str>) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.put_text(RULE_TABLE, table.name);
    if let Some(chain) = chain {
        attributes.put_text(RULE_CHAIN, chain);
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encloses_a_batch_and_acknowledges_only_its_last_change() {
        let table = NftTable { family: NftFamily::Inet, name: "t" };
        let mut batch = Batch::new();
        batch.create_owned_table(table);
        batch.create_chain(table, "c", None);
        let bytes = batch.encode(7);
        let headers = headers(&bytes);
        let kinds: Vec<u16> = headers.iter().map(|header| header.0).collect();
        assert_eq!(kinds, [0x10, 0x0a00, 0x0a03, 0x11]);
        let acknowledged: Vec<bool> = headers.iter().map(|header| header.1 & libc::NLM_F_ACK as u16 != 0).collect();
        assert_eq!(acknowledged, [false, false, true, false]);
        let sequence: Vec<u32> = headers.iter().map(|header| header.2).collect();
        assert_eq!(sequence, [7, 8, 9, 10]);
        assert_eq!(batch.message(7, 9).unwrap().object, "inet t c");
        assert!(batch.message(7, 7).is_none() && batch.message(7, 10).is_none() && batch.message(7, 3).is_none());
    }

    fn headers(mut bytes: &[u8]) -> Vec<(u16, u16, u32)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
            found.push((half(4), half(6), u32::from_ne_bytes(bytes[8..12].try_into().unwrap())));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn encodes_a_table_as_the_kernel_expects() {
        let mut batch = Batch::new();
        batch.create_owned_table(NftTable { family: NftFamily::Inet, name: "abc" });
        let bytes = batch.encode(0);
        let body = &bytes[NETLINK_HEADER + NFGEN_HEADER..][NETLINK_HEADER..];
        let expected = [1, 0, 0, 0, 8, 0, 1, 0, b'a', b'b', b'c', 0, 8, 0, 2, 0, 0, 0, 0, 2];
        assert_eq!(body[..expected.len()], expected);
    }
}
