//! How an entry grows with a packet. The same rules for the shared table (atomics, kernel) and for plain memory (host,
//! per-CPU): [`Cells`] is the only difference. Not: where the entry is kept.

use crate::config::Config;
use crate::flow::{EGRESS, FlowValue, Half, Handshake, INGRESS, scope, stage};
use crate::front;
use crate::observation::{Observation, Size};
use crate::parse::Packet;
use crate::sample::{self, reason};
use crate::tcp::{self, SYN_ACK, is_before};

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
        (*value).opened_by = opened_by(seen);
        (*value).first_seen_ns = seen.now_ns;
    }
}

/// Whether the packet's time is to be precise: it opens, closes or measures something, or is sampled. For all others the kernel's
/// tick will do.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn needs_clock(value: *mut FlowValue, seen: &Observation, config: &Config) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*value).first_seen_ns == 0
            || !front::is_plain(&seen.packet)
            || in_handshake(value)
            || may_sample(half(value, seen.direction), seen, config)
    }
}

/// Whether the flow's latest TCP handshake is neither over nor without hope of a round trip.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn in_handshake(value: *mut FlowValue) -> bool {
    // SAFETY: the caller's promise.
    let stage = unsafe { (*value).handshake.stage };
    stage == stage::SYN || stage == stage::SYN_ACK
}

/// Who opened the flow that this packet is the first of: its sender, unless it answers a SYN that was not seen.
#[inline(always)]
pub fn opened_by(seen: &Observation) -> u8 {
    if seen.packet.flags & SYN_ACK == SYN_ACK { seen.direction ^ 1 } else { seen.direction }
}

/// What there is to tell user space of a packet.
pub mod news {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// It is the first of its flow.
    pub const NEW_FLOW: u32 = 1;
    /// It may be of a socket of the target's that none before it in its flow was of: it begins a connection on ports that were used
    /// before, or is the first answer to a remote.
    pub const ANOTHER_SOCKET: u32 = 2;
}

/// What is new about a packet that has not been recorded yet: one of [`news`].
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn news(value: *mut FlowValue, seen: &Observation) -> u32 {
    // SAFETY: the caller's promise.
    let (is_new, is_first) = unsafe { ((*value).first_seen_ns == 0, (*half(value, seen.direction)).counts.skbs == 0) };
    let is_ours = seen.direction == EGRESS || seen.key.scope == scope::LOOPBACK;
    match (is_new, is_ours && (is_first || seen.packet.flags & tcp::SYN != 0)) {
        (true, _) => news::NEW_FLOW,
        (false, true) => news::ANOTHER_SOCKET,
        (false, false) => news::NONE,
    }
}

/// Records a packet in its entry.
///
/// # Safety
/// `value` points to a live entry; if `C` is [`Plain`], nobody else changes it.
#[inline(always)]
pub unsafe fn record<C: Cells>(value: *mut FlowValue, seen: &Observation) {
    let Observation { packet, size, direction, now_ns, .. } = seen;
    // SAFETY: the caller's promise.
    unsafe {
        let half = half(value, *direction);
        count::<C>(value, half, size, *now_ns);
        if packet.flags != 0 {
            record_tcp::<C>(value, half, seen);
        }
    }
}

/// Records a packet of which no more is told than its size.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_size<C: Cells>(value: *mut FlowValue, direction: u8, size: &Size, now_ns: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*value).first_seen_ns == 0 {
            (*value).opened_by = direction;
            (*value).first_seen_ns = now_ns;
        }
        count::<C>(value, half(value, direction), size, now_ns);
    }
}

/// Records a packet that neither opens nor closes anything ([`front::is_plain`]) and changes no handshake: what [`record`] does for
/// those.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_plain<C: Cells>(value: *mut FlowValue, seen: &front::Plain<'_>) {
    let front::Plain { packet, size, direction, now_ns } = *seen;
    // SAFETY: the caller's promise.
    unsafe {
        let half = half(value, direction);
        count::<C>(value, half, size, now_ns);
        if packet.flags != 0 {
            follow::<C>(half, packet, size);
            note_flags::<C>(half, packet.flags);
        }
    }
}

/// # Safety
/// As [`record`]; `half` belongs to `value`.
#[inline(always)]
unsafe fn count<C: Cells>(value: *mut FlowValue, half: *mut Half, size: &Size, now_ns: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let counts = &raw mut (*half).counts;
        C::add64(&raw mut (*counts).skbs, 1);
        C::add64(&raw mut (*counts).bytes, size.bytes);
        if size.has_extra() {
            C::add64(&raw mut (*counts).extra_packets, size.extra_packets);
            C::add64(&raw mut (*counts).extra_wire_bytes, size.extra_wire_bytes);
        }
        advance(&raw mut (*value).last_seen_ns, now_ns);
    }
}

/// Moves a time forward. Two CPUs at once may leave the earlier one: both are now.
///
/// # Safety
/// `cell` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn advance(cell: *mut u64, now_ns: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if *cell < now_ns {
            cell.write(now_ns);
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
    // SAFETY: the caller's promise.
    unsafe {
        if !may_sample(half, seen, config) {
            return None;
        }
        if is_protocol(packet) {
            return Some(if packet.icmp_error { reason::ICMP_ERROR } else { reason::DNS });
        }
        C::add32(&raw mut (*half).sampled, sample::charge(packet.payload_len, packet.flags != 0));
    }
    Some(reason::HEAD)
}

/// Whether the packet would be sampled.
///
/// # Safety
/// `half` points into a live entry.
#[inline(always)]
unsafe fn may_sample(half: *const Half, seen: &Observation, config: &Config) -> bool {
    let packet = &seen.packet;
    if packet.payload_len == 0 {
        return false;
    }
    if config.sample_protocols != 0 && is_protocol(packet) {
        return true;
    }
    // SAFETY: the caller's promise.
    packet.has_ports() && unsafe { has_budget(half, config) }
}

/// Sampled every time, not only at the start of a flow.
#[inline(always)]
fn is_protocol(packet: &Packet) -> bool {
    packet.is_dns() || packet.icmp_error
}

/// Whether more packets with payload of this direction are to be sampled.
///
/// # Safety
/// `half` points into a live entry.
#[inline(always)]
unsafe fn has_budget(half: *const Half, config: &Config) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*half).sampled < config.sample_budget }
}

/// Notes in the entry which of the flow's packets need more than counting ([`front::attention`]). After the packet was recorded and
/// sampled. What it noted.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn note_attention(value: *mut FlowValue, packet: &Packet, config: &Config) -> u8 {
    // SAFETY: the caller's promise. A plain store: two CPUs note nearly the same.
    unsafe {
        let every = config.sample_protocols != 0 && packet.is_dns();
        let egress = every || has_budget(half(value, EGRESS), config);
        let ingress = every || has_budget(half(value, INGRESS), config);
        let handshake = in_handshake(value);
        let noted = (if egress { front::attention::EGRESS_PAYLOAD } else { 0 })
            | (if ingress { front::attention::INGRESS_PAYLOAD } else { 0 })
            | (if handshake { front::attention::HANDSHAKE } else { 0 });
        (*value).attention = noted;
        noted
    }
}

/// # Safety
/// As [`record`]; `half` belongs to `value`.
#[inline(always)]
unsafe fn record_tcp<C: Cells>(value: *mut FlowValue, half: *mut Half, seen: &Observation) {
    let packet = &seen.packet;
    // SAFETY: the caller's promise.
    unsafe {
        if packet.flags & tcp::RST != 0 {
            C::add32(&raw mut (*half).resets, 1);
        } else {
            follow::<C>(half, packet, &seen.size);
        }
        note_flags::<C>(half, packet.flags);
        let handshake = &raw mut (*value).handshake;
        match packet.flags & (tcp::SYN | tcp::ACK) {
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

/// Follows one direction's sequence numbers (RFC 9293, 3.4). Two CPUs at once may miss that data was repeated; packets are not counted here.
///
/// # Safety
/// As [`record`]; the flags of this packet are not noted yet.
#[inline(always)]
unsafe fn follow<C: Cells>(half: *mut Half, packet: &Packet, size: &Size) {
    let is_syn = packet.flags & tcp::SYN != 0;
    let phantom = u32::from(is_syn) + u32::from(packet.flags & tcp::FIN != 0);
    let end = packet.sequence.wrapping_add(packet.payload_len).wrapping_add(phantom);
    // SAFETY: the caller's promise.
    unsafe {
        if packet.window == 0 {
            C::add32(&raw mut (*half).zero_windows, 1);
        }
        // A SYN starts anew: numbers of an earlier connection mean nothing.
        if is_syn || (*half).flags == 0 {
            (*half).highest = end;
            return;
        }
        if packet.payload_len != 0 && is_before(packet.sequence, (*half).highest) {
            let repeated = (*half).highest.wrapping_sub(packet.sequence).min(packet.payload_len);
            C::add64(&raw mut (*half).retransmitted_bytes, u64::from(repeated));
            C::add32(&raw mut (*half).retransmitted_packets, repeated_packets(repeated, packet, size));
        }
        if is_before((*half).highest, end) {
            (*half).highest = end;
        }
    }
}

/// How many of the packets that a wire would carry hold repeated bytes.
#[inline(always)]
fn repeated_packets(repeated: u32, packet: &Packet, size: &Size) -> u32 {
    let packets = size.packets() as u32;
    if packets == 1 || repeated == packet.payload_len {
        return packets;
    }
    (u64::from(repeated) * u64::from(packets)).div_ceil(u64::from(packet.payload_len)) as u32
}

/// Takes over flags and the highest sequence number from another count of the same direction.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn raise<C: Cells>(half: *mut Half, flags: u8, highest: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*half).flags == 0 || is_before((*half).highest, highest) {
            (*half).highest = highest;
        }
        note_flags::<C>(half, flags);
    }
}

/// # Safety
/// As [`record`].
#[inline(always)]
unsafe fn note_flags<C: Cells>(half: *mut Half, flags: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let missing = u32::from(flags) & !(*half).flags;
        if missing != 0 {
            C::or32(&raw mut (*half).flags, missing);
        }
    }
}

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
