//! What a packet belongs to: a flow, or a named remainder.

use std::net::IpAddr;

/// The target's own view: egress is what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Sent by the target; of a flow: opened by the target ("out").
    Egress,
    /// Received by the target; of a flow: opened by the remote ("in").
    Ingress,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }

    /// Said of a flow: `out` when the target opened it, `in` when the remote did.
    pub fn of_flow(self) -> &'static str {
        match self {
            Self::Egress => "out",
            Self::Ingress => "in",
        }
    }
}

/// Where a packet was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObservationPoint {
    /// On the veth pair that joins the namespace to the host.
    Link,
    /// On the namespace's own `lo`; there egress means "sent by `local`".
    Loopback,
}

/// One end of a flow. Protocols without ports have port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportAddress {
    /// The address.
    pub addr: IpAddr,
    /// The port in host byte order; 0 where the protocol has none.
    pub port: u16,
}

/// A bidirectional flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Where it was seen.
    pub point: ObservationPoint,
    /// IANA protocol number of the innermost header that was understood.
    pub protocol: u8,
    /// Non-first fragments whose first fragment was never seen: no ports are invented for them.
    pub fragment: bool,
    /// The target's end.
    pub local: TransportAddress,
    /// The other end.
    pub remote: TransportAddress,
}

/// The identity of a flow: its key, and which of the successive connections on that key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    /// The ends and the protocol.
    pub key: FlowKey,
    /// 0 for the first flow on this key, higher for each later one.
    pub epoch: u32,
}

/// What the kernel says by itself on any link.
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

/// Why a packet could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Shorter than its link-layer header.
    Ethernet,
    /// IP version nibble and EtherType disagree.
    IpVersion,
    /// IPv4 header length under 20 bytes, or longer than the packet.
    Ipv4HeaderLength,
    /// IPv4 total length or IPv6 payload length is less than the headers, or more than the packet.
    IpLength,
    /// Cut off inside the IP header.
    IpTruncated,
    /// An IPv6 extension header runs over the end, or there are more than can be followed.
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

/// What a packet was counted under. Every packet has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// A flow.
    Flow(FlowKey),
    /// Link housekeeping of the kernel.
    Housekeeping(Housekeeping),
    /// Not IP and not ARP: by EtherType (values under 0x0600 are 802.3 lengths, all counted as 0).
    NonIp(u16),
    /// Unreadable, by reason.
    Malformed(Malformed),
    /// The flow table was full: by IP protocol.
    Overflow(u8),
}
