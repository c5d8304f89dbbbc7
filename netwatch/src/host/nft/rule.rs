//! Builds a rule: matches from left to right, then the action, as in the language of nft.

use std::net::{IpAddr, Ipv6Addr};

use super::attributes::Attributes;
use super::expression::{Expression, Verdict};
use super::wire::*;

/// Size of an interface name as nft compares it: padded with zeros.
const NAME_SIZE: usize = 16;

/// Matches and an action, in the order in which the kernel evaluates them.
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

    /// Appends the matches of another rule.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.expressions.extend(other.expressions);
        self
    }

    /// Matches packets that arrived by this interface.
    #[must_use]
    pub fn iifname(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME, Expression::Equal(padded(name)))
    }

    /// Matches packets that leave by this interface.
    #[must_use]
    pub fn oifname(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME, Expression::Equal(padded(name)))
    }

    /// Matches packets that arrived by the interface with this index. Much cheaper than a name,
    /// which the kernel copies for every packet.
    #[must_use]
    pub fn iif(self, index: u32) -> Self {
        self.meta(libc::NFT_META_IIF, Expression::Equal(index.to_ne_bytes().to_vec()))
    }

    /// Matches packets that arrived by an interface with another index, or by none.
    #[must_use]
    pub fn iif_not(self, index: u32) -> Self {
        self.meta(libc::NFT_META_IIF, Expression::NotEqual(index.to_ne_bytes().to_vec()))
    }

    /// Matches packets that leave by the interface with this index.
    #[must_use]
    pub fn oif(self, index: u32) -> Self {
        self.meta(libc::NFT_META_OIF, Expression::Equal(index.to_ne_bytes().to_vec()))
    }

    /// Matches packets that leave by an interface with another index, or by none.
    #[must_use]
    pub fn oif_not(self, index: u32) -> Self {
        self.meta(libc::NFT_META_OIF, Expression::NotEqual(index.to_ne_bytes().to_vec()))
    }

    /// Matches packets that arrived by an interface outside this group.
    #[must_use]
    pub fn iifgroup_not(self, group: u32) -> Self {
        self.meta(libc::NFT_META_IIFGROUP, Expression::NotEqual(group.to_ne_bytes().to_vec()))
    }

    /// Matches packets that leave by an interface outside this group.
    #[must_use]
    pub fn oifgroup_not(self, group: u32) -> Self {
        self.meta(libc::NFT_META_OIFGROUP, Expression::NotEqual(group.to_ne_bytes().to_vec()))
    }

    /// Matches IPv4 (for tables of both families).
    #[must_use]
    pub fn ipv4(self) -> Self {
        self.meta(libc::NFT_META_NFPROTO, Expression::Equal(vec![libc::NFPROTO_IPV4 as u8]))
    }

    /// Matches IPv6 (for tables of both families).
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.meta(libc::NFT_META_NFPROTO, Expression::Equal(vec![libc::NFPROTO_IPV6 as u8]))
    }

    /// Matches this transport protocol.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.meta(libc::NFT_META_L4PROTO, Expression::Equal(vec![number]))
    }

    /// Matches this destination port. Only after [`Rule::protocol`] with one that has ports.
    #[must_use]
    pub fn destination_port(self, port: u16) -> Self {
        self.port(Expression::Equal(port.to_be_bytes().to_vec()))
    }

    /// Matches this destination address and its family.
    #[must_use]
    pub fn destination(self, address: IpAddr) -> Self {
        self.address(address, DESTINATION).with(Expression::Equal(octets(address)))
    }

    /// Matches every other destination address of this family.
    #[must_use]
    pub fn destination_not(self, address: IpAddr) -> Self {
        self.address(address, DESTINATION).with(Expression::NotEqual(octets(address)))
    }

    /// Matches every other source address of this family.
    #[must_use]
    pub fn source_not(self, address: IpAddr) -> Self {
        self.address(address, SOURCE).with(Expression::NotEqual(octets(address)))
    }

    /// Matches every source address that is neither link-local nor unspecified (IPv6).
    #[must_use]
    pub fn source_not_link_local(self) -> Self {
        const PREFIX: [u8; 2] = [0xff, 0xc0];
        let first = Expression::Payload {
            base: libc::NFT_PAYLOAD_NETWORK_HEADER,
            offset: SOURCE.v6_offset,
            length: PREFIX.len() as u32,
        };
        let link_local = self.ipv6().with(first).with(Expression::Mask(PREFIX.to_vec()));
        link_local.with(Expression::NotEqual(vec![0xfe, 0x80])).source_not(Ipv6Addr::UNSPECIFIED.into())
    }

    /// Matches ICMP or ICMPv6 messages that begin with these bytes: the type, or type and code.
    #[must_use]
    pub fn icmp(self, message: &[u8]) -> Self {
        let length = message.len() as u32;
        self.with(Expression::Payload { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, length })
            .with(Expression::Equal(message.to_vec()))
    }

    /// Matches destinations in 127.0.0.0/8.
    #[must_use]
    pub fn to_loopback_v4(self) -> Self {
        self.loopback_v4(DESTINATION)
    }

    /// Matches sources in 127.0.0.0/8.
    #[must_use]
    pub fn from_loopback_v4(self) -> Self {
        self.loopback_v4(SOURCE)
    }

    /// Matches destinations that are addresses of this host.
    #[must_use]
    pub fn to_local(self) -> Self {
        let local = u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec();
        self.with(Expression::FibDestinationType).with(Expression::Equal(local))
    }

    /// Matches packets of tracked connections, and packets related to one.
    #[must_use]
    pub fn established(self) -> Self {
        self.conntrack(libc::NFT_CT_STATE, CT_STATE_ESTABLISHED | CT_STATE_RELATED)
    }

    /// Matches packets of no connection that can be tracked, which NAT does not translate.
    #[must_use]
    pub fn untracked(self) -> Self {
        self.conntrack(libc::NFT_CT_STATE, CT_STATE_INVALID | CT_STATE_UNTRACKED)
    }

    /// Matches packets of connections whose destination was translated.
    #[must_use]
    pub fn destination_translated(self) -> Self {
        self.conntrack(libc::NFT_CT_STATUS, CT_STATUS_DNAT)
    }

    /// Counts the packets that have matched so far.
    #[must_use]
    pub fn counter(self) -> Self {
        self.with(Expression::Counter)
    }

    /// Adds a comment; nft prints it as `comment "…"`.
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

    /// Translates the source to the address of the outgoing interface.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with(Expression::Masquerade)
    }

    /// Translates the destination to the incoming interface's address and this port.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        let value = port.to_be_bytes().to_vec();
        self.with(Expression::Load { register: libc::NFT_REG_1, value }).with(Expression::Redirect)
    }

    /// Translates the destination to this address and port.
    #[must_use]
    pub fn destination_nat(self, address: IpAddr, port: u16) -> Self {
        self.with(Expression::Load { register: libc::NFT_REG_2, value: port.to_be_bytes().to_vec() })
            .destination_nat_to(address, true)
    }

    /// Adds an xtables match, for tables that iptables-nft must still be able to list.
    #[must_use]
    pub fn xtables_match(self, name: &'static str, revision: u32, mut info: Vec<u8>) -> Self {
        info.resize(info.len().next_multiple_of(8), 0); // XT_ALIGN
        self.with(Expression::Match { name, revision, info })
    }

    /// `-i`, with the interface name in the length that iptables-nft writes: with one final NUL.
    #[must_use]
    pub fn iptables_in(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME, Expression::Equal(terminated(name)))
    }

    /// As [`Rule::iptables_in`], for `-o`.
    #[must_use]
    pub fn iptables_out(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME, Expression::Equal(terminated(name)))
    }

    /// `-p`: as [`Rule::protocol`], and lets xtables matches rely on it.
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

    /// One byte is enough to match 127.0.0.0/8.
    fn loopback_v4(self, end: End) -> Self {
        let first = Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: end.v4_offset, length: 1 };
        self.ipv4().with(first).with(Expression::Equal(vec![127]))
    }

    fn destination_nat_to(self, address: IpAddr, port: bool) -> Self {
        self.with(Expression::Load { register: libc::NFT_REG_1, value: octets(address) })
            .with(Expression::DestinationNat { family: nfproto(address), port })
    }
}

/// Offset of an address in the network header.
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
