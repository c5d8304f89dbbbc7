//! A rule being written: matches from left to right, then what happens. Reads like nft's own
//! language.

use std::net::IpAddr;

use super::attributes::Attributes;
use super::expression::{Expression, Verdict};
use super::wire::*;

/// Room for an interface name, as nft compares them: padded with zeros.
const NAME_SIZE: usize = 16;

/// Matches and an action. Build it with the methods, in the order the kernel shall test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expression>,
    comment: Option<String>,
    /// The protocol that xtables matches in this rule may rely on (`NFTA_RULE_COMPAT`).
    compat_protocol: Option<u8>,
}

impl Rule {
    /// Matches every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the other rule says, after this one.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.expressions.extend(other.expressions);
        self
    }

    /// Came in by this interface.
    #[must_use]
    pub fn iifname(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME, Expression::Equal(padded(name)))
    }

    /// Came in by another interface, or by none.
    #[must_use]
    pub fn iifname_not(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME, Expression::NotEqual(padded(name)))
    }

    /// Leaves by this interface.
    #[must_use]
    pub fn oifname(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME, Expression::Equal(padded(name)))
    }

    /// Leaves by another interface.
    #[must_use]
    pub fn oifname_not(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME, Expression::NotEqual(padded(name)))
    }

    /// Came in by an interface outside this group.
    #[must_use]
    pub fn iifgroup_not(self, group: u32) -> Self {
        self.meta(libc::NFT_META_IIFGROUP, Expression::NotEqual(group.to_ne_bytes().to_vec()))
    }

    /// Leaves by an interface outside this group.
    #[must_use]
    pub fn oifgroup_not(self, group: u32) -> Self {
        self.meta(libc::NFT_META_OIFGROUP, Expression::NotEqual(group.to_ne_bytes().to_vec()))
    }

    /// Is IPv4 (for tables of both families).
    #[must_use]
    pub fn ipv4(self) -> Self {
        self.meta(libc::NFT_META_NFPROTO, Expression::Equal(vec![libc::NFPROTO_IPV4 as u8]))
    }

    /// Is IPv6 (for tables of both families).
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.meta(libc::NFT_META_NFPROTO, Expression::Equal(vec![libc::NFPROTO_IPV6 as u8]))
    }

    /// Carries this transport protocol.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.meta(libc::NFT_META_L4PROTO, Expression::Equal(vec![number]))
    }

    /// Goes to this port. Only after [`Rule::protocol`] with one that has ports.
    #[must_use]
    pub fn destination_port(self, port: u16) -> Self {
        self.port(Expression::Equal(port.to_be_bytes().to_vec()))
    }

    /// Goes to another port. Only after [`Rule::protocol`] with one that has ports.
    #[must_use]
    pub fn destination_port_not(self, port: u16) -> Self {
        self.port(Expression::NotEqual(port.to_be_bytes().to_vec()))
    }

    /// Goes to this address; says the family too.
    #[must_use]
    pub fn destination(self, address: IpAddr) -> Self {
        self.address(address, DESTINATION).with(Expression::Equal(octets(address)))
    }

    /// Goes to another address of this family.
    #[must_use]
    pub fn destination_not(self, address: IpAddr) -> Self {
        self.address(address, DESTINATION).with(Expression::NotEqual(octets(address)))
    }

    /// Goes to 127.0.0.0/8; says the family too.
    #[must_use]
    pub fn to_loopback_v4(self) -> Self {
        self.loopback_v4(DESTINATION)
    }

    /// Comes from 127.0.0.0/8; says the family too.
    #[must_use]
    pub fn from_loopback_v4(self) -> Self {
        self.loopback_v4(SOURCE)
    }

    /// Goes to an address of this host.
    #[must_use]
    pub fn to_local(self) -> Self {
        let local = u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec();
        self.with(Expression::FibDestinationType).with(Expression::Equal(local))
    }

    /// Belongs to, or is related to, a connection that is known.
    #[must_use]
    pub fn established(self) -> Self {
        self.conntrack(libc::NFT_CT_STATE, CT_STATE_ESTABLISHED | CT_STATE_RELATED)
    }

    /// Belongs to a connection whose destination was translated.
    #[must_use]
    pub fn destination_translated(self) -> Self {
        self.conntrack(libc::NFT_CT_STATUS, CT_STATUS_DNAT)
    }

    /// Counts what has matched so far.
    #[must_use]
    pub fn counter(self) -> Self {
        self.with(Expression::Counter)
    }

    /// Marks the rule; nft shows it as `comment "…"`.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }

    /// Ends in a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.with(Expression::Verdict(verdict))
    }

    /// Ends in accept.
    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// Ends in drop.
    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    /// The source becomes the address of the outgoing interface.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with(Expression::Masquerade)
    }

    /// The destination becomes the incoming interface's address and this port.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        let value = port.to_be_bytes().to_vec();
        self.with(Expression::Load { register: libc::NFT_REG_1, value }).with(Expression::Redirect)
    }

    /// The destination becomes this address and port.
    #[must_use]
    pub fn destination_nat(self, address: IpAddr, port: u16) -> Self {
        self.with(Expression::Load { register: libc::NFT_REG_2, value: port.to_be_bytes().to_vec() })
            .destination_nat_to(address, true)
    }

    /// The destination becomes this address; the port stays. Only after [`Rule::protocol`].
    #[must_use]
    pub fn destination_nat_same_port(self, address: IpAddr) -> Self {
        self.destination_nat_to(address, false)
    }

    /// An xtables match, for tables that iptables-nft must be able to read afterwards.
    #[must_use]
    pub fn xtables_match(self, name: &'static str, revision: u32, mut info: Vec<u8>) -> Self {
        info.resize(info.len().next_multiple_of(8), 0); // XT_ALIGN
        self.with(Expression::Match { name, revision, info })
    }

    /// Interface names in the length iptables-nft writes them: with one final NUL.
    #[must_use]
    pub fn iptables_in(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME, Expression::Equal(terminated(name)))
    }

    /// As [`Rule::iptables_in`], for `-o`.
    #[must_use]
    pub fn iptables_out(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME, Expression::Equal(terminated(name)))
    }

    /// `-p`: as [`Rule::protocol`], and tells xtables matches that they can rely on it.
    #[must_use]
    pub fn iptables_protocol(mut self, number: u8) -> Self {
        self.compat_protocol = Some(number);
        self.protocol(number)
    }

    pub(super) fn encode(&self, rule: &mut Attributes) {
        rule.nest(RULE_EXPRESSIONS, |list| self.expressions.iter().for_each(|expression| expression.encode(list)));
        if let Some(protocol) = self.compat_protocol {
            rule.nest(RULE_COMPAT, |compat| {
                compat.put_u32(COMPAT_PROTO, protocol.into());
                compat.put_u32(COMPAT_FLAGS, 0);
            });
        }
        if let Some(comment) = &self.comment {
            let length = u8::try_from(comment.len() + 1).expect("netwatch's comments are short");
            let mut userdata = vec![USERDATA_COMMENT, length];
            userdata.extend(comment.as_bytes());
            userdata.push(0);
            rule.put(RULE_USERDATA, &userdata);
        }
    }

    fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn meta(self, key: i32, compare: Expression) -> Self {
        self.with(Expression::Meta(key)).with(compare)
    }

    fn conntrack(self, key: i32, bits: u32) -> Self {
        self.with(Expression::Conntrack(key))
            .with(Expression::Mask(bits.to_ne_bytes().to_vec()))
            .with(Expression::NotEqual(vec![0; 4]))
    }

    fn port(self, compare: Expression) -> Self {
        self.with(Expression::Payload { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2 }).with(compare)
    }

    fn address(self, address: IpAddr, end: End) -> Self {
        let (rule, offset, length) = match address {
            IpAddr::V4(_) => (self.ipv4(), end.v4_offset, 4),
            IpAddr::V6(_) => (self.ipv6(), end.v6_offset, 16),
        };
        rule.with(Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length })
    }

    /// One byte is enough to see 127.0.0.0/8.
    fn loopback_v4(self, end: End) -> Self {
        let first = Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: end.v4_offset, length: 1 };
        self.ipv4().with(first).with(Expression::Equal(vec![127]))
    }

    fn destination_nat_to(self, address: IpAddr, port: bool) -> Self {
        self.with(Expression::Load { register: libc::NFT_REG_1, value: octets(address) })
            .with(Expression::DestinationNat { family: nfproto(address), port })
    }
}

/// Where in the network header an address stands.
#[derive(Clone, Copy)]
struct End {
    v4_offset: u32,
    v6_offset: u32,
}

const SOURCE: End = End { v4_offset: 12, v6_offset: 8 };
const DESTINATION: End = End { v4_offset: 16, v6_offset: 24 };

fn nfproto(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_SIZE, 0);
    bytes
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
