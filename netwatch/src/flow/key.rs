//! Keys under which packets are counted: flows and remainders.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// A direction from the target's view: egress is sent by the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Sent by the target. A flow with this direction was opened by the target ("out").
    Egress,
    /// Received by the target. A flow with this direction was opened by the remote ("in").
    Ingress,
}

impl Direction {
    /// The other direction.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }

    /// The word in reports for a flow that this side opened: `out` for the target, `in` for the
    /// remote.
    pub fn of_flow(self) -> &'static str {
        match self {
            Self::Egress => "out",
            Self::Ingress => "in",
        }
    }
}

/// Where packets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObservationPoint {
    /// The veth pair that connects the namespace to the host.
    Link,
    /// The `lo` interface of the namespace. There, egress means "sent by `local`".
    Loopback,
}

/// Address and port of one end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportAddress {
    /// The IP address.
    pub addr: IpAddr,
    /// The port in host byte order; 0 for protocols without ports.
    pub port: u16,
}

/// The key of a bidirectional flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Where its packets are counted.
    pub point: ObservationPoint,
    /// IANA protocol number of the innermost header that the parser supports.
    pub protocol: u8,
    /// True for later IP fragments without a first fragment. Only the first one has the ports, so
    /// both ports are 0.
    pub fragment: bool,
    /// The end of the target.
    pub local: TransportAddress,
    /// The end of the remote.
    pub remote: TransportAddress,
}

/// In few whole words, because every packet of a new connection looks up several tables.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { point, protocol, fragment, local, remote } = self;
        let [loopback, fragment] = [*point == ObservationPoint::Loopback, *fragment].map(u64::from);
        let ports = u64::from(local.port) << 16 | u64::from(remote.port);
        state.write_u64(loopback << 48 | fragment << 40 | u64::from(*protocol) << 32 | ports);
        for end in [local, remote] {
            // An IPv4 address and the same one mapped into IPv6 are different keys of one hash.
            state.write_u128(match end.addr {
                IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
                IpAddr::V6(addr) => addr.to_bits(),
            });
        }
    }
}

/// The identity of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    /// The key, which successive connections can share.
    pub key: FlowKey,
    /// Distinguishes successive connections on this key: 0 for the first, higher for each later
    /// one.
    pub epoch: u32,
}

/// Link housekeeping: packets that mostly the kernel generates, on any link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Housekeeping {
    /// ARP (EtherType 0x0806).
    Arp,
    /// ICMPv6 types 133–137 (RFC 4861).
    NeighborDiscovery,
    /// ICMPv6 types 130–132 and 143 (RFC 2710, RFC 3810).
    Mld,
    /// IGMP (IP protocol 2).
    Igmp,
}

/// Why a packet could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Shorter than its link-layer header.
    Ethernet,
    /// IP version nibble and EtherType disagree.
    IpVersion,
    /// IPv4 header length under 20 bytes, or longer than the packet.
    Ipv4HeaderLength,
    /// IPv4 total length or IPv6 payload length is shorter than the headers or longer than the
    /// packet.
    IpLength,
    /// Cut off inside the IP header.
    IpTruncated,
    /// An IPv6 extension header exceeds the packet, or there are more of them than the parser
    /// supports.
    ExtensionHeader,
    /// Cut off before the ports.
    TransportTruncated,
}

impl Malformed {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ethernet => "ethernet",
            Self::IpVersion => "ip_version",
            Self::Ipv4HeaderLength => "ipv4_header_length",
            Self::IpLength => "ip_length",
            Self::IpTruncated => "ip_truncated",
            Self::ExtensionHeader => "extension_header",
            Self::TransportTruncated => "transport_truncated",
        }
    }
}

/// What a packet is counted under: exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// A flow.
    Flow(FlowKey),
    /// Link housekeeping.
    Housekeeping(Housekeeping),
    /// Neither IP nor ARP, by EtherType. Values below 0x0600 are 802.3 lengths and counted as 0.
    NonIp(u16),
    /// Malformed, by reason.
    Malformed(Malformed),
    /// Found the flow table full, by IP protocol.
    Overflow(u8),
}
