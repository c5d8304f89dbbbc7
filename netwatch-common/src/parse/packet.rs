//! What a frame's headers said.

use super::transport::protocol;
use crate::address::Address;
use crate::flow::{FlowKey, kind};
use crate::fragment::FirstFragment;

/// Which part of a datagram a packet is. Values of [`Packet::fragment`].
pub mod part {
    /// All of it, or all that matters.
    pub const WHOLE: u8 = 0;
    /// The first fragment, with the transport header.
    pub const FIRST: u8 = 1;
    /// A later fragment whose ports only the first one knows.
    pub const LATER: u8 = 2;
}

/// What a frame's headers said, before direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Sender, IPv4 as `::ffff:a.b.c.d`; zero if not IP.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Sender's port, host order, or the EtherType of [`kind::NON_IP`].
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// One of [`kind`].
    pub kind: u8,
    /// IANA protocol number, or what [`kind`] says.
    pub protocol: u8,
    /// TCP's flag byte; 0 if not TCP or not readable.
    pub flags: u8,
    /// ICMP or ICMPv6 error message (RFC 792, RFC 4443).
    pub icmp_error: bool,
    /// A header that the packet's lengths promise could not be read: pulling it into linear memory may help.
    pub incomplete: bool,
    /// Which part of a datagram this is: one of [`part`].
    pub fragment: u8,
    /// The protocol or next header that all fragments of a datagram name.
    pub fragment_protocol: u8,
    /// The datagram's identification.
    pub fragment_id: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// TCP window, unscaled.
    pub window: u16,
    /// Bytes of link, network and transport headers.
    pub payload_offset: u32,
    /// Bytes after them that the IP length covers.
    pub payload_len: u32,
}

impl Packet {
    /// Names it by `kind` and `protocol` alone: the key will have no ends.
    #[inline(always)]
    pub(super) fn set_named(&mut self, kind: u8, protocol: u8) {
        self.kind = kind;
        self.protocol = protocol;
        self.fragment = part::WHOLE;
    }

    #[inline(always)]
    pub(super) fn set_malformed(&mut self, reason: u8) {
        self.set_named(kind::MALFORMED, reason);
        self.flags = 0;
        self.payload_len = 0;
        self.payload_offset = 0;
        self.incomplete = true;
    }

    /// A later fragment whose first one is known.
    #[inline(always)]
    pub(crate) fn join(&mut self, first: &FirstFragment) {
        self.kind = self.version();
        self.protocol = first.protocol as u8;
        self.source_port = first.source_port;
        self.destination_port = first.destination_port;
    }

    /// 4 or 6, for IP.
    #[inline(always)]
    pub(crate) fn version(&self) -> u8 {
        self.kind & 0x0f
    }

    /// True for UDP and TCP from or to port 53.
    #[inline(always)]
    pub fn is_dns(&self) -> bool {
        const DNS: u16 = 53;
        (self.source_port == DNS || self.destination_port == DNS)
            && (self.protocol == protocol::UDP || self.protocol == protocol::TCP)
            && (self.kind == kind::IPV4 || self.kind == kind::IPV6)
    }

    /// True for IP that could be read: two addresses are known.
    #[inline(always)]
    pub(super) fn has_ends(&self) -> bool {
        self.kind < kind::HOUSEKEEPING
    }

    /// True for a transport with ports.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        self.source_port | self.destination_port != 0 && (self.kind == kind::IPV4 || self.kind == kind::IPV6)
    }

    /// The key with the sender as local end if `sent`, else with the receiver.
    #[inline(always)]
    pub(super) fn key(&self, sent: bool, scope: u8) -> FlowKey {
        let (kind, protocol, zero) = (self.kind, self.protocol, 0);
        if !self.has_ends() {
            let local_port = if kind == kind::NON_IP { self.source_port } else { 0 };
            return FlowKey { local_port, kind, protocol, scope, ..FlowKey::default() };
        }
        let (source, destination) = ((self.source, self.source_port), (self.destination, self.destination_port));
        let (local, remote) = if sent { (source, destination) } else { (destination, source) };
        FlowKey {
            local: local.0,
            remote: remote.0,
            local_port: local.1,
            remote_port: remote.1,
            kind,
            protocol,
            scope,
            zero,
        }
    }
}
