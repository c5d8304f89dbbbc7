//! The expressions of rules, for the register machine of nf_tables.

use super::attributes::Attributes;
use super::wire::*;

/// A verdict, which ends the evaluation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The packet is discarded.
    Drop,
    /// The packet passes this base chain.
    Accept,
    /// Back to the calling chain.
    Return,
    /// Call this chain.
    Jump(String),
    /// Go to this chain without coming back.
    Goto(String),
    /// Any other code (queue, continue).
    Other(i32),
}

impl Verdict {
    const GOTO: i32 = -4;

    pub(super) fn from_code(code: i32, chain: Option<String>) -> Self {
        match (code, chain) {
            (libc::NF_DROP, _) => Self::Drop,
            (libc::NF_ACCEPT, _) => Self::Accept,
            (libc::NFT_RETURN, _) => Self::Return,
            (libc::NFT_JUMP, Some(chain)) => Self::Jump(chain),
            (Self::GOTO, Some(chain)) => Self::Goto(chain),
            (code, _) => Self::Other(code),
        }
    }

    fn code(&self) -> i32 {
        match self {
            Self::Drop => libc::NF_DROP,
            Self::Accept => libc::NF_ACCEPT,
            Self::Return => libc::NFT_RETURN,
            Self::Jump(_) => libc::NFT_JUMP,
            Self::Goto(_) => Self::GOTO,
            Self::Other(code) => *code,
        }
    }

    fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// One instruction. Loads go to register 1, comparisons read it; ports for NAT are in register 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    Meta(i32),
    Conntrack(i32),
    /// Address type (`RTN_*`) of the destination.
    FibDestinationType,
    Payload {
        base: i32,
        offset: u32,
        length: u32,
    },
    Mask(Vec<u8>),
    Equal(Vec<u8>),
    NotEqual(Vec<u8>),
    Load {
        register: i32,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    Masquerade,
    /// NAT to the address in register 1 and, with `port`, to the port in register 2.
    DestinationNat {
        family: i32,
        port: bool,
    },
    /// NAT to the port in register 1, at the address of the incoming interface.
    Redirect,
    Counter,
    /// An xtables match, for tables that iptables-nft must still be able to read.
    Match {
        name: &'static str,
        revision: u32,
        info: Vec<u8>,
    },
}

impl Expression {
    pub(super) fn encode(&self, list: &mut Attributes) {
        list.nest(LIST_ELEM, |element| {
            element.put_text(EXPR_NAME, self.name());
            element.nest(EXPR_DATA, |data| self.encode_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Conntrack(_) => "ct",
            Self::FibDestinationType => "fib",
            Self::Payload { .. } => "payload",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::Load { .. } | Self::Verdict(_) => "immediate",
            Self::Masquerade => "masq",
            Self::DestinationNat { .. } => "nat",
            Self::Redirect => "redir",
            Self::Counter => "counter",
            Self::Match { .. } => "match",
        }
    }

    fn encode_data(&self, data: &mut Attributes) {
        match self {
            Self::Meta(key) => register_and(data, META_DREG, &[(META_KEY, *key as u32)]),
            Self::Conntrack(key) => register_and(data, CT_DREG, &[(CT_KEY, *key as u32)]),
            Self::FibDestinationType => {
                register_and(data, FIB_DREG, &[(FIB_RESULT, FIB_RESULT_ADDRTYPE), (FIB_FLAGS, FIB_F_DADDR)]);
            }
            Self::Payload { base, offset, length } => {
                let fields = [(PAYLOAD_BASE, *base as u32), (PAYLOAD_OFFSET, *offset), (PAYLOAD_LEN, *length)];
                register_and(data, PAYLOAD_DREG, &fields);
            }
            Self::Mask(mask) => encode_mask(data, mask),
            Self::Equal(value) => encode_compare(data, CMP_EQ, value),
            Self::NotEqual(value) => encode_compare(data, CMP_NEQ, value),
            Self::Load { register, value } => {
                data.put_u32(IMMEDIATE_DREG, *register as u32);
                data.nest(IMMEDIATE_DATA, |inner| inner.put(DATA_VALUE, value));
            }
            Self::Verdict(verdict) => encode_verdict(data, verdict),
            Self::Masquerade => {}
            Self::DestinationNat { family, port } => encode_nat(data, *family, *port),
            Self::Redirect => data.put_u32(REDIR_REG_PROTO_MIN, libc::NFT_REG_1 as u32),
            Self::Counter => {
                data.put_u64(COUNTER_BYTES, 0);
                data.put_u64(COUNTER_PACKETS, 0);
            }
            Self::Match { name, revision, info } => {
                data.put_text(XT_NAME, name);
                data.put_u32(XT_REV, *revision);
                data.put(XT_INFO, info);
            }
        }
    }
}

fn register_and(data: &mut Attributes, register: u16, fields: &[(u16, u32)]) {
    data.put_u32(register, libc::NFT_REG_1 as u32);
    for (kind, value) in fields {
        data.put_u32(*kind, *value);
    }
}

fn encode_compare(data: &mut Attributes, operator: u32, value: &[u8]) {
    register_and(data, CMP_SREG, &[(CMP_OP, operator)]);
    data.nest(CMP_DATA, |inner| inner.put(DATA_VALUE, value));
}

fn encode_mask(data: &mut Attributes, mask: &[u8]) {
    let register = libc::NFT_REG_1 as u32;
    data.put_u32(BITWISE_SREG, register);
    data.put_u32(BITWISE_DREG, register);
    data.put_u32(BITWISE_LEN, mask.len() as u32);
    data.nest(BITWISE_MASK, |inner| inner.put(DATA_VALUE, mask));
    data.nest(BITWISE_XOR, |inner| inner.put(DATA_VALUE, &vec![0; mask.len()]));
}

fn encode_verdict(data: &mut Attributes, verdict: &Verdict) {
    data.put_u32(IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
    data.nest(IMMEDIATE_DATA, |inner| {
        inner.nest(DATA_VERDICT, |fields| {
            fields.put_u32(VERDICT_CODE, verdict.code() as u32);
            if let Some(chain) = verdict.chain() {
                fields.put_text(VERDICT_CHAIN, chain);
            }
        });
    });
}

fn encode_nat(data: &mut Attributes, family: i32, port: bool) {
    data.put_u32(NAT_TYPE, libc::NFT_NAT_DNAT as u32);
    data.put_u32(NAT_FAMILY, family as u32);
    data.put_u32(NAT_REG_ADDR_MIN, libc::NFT_REG_1 as u32);
    if port {
        data.put_u32(NAT_REG_PROTO_MIN, libc::NFT_REG_2 as u32);
    }
}
