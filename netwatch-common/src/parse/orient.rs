//! The one place where direction is decided. Everywhere else egress is what the local end sent.

use super::Packet;
use crate::flow::{EGRESS, FlowKey, INGRESS, scope};

/// Where the classifier is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Ingress of the host's end of the link: what the target sent.
    FromTarget,
    /// Egress of the host's end of the link: what the target receives.
    ToTarget,
    /// Egress of the target's own `lo`, which every packet there passes once. Both ends are the target's, so the lower one
    /// is taken as local: the same key both ways.
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

    /// One of [`scope`].
    #[inline(always)]
    pub fn scope(self) -> u8 {
        if self == Self::Loopback { scope::LOOPBACK } else { scope::LINK }
    }
}

/// The key a packet is counted under, and the direction.
#[inline(always)]
pub fn orient(packet: &Packet, hook: Hook) -> (FlowKey, u8) {
    match hook {
        Hook::FromTarget => (packet.key(true, scope::LINK), EGRESS),
        Hook::ToTarget => (packet.key(false, scope::LINK), INGRESS),
        Hook::Loopback if is_higher(packet) => (packet.key(false, scope::LOOPBACK), INGRESS),
        Hook::Loopback => (packet.key(true, scope::LOOPBACK), EGRESS),
    }
}

#[inline(always)]
fn is_higher(packet: &Packet) -> bool {
    if !packet.has_ends() {
        return false;
    }
    let source = (packet.source.number(), packet.source_port);
    source > (packet.destination.number(), packet.destination_port)
}
