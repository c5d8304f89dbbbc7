//! The parsed headers of a frame.

use super::transport::protocol;
use crate::address::Address;
use crate::flow::{EntryKey, kind};
use crate::tcp;

/// The part of a datagram that a packet carries. Values of [`Packet::fragment`].
pub mod part {
    /// All of it, or all that is relevant.
    pub const WHOLE: u8 = 0;
    /// The first fragment, with the transport header.
    pub const FIRST: u8 = 1;
    /// A later fragment; only the first one carries the ports.
    pub const LATER: u8 = 2;
}

/// The parsed headers of a frame, independent of direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Sender's address, IPv4 as `::ffff:a.b.c.d`; zero if not IP.
    pub source: Address,
    /// Receiver's address.
    pub destination: Address,
    /// Sender's port, host order, or the EtherType of [`kind::NON_IP`].
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// One of [`kind`].
    pub kind: u8,
    /// IANA protocol number, or the detail that [`kind`] defines.
    pub protocol: u8,
    /// TCP flag byte; 0 if not TCP or not readable.
    pub flags: u8,
    /// Whether it is an ICMP or ICMPv6 error message (RFC 792, RFC 4443).
    pub icmp_error: bool,
    /// Whether a header that the packet's lengths imply could not be read: pulling it into linear
    /// memory may help.
    pub incomplete: bool,
    /// Part of a datagram: one of [`part`].
    pub fragment: u8,
    /// The protocol or next header, the same in all fragments of a datagram.
    pub fragment_protocol: u8,
    /// Identification of the datagram.
    pub fragment_id: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgment number.
    pub acknowledgment: u32,
    /// TCP window, unscaled.
    pub window: u16,
    /// Offset of the TCP options in bytes.
    pub options_offset: u32,
    /// Length of the link, network and transport headers in bytes.
    pub payload_offset: u32,
    /// Bytes after these headers that the IP length covers.
    pub payload_len: u32,
}

impl Packet {
    /// Classifies the packet by `kind` and `protocol` alone: the key will have no addresses.
    #[inline(always)]
    pub(super) fn set_kind(&mut self, kind: u8, protocol: u8) {
        self.kind = kind;
        self.protocol = protocol;
        self.fragment = part::WHOLE;
    }

    #[inline(always)]
    pub(super) fn set_malformed(&mut self, reason: u8) {
        self.set_kind(kind::MALFORMED, reason);
        self.flags = 0;
        self.payload_len = 0;
        self.payload_offset = 0;
        self.incomplete = true;
    }

    /// Whether it neither opens nor closes a TCP connection.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0
    }

    /// 4 or 6, for IP.
    #[inline(always)]
    pub(crate) fn version(&self) -> u8 {
        self.kind & 0x0f
    }

    /// Whether it is UDP or TCP from or to port 53.
    #[inline(always)]
    pub fn is_dns(&self) -> bool {
        const DNS: u16 = 53;
        (self.source_port == DNS || self.destination_port == DNS)
            && (self.protocol == protocol::UDP || self.protocol == protocol::TCP)
            && (self.kind == kind::IPV4 || self.kind == kind::IPV6)
    }

    /// Whether it is a valid IP packet, so that both addresses are set.
    #[inline(always)]
    pub(super) fn has_addresses(&self) -> bool {
        self.kind < kind::HOUSEKEEPING
    }

    /// Whether the transport has ports.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        self.source_port | self.destination_port != 0 && (self.kind == kind::IPV4 || self.kind == kind::IPV6)
    }

    /// The key, with the sender as local end if `sent`, else the receiver.
    #[inline(always)]
    pub(super) fn key(&self, sent: bool, observation_point: u8) -> EntryKey {
        let (kind, protocol, zero) = (self.kind, self.protocol, 0);
        if !self.has_addresses() {
            let local_port = if kind == kind::NON_IP { self.source_port } else { 0 };
            return EntryKey { local_port, kind, protocol, observation_point, ..EntryKey::default() };
        }
        let (source, destination) = ((self.source, self.source_port), (self.destination, self.destination_port));
        let (local, remote) = if sent { (source, destination) } else { (destination, source) };
        EntryKey {
            local: local.0,
            remote: remote.0,
            local_port: local.1,
            remote_port: remote.1,
            kind,
            protocol,
            observation_point,
            zero,
        }
    }
}
