//! Follows the latest TCP handshake of a flow: counts connections and measures the round-trip time
//! of the handshake.

use crate::access::Access;
use crate::flow::{EGRESS, FlowValue, Handshake, observation_point, stage};
use crate::observation::Observation;
use crate::tcp::{self, SYN_ACK};

/// Whether the flow's latest handshake is unfinished and may still give a round-trip time.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn is_pending(value: *mut FlowValue) -> bool {
    // SAFETY: guaranteed by the caller.
    let stage = unsafe { (*value).handshake.stage };
    stage == stage::SYN || stage == stage::SYN_ACK
}

/// Records a TCP packet. The stores are plain even if `A` is shared: SYNs of one five-tuple arrive
/// a retransmission timeout apart. If two CPUs did race, a round-trip time would be missing or a
/// repeated SYN would count as a connection; no packet would be lost.
///
/// # Safety
/// `handshake` points into a live entry; if `A` is
/// [`ExclusiveAccess`](crate::access::ExclusiveAccess), nothing else changes it.
#[inline(always)]
pub unsafe fn record<A: Access>(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match seen.packet.flags & (tcp::SYN | tcp::ACK) {
            tcp::SYN => on_syn::<A>(handshake, seen),
            SYN_ACK => on_syn_ack(handshake, seen),
            tcp::ACK => on_ack(handshake, seen),
            _ => {}
        }
    }
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_syn<A: Access>(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let repeated = (*handshake).connections != 0 && (*handshake).isn == seen.packet.sequence;
        if repeated {
            (*handshake).stage = stage::REPEATED;
            return;
        }
        A::add32(&raw mut (*handshake).connections, 1);
        (*handshake).isn = seen.packet.sequence;
        (*handshake).opener = u32::from(seen.direction);
        (*handshake).started_ns = seen.now_ns;
        (*handshake).stage = stage::SYN;
    }
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_syn_ack(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let answers = (*handshake).opener != u32::from(seen.direction)
            && seen.packet.acknowledgment == (*handshake).isn.wrapping_add(1);
        match (*handshake).stage {
            stage::SYN if answers && is_incoming(seen) => {
                (*handshake).started_ns = seen.now_ns;
                (*handshake).stage = stage::SYN_ACK;
            }
            stage::SYN if answers => finish(handshake, seen),
            stage::SYN_ACK => (*handshake).stage = stage::REPEATED,
            _ => {}
        }
    }
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_ack(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*handshake).stage == stage::SYN_ACK && (*handshake).opener == u32::from(seen.direction) {
            finish(handshake, seen);
        }
    }
}

/// Whether a SYN-ACK answers an incoming connection. The target sends it, so its round trip ends
/// with the opener's ACK.
#[inline(always)]
fn is_incoming(seen: &Observation) -> bool {
    seen.key.observation_point == observation_point::LINK && seen.direction == EGRESS
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn finish(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        // 0 stands for "not measured", so a handshake faster than the clock's resolution takes 1
        // ns.
        (*handshake).rtt_ns = seen.now_ns.saturating_sub((*handshake).started_ns).max(1);
        (*handshake).stage = stage::DONE;
    }
}
