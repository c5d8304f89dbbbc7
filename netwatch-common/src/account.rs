//! How an entry grows with a packet. The same rules for the shared table (atomics, kernel) and for plain memory (host,
//! per-CPU): [`Cells`] is the only difference. Not: where the entry is kept.

use crate::config::Config;
use crate::flow::{EGRESS, FlowValue, Half, Handshake, INGRESS, scope, stage};
use crate::observation::Observation;
use crate::parse::tcp;
use crate::sample::{CLASSES, reason};

/// How a counter is changed.
pub trait Cells {
    /// Adds to a counter.
    ///
    /// # Safety
    /// `cell` points to a live, aligned u64.
    unsafe fn add64(cell: *mut u64, value: u64);
    /// Adds to a counter.
    ///
    /// # Safety
    /// `cell` points to a live, aligned u32.
    unsafe fn add32(cell: *mut u32, value: u32);
    /// ORs bits in.
    ///
    /// # Safety
    /// `cell` points to a live, aligned u32.
    unsafe fn or32(cell: *mut u32, bits: u32);
}

/// Memory that nobody else changes at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Cells for Plain {
    #[inline(always)]
    unsafe fn add64(cell: *mut u64, value: u64) {
        // SAFETY: the caller's promise.
        unsafe { *cell += value }
    }
    #[inline(always)]
    unsafe fn add32(cell: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { *cell += value }
    }
    #[inline(always)]
    unsafe fn or32(cell: *mut u32, bits: u32) {
        // SAFETY: the caller's promise.
        unsafe { *cell |= bits }
    }
}

/// Notes the first packet of an entry that is still [`FlowValue::EMPTY`]. [`record`] then counts it.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn open(value: *mut FlowValue, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        (*value).opened_by = u32::from(opened_by(seen));
        (*value).first_seen_ns = seen.now_ns;
    }
}

/// Who opened the flow that this packet is the first of: its sender, unless it answers a SYN that was not seen.
#[inline(always)]
pub fn opened_by(seen: &Observation) -> u8 {
    if seen.packet.flags & SYN_ACK == SYN_ACK { seen.direction ^ 1 } else { seen.direction }
}

/// Records a packet in its entry.
///
/// # Safety
/// `value` points to a live entry; if `C` is [`Plain`], nobody else changes it.
#[inline(always)]
pub unsafe fn record<C: Cells>(value: *mut FlowValue, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        let half = half(value, seen.direction);
        C::add64(&raw mut (*half).counts.skbs, 1);
        C::add64(&raw mut (*half).counts.packets, seen.size.packets);
        C::add64(&raw mut (*half).counts.bytes, seen.size.bytes);
        C::add64(&raw mut (*half).counts.wire_bytes, seen.size.wire_bytes);
        (&raw mut (*value).last_seen_ns).write(seen.now_ns);
        if seen.packet.flags != 0 {
            record_tcp::<C>(value, half, seen);
        }
    }
}

/// The direction's part of an entry.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn half(value: *mut FlowValue, direction: u8) -> *mut Half {
    // Computed, not branched to: the verifier then follows one path instead of two.
    let index = usize::from(direction & 1);
    // SAFETY: the caller's promise; one of two.
    unsafe { (&raw mut (*value).halves).cast::<Half>().add(index) }
}

/// Why a packet that was recorded is worth a sample, if it is. Its share of the flow's budget is then used up, also if the
/// ring turns out to be full: a flow must not knock for ever.
///
/// # Safety
/// `half` points into a live entry; if `C` is [`Plain`], nobody else changes it.
#[inline(always)]
pub unsafe fn wants_sample<C: Cells>(half: *mut Half, seen: &Observation, config: &Config) -> Option<u8> {
    let packet = &seen.packet;
    if packet.payload_len == 0 {
        return None;
    }
    if config.sample_protocols != 0 && packet.is_dns() {
        return Some(reason::DNS);
    }
    if config.sample_protocols != 0 && packet.icmp_error {
        return Some(reason::ICMP_ERROR);
    }
    // SAFETY: the caller's promise.
    unsafe {
        if !packet.has_ports()
            || (*half).sampled_packets >= config.sample_packets
            || (*half).sampled_bytes >= config.sample_bytes
        {
            return None;
        }
        C::add32(&raw mut (*half).sampled_packets, 1);
        C::add32(&raw mut (*half).sampled_bytes, packet.payload_len.min(LARGEST));
    }
    Some(reason::HEAD)
}

/// More than this of a packet is never sampled.
const LARGEST: u32 = CLASSES[CLASSES.len() - 1] as u32;

/// # Safety
/// As [`record`]; `half` belongs to `value`.
#[inline(always)]
unsafe fn record_tcp<C: Cells>(value: *mut FlowValue, half: *mut Half, seen: &Observation) {
    let flags = u32::from(seen.packet.flags);
    // SAFETY: the caller's promise.
    unsafe {
        let missing = flags & !(*half).flags;
        if missing != 0 {
            C::or32(&raw mut (*half).flags, missing);
        }
        if flags & u32::from(tcp::RST) != 0 {
            C::add32(&raw mut (*half).resets, 1);
        }
        let handshake = &raw mut (*value).handshake;
        match seen.packet.flags & (tcp::SYN | tcp::ACK) {
            tcp::SYN => {
                C::add32(&raw mut (*half).syns, 1);
                on_syn::<C>(handshake, seen);
            }
            SYN_ACK => {
                C::add32(&raw mut (*half).syn_acks, 1);
                on_syn_ack(handshake, seen);
            }
            tcp::ACK => on_ack(handshake, seen),
            _ => {}
        }
    }
}

const SYN_ACK: u8 = tcp::SYN | tcp::ACK;

/// # Safety
/// As [`record`]. Plain stores: SYNs of one five-tuple come a retransmission timeout apart, not from two CPUs at once; if
/// they did, an RTT would be lost or a repeat counted as a connection, never a packet.
#[inline(always)]
unsafe fn on_syn<C: Cells>(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        let repeated = (*handshake).connections != 0 && (*handshake).isn == seen.packet.sequence;
        if repeated {
            (*handshake).stage = stage::REPEATED;
            return;
        }
        C::add32(&raw mut (*handshake).connections, 1);
        (*handshake).isn = seen.packet.sequence;
        (*handshake).opener = u32::from(seen.direction);
        (*handshake).started_ns = seen.now_ns;
        (*handshake).stage = stage::SYN;
    }
}

/// # Safety
/// As [`on_syn`].
#[inline(always)]
unsafe fn on_syn_ack(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        let answers = (*handshake).opener != u32::from(seen.direction)
            && seen.packet.acknowledgement == (*handshake).isn.wrapping_add(1);
        match (*handshake).stage {
            stage::SYN if answers && opened_from_outside(seen) => {
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
/// As [`on_syn`].
#[inline(always)]
unsafe fn on_ack(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*handshake).stage == stage::SYN_ACK && (*handshake).opener == u32::from(seen.direction) {
            finish(handshake, seen);
        }
    }
}

/// The SYN-ACK of a connection from outside leaves the target, so the way out and back ends with the opener's ACK.
#[inline(always)]
fn opened_from_outside(seen: &Observation) -> bool {
    seen.key.scope == scope::LINK && seen.direction == EGRESS
}

/// # Safety
/// As [`on_syn`].
#[inline(always)]
unsafe fn finish(handshake: *mut Handshake, seen: &Observation) {
    // SAFETY: the caller's promise.
    unsafe {
        // 0 means "none": a handshake faster than the clock's step still has an RTT.
        (*handshake).rtt_ns = seen.now_ns.saturating_sub((*handshake).started_ns).max(1);
        (*handshake).stage = stage::DONE;
    }
}

const _: () = assert!(EGRESS == 0 && INGRESS == 1);
