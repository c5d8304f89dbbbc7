//! What differs between this object and that of the classifier, whose module of the same name is
//! `src/variant.rs`.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use netwatch_common::access::Access;
use netwatch_common::flow::{EGRESS, FlowValue, Handshake};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{Hook, LinkType};

use crate::atomic::SharedAccess;

/// Packets start with their IP header.
pub const LINK: LinkType = LinkType::Ip;

/// The number of the hook at which the target receives packets of a loopback. Elsewhere it is that
/// of [`Hook::Loopback`], at which the target sends them.
pub const LOOPBACK_RECEIVED: u32 = 3;

/// Programs at cgroups cannot change a packet, not even its place in memory.
#[inline(always)]
pub fn pull(_ctx: &TcContext, _len: u32) -> bool {
    false
}

/// IP packets have no tag.
///
/// # Safety
/// None is needed; the other object's has one.
#[inline(always)]
pub unsafe fn is_tagged(_skb: *const __sk_buff) -> bool {
    false
}

/// Whether the packet was counted when the target sent it: both ends of its flow on the loopback
/// are the target's, so it passes two hooks. Marks the entry of a packet that the target sends.
/// The hook of the sender always runs before that of the receiver.
///
/// # Safety
/// `value` is a live entry.
#[inline(always)]
pub unsafe fn was_counted(hook: u32, value: *mut FlowValue, seen: &Observation) -> bool {
    const SENT: u32 = Hook::Loopback as u32;
    if hook != SENT && hook != LOOPBACK_RECEIVED {
        return false;
    }
    let mark = if seen.direction == EGRESS { Handshake::EGRESS_SENT } else { Handshake::INGRESS_SENT };
    // SAFETY: guaranteed by the caller; the last four bytes are an aligned word.
    unsafe {
        let word = (&raw mut (*value).handshake.stage).cast::<u32>();
        let is_marked = word.read_volatile() & mark != 0;
        if hook == SENT && !is_marked {
            SharedAccess::or32(word, mark);
        }
        hook == LOOPBACK_RECEIVED && is_marked
    }
}

/// Whether the socket of the packet is the one that sent it, if the target did.
#[inline(always)]
pub fn has_sender(hook: u32) -> bool {
    hook != LOOPBACK_RECEIVED
}
