//! The accounting rules: how an entry grows with a packet. The same rules serve the shared table of
//! the classifier and the plain memory of the host meter; [`Access`] is the only difference. Where
//! entries are stored is decided elsewhere.

use crate::access::Access;
use crate::config::Config;
use crate::flow::{self, EGRESS, FlowValue, Half, INGRESS, initial, observation_point, slow_path};
use crate::handshake;
use crate::observation::{Observation, PlainPacket, Size};
use crate::parse::{Packet, part, protocol};
use crate::sample::{self, reason};
use crate::tcp::{self, SYN_ACK, is_before};

/// Initializes an entry that is still [`FlowValue::EMPTY`] from its first packet. [`record`] then
/// counts the packet.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn open(value: *mut FlowValue, seen: &Observation) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*value).opened_by = opened_by(seen);
        (*value).first_seen_ns = seen.now_ns;
    }
}

/// Whether the packet needs the precise clock: it opens, closes or measures something, or it is
/// sampled. For all others the kernel's tick is precise enough.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn needs_clock(value: *mut FlowValue, seen: &Observation, config: &Config) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*value).first_seen_ns == 0
            || !seen.packet.is_plain()
            || handshake::is_pending(value)
            || is_sampled(half(value, seen.direction), seen, config)
    }
}

/// The direction that opened the flow, given its first packet: the packet's own, unless the packet
/// answers a SYN that was not observed.
#[inline(always)]
pub fn opened_by(seen: &Observation) -> u8 {
    if seen.packet.flags & SYN_ACK == SYN_ACK { seen.direction ^ 1 } else { seen.direction }
}

/// What the classifier notifies user space of on the EVENTS ring.
pub mod notify {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The packet is the first of its flow.
    pub const NEW_FLOW: u32 = 1;
    /// The packet may belong to another socket of the target than the flow's earlier packets: it
    /// begins a connection on ports that were used before, or it is the target's first answer to a
    /// remote.
    pub const SOCKET_CHANGED: u32 = 2;
}

/// What to notify user space of because of a packet that has not been recorded yet: one of
/// [`notify`].
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn notification(value: *mut FlowValue, seen: &Observation) -> u32 {
    // SAFETY: guaranteed by the caller.
    let (is_new, is_first) = unsafe { ((*value).first_seen_ns == 0, (*half(value, seen.direction)).counts.skbs == 0) };
    let from_target = seen.direction == EGRESS || seen.key.observation_point == observation_point::LOOPBACK;
    match (is_new, from_target && (is_first || seen.packet.flags & tcp::SYN != 0)) {
        (true, _) => notify::NEW_FLOW,
        (false, true) => notify::SOCKET_CHANGED,
        (false, false) => notify::NONE,
    }
}

/// Records a packet in its entry.
///
/// # Safety
/// `value` points to a live entry; if `A` is [`ExclusiveAccess`](crate::access::ExclusiveAccess),
/// nothing else changes it.
#[inline(always)]
pub unsafe fn record<A: Access>(value: *mut FlowValue, seen: &Observation) {
    let Observation { packet, size, direction, now_ns, .. } = seen;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let half = half(value, *direction);
        count::<A>(value, half, size, *now_ns);
        if packet.flags != 0 {
            record_tcp::<A>(value, half, seen);
        } else if packet.protocol == protocol::UDP {
            record_framing::<A>(half, packet, size);
        }
        if packet.fragment != part::WHOLE && packet.protocol == protocol::TCP && packet.has_ports() {
            A::or32(&raw mut (*half).flags, initial::FRAGMENTED);
        }
    }
}

/// Records by how much the framing of a datagram differs from the usual, so that its payload can be
/// computed: options, fragments, tags, bytes after the end of the packet.
///
/// # Safety
/// As for [`record`]; `half` belongs to the entry of the packet.
#[inline(always)]
unsafe fn record_framing<A: Access>(half: *mut Half, packet: &Packet, size: &Size) {
    let framing = size.bytes.wrapping_sub(u64::from(packet.payload_len));
    let unusual = framing.wrapping_sub(flow::udp_framing(packet.kind));
    if unusual != 0 {
        // SAFETY: guaranteed by the caller.
        unsafe { A::add64(&raw mut (*half).retransmitted_bytes, unusual) };
    }
}

/// Records a packet of which only the size is known.
///
/// # Safety
/// As for [`record`].
#[inline(always)]
pub unsafe fn record_size<A: Access>(value: *mut FlowValue, direction: u8, size: &Size, now_ns: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*value).first_seen_ns == 0 {
            (*value).opened_by = direction;
            (*value).first_seen_ns = now_ns;
        }
        count::<A>(value, half(value, direction), size, now_ns);
    }
}

/// Records a packet that neither opens nor closes anything and changes no handshake: the part of
/// [`record`] that applies to such packets.
///
/// # Safety
/// As for [`record`].
#[inline(always)]
pub unsafe fn record_plain<A: Access>(value: *mut FlowValue, seen: &PlainPacket<'_>) {
    let PlainPacket { packet, size, direction, now_ns } = *seen;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let half = half(value, direction);
        count::<A>(value, half, size, now_ns);
        if packet.flags != 0 {
            track_sequence::<A>(half, packet, size, false);
            add_flags::<A>(half, u32::from(packet.flags) | initial::NUMBERED);
        }
    }
}

/// # Safety
/// As for [`record`]; `half` belongs to `value`.
#[inline(always)]
unsafe fn count<A: Access>(value: *mut FlowValue, half: *mut Half, size: &Size, now_ns: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let counts = &raw mut (*half).counts;
        A::add64(&raw mut (*counts).skbs, 1);
        A::add64(&raw mut (*counts).bytes, size.bytes);
        if size.has_extra() {
            A::add64(&raw mut (*counts).extra_packets, size.extra_packets);
            A::add64(&raw mut (*counts).extra_wire_bytes, size.extra_wire_bytes);
        }
        advance_time(&raw mut (*value).last_seen_ns, now_ns);
    }
}

/// Moves a time forward. If two CPUs race, the earlier of two nearly equal times may remain.
///
/// # Safety
/// `time_ns` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn advance_time(time_ns: *mut u64, now_ns: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if *time_ns < now_ns {
            time_ns.write(now_ns);
        }
    }
}

/// One direction of an entry.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn half(value: *mut FlowValue, direction: u8) -> *mut Half {
    // Computed, not branched to: the verifier then follows one path instead of two.
    let index = usize::from(direction & 1);
    // SAFETY: guaranteed by the caller; there are two halves.
    unsafe { (&raw mut (*value).halves).cast::<Half>().add(index) }
}

/// The reason to sample a recorded packet: one of [`reason`]. The sample is charged to the flow's
/// budget even if the ring turns out to be full, so that a flow cannot retry forever.
///
/// # Safety
/// `half` points into a live entry; if `A` is [`ExclusiveAccess`](crate::access::ExclusiveAccess),
/// nothing else changes it.
#[inline(always)]
pub unsafe fn sample_reason<A: Access>(half: *mut Half, seen: &Observation, config: &Config) -> u8 {
    let packet = &seen.packet;
    // SAFETY: guaranteed by the caller.
    unsafe {
        if !is_sampled(half, seen, config) {
            return reason::NONE;
        }
        if is_always_sampled(packet) {
            return if packet.icmp_error { reason::ICMP_ERROR } else { reason::DNS };
        }
        A::add32(&raw mut (*half).sampled, sample::charge(packet.payload_len, packet.flags != 0));
    }
    reason::HEAD
}

/// Whether the packet is to be sampled.
///
/// # Safety
/// `half` points into a live entry.
#[inline(always)]
unsafe fn is_sampled(half: *const Half, seen: &Observation, config: &Config) -> bool {
    let packet = &seen.packet;
    if packet.payload_len == 0 {
        return false;
    }
    if config.sample_protocols != 0 && is_always_sampled(packet) {
        return true;
    }
    // SAFETY: guaranteed by the caller.
    packet.has_ports() && unsafe { has_budget(half, config) }
}

/// Whether such packets are sampled throughout the flow, not only at its start.
#[inline(always)]
fn is_always_sampled(packet: &Packet) -> bool {
    packet.is_dns() || packet.icmp_error
}

/// Whether further packets with payload of this direction are to be sampled.
///
/// # Safety
/// `half` points into a live entry.
#[inline(always)]
unsafe fn has_budget(half: *const Half, config: &Config) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (*half).sampled < config.sample_budget }
}

/// Updates which of the flow's packets need more than counting (bits of [`slow_path`]), after a
/// packet was recorded and sampled. Returns the new mask.
///
/// # Safety
/// `value` points to a live entry.
#[inline(always)]
pub unsafe fn update_slow_path_mask(value: *mut FlowValue, packet: &Packet, config: &Config) -> u8 {
    // SAFETY: guaranteed by the caller. A plain store: two CPUs store nearly the same.
    unsafe {
        let every = config.sample_protocols != 0 && packet.is_dns();
        let egress = every || has_budget(half(value, EGRESS), config);
        let ingress = every || has_budget(half(value, INGRESS), config);
        let handshake = handshake::is_pending(value);
        let mask = (if egress { slow_path::EGRESS_PAYLOAD } else { 0 })
            | (if ingress { slow_path::INGRESS_PAYLOAD } else { 0 })
            | (if handshake { slow_path::HANDSHAKE } else { 0 });
        (*value).slow_path_mask = mask;
        mask
    }
}

/// # Safety
/// As for [`record`]; `half` belongs to `value`.
#[inline(always)]
unsafe fn record_tcp<A: Access>(value: *mut FlowValue, half: *mut Half, seen: &Observation) {
    let packet = &seen.packet;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut flags = u32::from(packet.flags);
        if packet.flags & tcp::RST != 0 {
            A::add32(&raw mut (*half).resets, 1);
            // It takes no sequence number, and that of a refusal has no place in a stream.
            flags &= !u32::from(tcp::FIN);
        } else {
            // A SYN starts over: sequence numbers of an earlier connection do not apply.
            let starts_over = packet.flags & tcp::SYN != 0 && !handshake::is_late_copy(value, seen);
            track_sequence::<A>(half, packet, &seen.size, starts_over);
            flags |= initial::NUMBERED;
        }
        add_flags::<A>(half, flags);
        match packet.flags & (tcp::SYN | tcp::ACK) {
            tcp::SYN => A::add32(&raw mut (*half).syns, 1),
            SYN_ACK => A::add32(&raw mut (*half).syn_acks, 1),
            _ => {}
        }
        handshake::record::<A>(value, seen);
    }
}

/// Follows the sequence numbers of one direction (RFC 9293, 3.4). If two CPUs race, repeated data
/// may go unnoticed; packets are not counted here.
///
/// # Safety
/// As for [`record`]; the flags of this packet are not added yet.
#[inline(always)]
unsafe fn track_sequence<A: Access>(half: *mut Half, packet: &Packet, size: &Size, starts_over: bool) {
    let phantom = u32::from(packet.flags & tcp::SYN != 0) + u32::from(packet.flags & tcp::FIN != 0);
    let end = packet.sequence.wrapping_add(packet.payload_len).wrapping_add(phantom);
    // SAFETY: guaranteed by the caller.
    unsafe {
        if packet.window == 0 {
            A::add32(&raw mut (*half).zero_windows, 1);
        }
        if starts_over || !is_numbered(half) {
            (*half).highest = end;
            return;
        }
        if packet.payload_len != 0 && is_before(packet.sequence, (*half).highest) {
            let repeated = (*half).highest.wrapping_sub(packet.sequence).min(packet.payload_len);
            A::add64(&raw mut (*half).retransmitted_bytes, u64::from(repeated));
            A::add32(&raw mut (*half).retransmitted_packets, repeated_packets(repeated, packet, size));
        }
        A::advance(&raw mut (*half).highest, end);
    }
}

/// How many of the packets that a wire would carry contain repeated bytes.
#[inline(always)]
fn repeated_packets(repeated: u32, packet: &Packet, size: &Size) -> u32 {
    let packets = size.packets() as u32;
    if packets == 1 || repeated == packet.payload_len {
        return packets;
    }
    (u64::from(repeated) * u64::from(packets)).div_ceil(u64::from(packet.payload_len)) as u32
}

/// Merges flags and the highest sequence number from another count of the same direction, which
/// has that number.
///
/// # Safety
/// As for [`record`].
#[inline(always)]
pub unsafe fn merge_tcp_state<A: Access>(half: *mut Half, flags: u8, highest: u32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if is_numbered(half) {
            A::advance(&raw mut (*half).highest, highest);
        } else {
            (*half).highest = highest;
        }
        add_flags::<A>(half, u32::from(flags) | initial::NUMBERED);
    }
}

/// Whether the highest sequence number of a direction is known.
///
/// # Safety
/// `half` points into a live entry.
#[inline(always)]
pub unsafe fn is_numbered(half: *const Half) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (*half).flags & initial::NUMBERED != 0 }
}

/// Adds flags of TCP and bits of [`initial`].
///
/// # Safety
/// As for [`record`].
#[inline(always)]
unsafe fn add_flags<A: Access>(half: *mut Half, flags: u32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let missing = flags & !(*half).flags;
        if missing != 0 {
            A::or32(&raw mut (*half).flags, missing);
        }
    }
}

const _: () = assert!(EGRESS == 0 && INGRESS == 1);
