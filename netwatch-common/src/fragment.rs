//! Joins later IP fragments to the first one, which alone carries the ports. This is not
//! reassembly: no payload is stored.

use crate::address::Address;
use crate::flow::EntryKey;
use crate::parse::{Packet, part};

/// Fields that all fragments of one datagram share (RFC 791, RFC 8200).
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Sender's address.
    pub source: Address,
    /// Receiver's address.
    pub destination: Address,
    /// Identification of the datagram.
    pub id: u32,
    /// IPv4's protocol, or the next header named by IPv6's fragment header.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// Where the fragments were observed: one of [`crate::flow::observation_point`].
    pub observation_point: u8,
    /// Always zero.
    pub zero: u8,
}

/// Fields that only the first fragment carries.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FirstFragment {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// The transport protocol.
    pub protocol: u32,
}

/// A bounded store of first fragments. It may evict at any time: later fragments are then counted
/// as fragments without ports.
pub trait Fragments {
    /// Stores the fields of a first fragment.
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment);
    /// The fields of the first fragment, if they are stored.
    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment>;
}

/// Stores nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoFragments;

impl Fragments for NoFragments {
    fn insert(&mut self, _: &FragmentKey, _: &FirstFragment) {}
    fn find(&mut self, _: &FragmentKey) -> Option<FirstFragment> {
        None
    }
}

/// Stores the ports of a first fragment, or gives a later one the ports of its first.
#[inline(always)]
pub fn join(packet: &mut Packet, observation_point: u8, fragments: &mut impl Fragments) {
    match packet.fragment {
        part::FIRST => {
            let first = FirstFragment {
                source_port: packet.source_port,
                destination_port: packet.destination_port,
                protocol: u32::from(packet.protocol),
            };
            fragments.insert(&key(packet, observation_point), &first);
        }
        part::LATER => {
            if let Some(first) = fragments.find(&key(packet, observation_point)) {
                packet.kind = packet.version();
                packet.protocol = first.protocol as u8;
                packet.source_port = first.source_port;
                packet.destination_port = first.destination_port;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn key(packet: &Packet, observation_point: u8) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
        protocol: packet.fragment_protocol,
        version: packet.version(),
        observation_point,
        zero: 0,
    }
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentKey>() == size_of::<EntryKey>());
    assert!(size_of::<FirstFragment>() == 8);
};
