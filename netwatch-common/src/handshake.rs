//! Follows the TCP handshake of a connection: measures its round-trip time, and determines whether
//! a SYN begins another connection on the same five-tuple.

use crate::access::Access;
use crate::flow::{EGRESS, FlowValue, Half, Handshake, initial, observation_point, stage};
use crate::observation::Observation;
use crate::tcp::{self, FIN, RST, SYN, SYN_ACK};

/// Whether the flow's handshake is unfinished and may still give a round-trip time.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn is_pending(value: *mut FlowValue) -> bool {
    // SAFETY: guaranteed by the caller.
    let stage = unsafe { (*value).handshake.stage };
    stage == stage::SYN || stage == stage::SYN_ACK
}

/// Whether a packet begins another connection than the one that this entry counts. A SYN does, if
/// the ends accept it as new:
///
/// - after a RST, or while the connection is unanswered: if it is not a copy of the connection's
///   own SYN,
/// - in all other states, TIME-WAIT in particular: by its timestamp (RFC 6191), or if there are
///   none, by its sequence number (RFC 9293, 3.10.7.4).
///
/// A connection whose end was not observed is treated as one in TIME-WAIT.
///
/// # Safety
/// `value` points to a live entry that has counted a packet.
#[inline(always)]
pub unsafe fn begins_another(value: *const FlowValue, seen: &Observation) -> bool {
    if !tcp::is_request(seen.packet.flags) {
        return false;
    }
    // Computed, not branched to: the verifier then follows one path instead of two.
    let own = usize::from(seen.direction & 1);
    // SAFETY: guaranteed by the caller; there are two halves.
    let (handshake, own, other) = unsafe {
        let halves = (&raw const (*value).halves).cast::<Half>();
        (&raw const (*value).handshake, halves.add(own), halves.add(own ^ 1))
    };
    // SAFETY: as above.
    unsafe {
        let has_syn = (*handshake).connections != 0;
        let by_opener = (*handshake).opener == seen.direction;
        if has_syn && by_opener && (*handshake).isn == seen.packet.sequence {
            return false;
        }
        let (flags, other_flags) = ((*own).flags as u8, (*other).flags as u8);
        if (flags | other_flags) & RST != 0 || flags == 0 && other_flags & SYN == 0 {
            return true;
        }
        let is_closed = tcp::is_closed(flags, other_flags);
        if !is_closed && has_syn && by_opener && other_flags == 0 {
            return true;
        }
        // The other SYN of a simultaneous open (RFC 9293, 3.5), or a SYN captured after its answer.
        let is_second = flags & SYN == 0 || (*own).syns != 0 && has_syn && !by_opener;
        if !is_closed && other_flags & SYN != 0 && is_second {
            return false;
        }
        is_acceptable(handshake, own, seen)
    }
}

/// Whether an end in TIME-WAIT accepts a SYN. Timestamps are compared with the latest SYN or FIN of
/// this direction.
///
/// # Safety
/// Both point into a live entry.
#[inline(always)]
unsafe fn is_acceptable(handshake: *const Handshake, own: *const Half, seen: &Observation) -> bool {
    // SAFETY: guaranteed by the caller.
    let (before, highest) = unsafe { (timestamp(handshake.cast_mut(), seen.direction).read(), (*own).highest) };
    let is_higher = !tcp::is_before(seen.packet.sequence, highest);
    match (before, seen.timestamp) {
        (_, 0) => is_higher,
        (0, _) => true,
        (before, now) if before == now => is_higher,
        (before, now) => tcp::is_before(before, now),
    }
}

/// # Safety
/// `handshake` points into a live entry.
#[inline(always)]
unsafe fn timestamp(handshake: *mut Handshake, direction: u8) -> *mut u32 {
    // SAFETY: guaranteed by the caller; there are two.
    unsafe { (&raw mut (*handshake).timestamps).cast::<u32>().add(usize::from(direction & 1)) }
}

/// Whether a SYN repeats the one with which its direction began after other packets. Copies before
/// those may lack data of the first one.
///
/// # Safety
/// `value` points to a live entry, which has not recorded the flags of the SYN yet.
#[inline(always)]
pub unsafe fn is_late_copy(value: *const FlowValue, seen: &Observation) -> bool {
    // Computed, not branched to: the verifier then follows one path instead of two.
    let own = usize::from(seen.direction & 1);
    // SAFETY: guaranteed by the caller; there are two halves.
    unsafe {
        let handshake = &raw const (*value).handshake;
        let flags = (*(&raw const (*value).halves).cast::<Half>().add(own)).flags;
        let is_first_known = match (*handshake).opener == seen.direction {
            true => (*handshake).connections != 0 && (*handshake).isn == seen.packet.sequence,
            false => flags & initial::ANSWERED != 0 && (*handshake).answer_isn == seen.packet.sequence,
        };
        is_first_known && flags & u32::from(tcp::ACK) != 0
    }
}

/// Records a TCP packet of a connection. All stores are plain, also where several CPUs share the
/// entry: SYNs of one connection arrive a retransmission timeout apart. If two CPUs did race, a
/// round-trip time would be missing; no packet would be lost.
///
/// # Safety
/// `value` points to a live entry, which has counted the packet.
#[inline(always)]
pub unsafe fn record<A: Access>(value: *mut FlowValue, seen: &Observation) {
    let flags = seen.packet.flags;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let handshake = &raw mut (*value).handshake;
        if flags & (SYN | FIN) != 0 {
            advance_timestamp(timestamp(handshake, seen.direction), seen.timestamp);
        }
        match flags & (SYN | tcp::ACK | RST) {
            SYN => on_syn::<A>(value, seen),
            SYN_ACK => on_syn_ack::<A>(value, seen),
            tcp::ACK => on_ack(handshake, seen),
            _ => {}
        }
    }
}

/// # Safety
/// `latest` points to a live, aligned u32.
#[inline(always)]
unsafe fn advance_timestamp(latest: *mut u32, timestamp: u32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if timestamp != 0 && (*latest == 0 || tcp::is_before(*latest, timestamp)) {
            latest.write(timestamp);
        }
    }
}

/// A SYN that is neither the first of the connection nor a copy of it is the other one of a
/// simultaneous open, or a late copy from an earlier connection.
///
/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_syn<A: Access>(value: *mut FlowValue, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let handshake = &raw mut (*value).handshake;
        if (*handshake).connections == 0 {
            (*handshake).connections = 1;
            (*handshake).isn = seen.packet.sequence;
            (*handshake).opener = seen.direction;
            (*handshake).started_ns = seen.now_ns;
            (*handshake).stage = stage::SYN;
            if !is_first(value) {
                mark::<A>(value, seen, initial::AMBIGUOUS);
            }
            return;
        }
        if (*handshake).isn == seen.packet.sequence && (*handshake).opener == seen.direction {
            (*handshake).stage = stage::REPEATED;
        }
        record_initial::<A>(value, seen);
    }
}

/// Whether the entry has counted one packet, the current one.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
unsafe fn is_first(value: *const FlowValue) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (*value).halves[0].counts.skbs + (*value).halves[1].counts.skbs == 1 }
}

/// Sets bits of [`initial`] for the direction of the packet.
///
/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn mark<A: Access>(value: *mut FlowValue, seen: &Observation, bits: u32) {
    // Computed, not branched to: the verifier then follows one path instead of two.
    let own = usize::from(seen.direction & 1);
    // SAFETY: guaranteed by the caller; there are two halves.
    unsafe { A::or32(&raw mut (*(&raw mut (*value).halves).cast::<Half>().add(own)).flags, bits) }
}

/// Records the initial sequence number of a direction: that of the other direction than the
/// opener's from its first SYN, and whether all SYNs of a direction agree.
///
/// # Safety
/// As for [`record`]; the opener's SYN was observed.
#[inline(always)]
unsafe fn record_initial<A: Access>(value: *mut FlowValue, seen: &Observation) {
    let own = usize::from(seen.direction & 1);
    // SAFETY: guaranteed by the caller; there are two halves.
    unsafe {
        let handshake = &raw mut (*value).handshake;
        let flags = (*(&raw const (*value).halves).cast::<Half>().add(own)).flags;
        let is_answer = (*handshake).opener != seen.direction;
        if is_answer && flags & initial::ANSWERED == 0 {
            (*handshake).answer_isn = seen.packet.sequence;
            mark::<A>(value, seen, initial::ANSWERED);
        }
        let known = if is_answer { (*handshake).answer_isn } else { (*handshake).isn };
        if known != seen.packet.sequence {
            mark::<A>(value, seen, initial::AMBIGUOUS);
        }
    }
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_syn_ack<A: Access>(value: *mut FlowValue, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let handshake = &raw mut (*value).handshake;
        let answers =
            (*handshake).opener != seen.direction && seen.packet.acknowledgment == (*handshake).isn.wrapping_add(1);
        match (*handshake).stage {
            stage::SYN if answers && is_incoming(seen) => {
                (*handshake).started_ns = seen.now_ns;
                (*handshake).stage = stage::SYN_ACK;
            }
            stage::SYN if answers => finish(handshake, seen),
            stage::SYN_ACK => (*handshake).stage = stage::REPEATED,
            _ => {}
        }
        if (*handshake).connections != 0 {
            record_initial::<A>(value, seen);
        }
    }
}

/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn on_ack(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*handshake).stage == stage::SYN_ACK && (*handshake).opener == seen.direction {
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
        let rtt_ns = seen.now_ns.saturating_sub((*handshake).started_ns).max(1);
        (*handshake).rtt_ns = if rtt_ns > u64::from(u32::MAX) { 0 } else { rtt_ns as u32 };
        (*handshake).stage = stage::DONE;
    }
}
