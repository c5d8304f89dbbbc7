//! Constants of `linux/netfilter/nf_tables.h` that libc does not define.

pub const SUBSYSTEM: u16 = 10;
pub const NETLINK_HEADER: usize = 16;
pub const NFGEN_HEADER: usize = 4;

pub const LIST_ELEM: u16 = 1;

pub const TABLE_NAME: u16 = 1;
pub const TABLE_FLAGS: u16 = 2;
pub const TABLE_OWNER: u16 = 7;
pub const TABLE_F_OWNER: u32 = 2;

pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const CHAIN_POLICY: u16 = 5;
pub const CHAIN_TYPE: u16 = 7;
pub const HOOK_NUM: u16 = 1;
pub const HOOK_PRIORITY: u16 = 2;

pub const RULE_TABLE: u16 = 1;
pub const RULE_CHAIN: u16 = 2;
pub const RULE_HANDLE: u16 = 3;
pub const RULE_EXPRESSIONS: u16 = 4;
pub const RULE_COMPAT: u16 = 5;
pub const RULE_USERDATA: u16 = 7;
pub const COMPAT_PROTO: u16 = 1;
pub const COMPAT_FLAGS: u16 = 2;
/// Convention of nft and iptables-nft for the opaque user data: type 0 is a comment with its final
/// NUL.
pub const USERDATA_COMMENT: u8 = 0;

pub const EXPR_NAME: u16 = 1;
pub const EXPR_DATA: u16 = 2;
pub const DATA_VALUE: u16 = 1;
pub const DATA_VERDICT: u16 = 2;
pub const VERDICT_CODE: u16 = 1;
pub const VERDICT_CHAIN: u16 = 2;

pub const META_DREG: u16 = 1;
pub const META_KEY: u16 = 2;
pub const CMP_SREG: u16 = 1;
pub const CMP_OP: u16 = 2;
pub const CMP_DATA: u16 = 3;
pub const CMP_EQ: u32 = 0;
pub const CMP_NEQ: u32 = 1;
pub const PAYLOAD_DREG: u16 = 1;
pub const PAYLOAD_BASE: u16 = 2;
pub const PAYLOAD_OFFSET: u16 = 3;
pub const PAYLOAD_LEN: u16 = 4;
pub const BITWISE_SREG: u16 = 1;
pub const BITWISE_DREG: u16 = 2;
pub const BITWISE_LEN: u16 = 3;
pub const BITWISE_MASK: u16 = 4;
pub const BITWISE_XOR: u16 = 5;
pub const CT_DREG: u16 = 1;
pub const CT_KEY: u16 = 2;
pub const FIB_DREG: u16 = 1;
pub const FIB_RESULT: u16 = 2;
pub const FIB_FLAGS: u16 = 3;
pub const FIB_RESULT_ADDRTYPE: u32 = 3;
pub const FIB_F_DADDR: u32 = 2;
pub const IMMEDIATE_DREG: u16 = 1;
pub const IMMEDIATE_DATA: u16 = 2;
pub const NAT_TYPE: u16 = 1;
pub const NAT_FAMILY: u16 = 2;
pub const NAT_REG_ADDR_MIN: u16 = 3;
pub const NAT_REG_PROTO_MIN: u16 = 5;
pub const REDIR_REG_PROTO_MIN: u16 = 1;
pub const COUNTER_BYTES: u16 = 1;
pub const COUNTER_PACKETS: u16 = 2;
pub const LOOKUP_DREG: u16 = 3;
/// Name and information of an xtables match or target (`NFTA_MATCH_*` and `NFTA_TARGET_*` have the
/// same numbers).
pub const XT_NAME: u16 = 1;
pub const XT_REV: u16 = 2;
pub const XT_INFO: u16 = 3;

/// Bits of `ct state`: `1 << (ctinfo % IP_CT_IS_REPLY + 1)`.
pub const CT_STATE_INVALID: u32 = 1;
pub const CT_STATE_UNTRACKED: u32 = 1 << 6;
pub const CT_STATE_ESTABLISHED: u32 = 2;
pub const CT_STATE_RELATED: u32 = 4;
/// `IPS_DST_NAT` of `ct status`.
pub const CT_STATUS_DNAT: u32 = 1 << 5;
