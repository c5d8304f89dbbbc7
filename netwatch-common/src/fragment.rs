//! Joining later IP fragments to their first one: only that carries the ports. Not reassembly; no payload is kept.

use crate::address::Address;
use crate::flow::FlowKey;
use crate::parse::{Packet, part};

/// What the fragments of one datagram share (RFC 791, RFC 8200).
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Sender's address.
    pub source: Address,
    /// Receiver's address.
    pub destination: Address,
    /// The datagram's identification.
    pub id: u32,
    /// IPv4's protocol, or the next header that IPv6's fragment header names.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// Where it was seen: one of [`crate::flow::scope`].
    pub scope: u8,
    /// Always zero.
    pub zero: u8,
}

/// What only the first fragment says.
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

/// A bounded memory of first fragments. Forgetting is allowed: the later fragments are then named as such.
pub trait Fragments {
    /// Keeps what the first fragment said.
    fn remember(&mut self, key: &FragmentKey, first: &FirstFragment);
    /// What the first fragment said, if it is still known.
    fn recall(&mut self, key: &FragmentKey) -> Option<FirstFragment>;
}

/// Forgets everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Forgetful;

impl Fragments for Forgetful {
    fn remember(&mut self, _: &FragmentKey, _: &FirstFragment) {}
    fn recall(&mut self, _: &FragmentKey) -> Option<FirstFragment> {
        None
    }
}

/// Gives a later fragment the ports of its first one, and remembers those of a first one.
#[inline(always)]
pub fn join(packet: &mut Packet, scope: u8, fragments: &mut impl Fragments) {
    match packet.fragment {
        part::FIRST => {
            let first = FirstFragment {
                source_port: packet.source_port,
                destination_port: packet.destination_port,
                protocol: u32::from(packet.protocol),
            };
            fragments.remember(&key(packet, scope), &first);
        }
        part::LATER => {
            if let Some(first) = fragments.recall(&key(packet, scope)) {
                packet.join(&first);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn key(packet: &Packet, scope: u8) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
        protocol: packet.fragment_protocol,
        version: packet.version(),
        scope,
        zero: 0,
    }
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentKey>() == size_of::<FlowKey>());
    assert!(size_of::<FirstFragment>() == 8);
};
