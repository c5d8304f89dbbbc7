//! Determines direction. This is the only place that does; everywhere else, egress is what the
//! local end sent.

use super::Packet;
use crate::flow::{EGRESS, EntryKey, INGRESS, observation_point};

/// A hook that the classifier is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Ingress of the host's end of the link: what the target sent.
    FromTarget,
    /// Egress of the host's end of the link: what the target receives.
    ToTarget,
    /// Egress of the target's own `lo`, which every packet there passes once. Both ends belong to
    /// the target, so the lower one is local: both directions have the same key.
    Loopback,
}

impl Hook {
    /// The inverse of `as u32`.
    #[inline(always)]
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::FromTarget,
            1 => Self::ToTarget,
            _ => Self::Loopback,
        }
    }

    /// One of [`observation_point`].
    #[inline(always)]
    pub fn observation_point(self) -> u8 {
        if self == Self::Loopback { observation_point::LOOPBACK } else { observation_point::LINK }
    }
}

/// The key a packet is counted under, and the direction.
#[inline(always)]
pub fn orient(packet: &Packet, hook: Hook) -> (EntryKey, u8) {
    match hook {
        Hook::FromTarget => (packet.key(true, observation_point::LINK), EGRESS),
        Hook::ToTarget => (packet.key(false, observation_point::LINK), INGRESS),
        Hook::Loopback if is_higher(packet) => (packet.key(false, observation_point::LOOPBACK), INGRESS),
        Hook::Loopback => (packet.key(true, observation_point::LOOPBACK), EGRESS),
    }
}

#[inline(always)]
fn is_higher(packet: &Packet) -> bool {
    if !packet.has_addresses() {
        return false;
    }
    let source = (packet.source.number(), packet.source_port);
    source > (packet.destination.number(), packet.destination_port)
}
