//! The front: a small direct-mapped table on each CPU. It counts packets of busy flows with plain
//! additions, without helper calls and without cache lines that other CPUs write. The counts of a
//! slot are merged into the flow's entry when another flow takes the slot, and when user space
//! requests it (program `flush`).
//!
//! **Time.** Reading a precise clock costs more than counting. Packets that do not need one use the
//! kernel's tick (`jiffies`, read inline) as ns of the boot-time clock: `jiffies * tick_ns +
//! tick_base_ns`. It is up to one tick late (4 ms at 250 Hz) and never early.
//!
//! Only packets that need nothing but counting are counted here: see [`count`]. What happens to the
//! others, and which flow gets a slot, is decided by the classifier's long path.

use crate::access::Access;
use crate::account;
use crate::flow::{EGRESS, EntryKey, FlowValue, Half, INGRESS, initial, slow_path};
use crate::hash::Words;
use crate::observation::PlainPacket;
use crate::parse::Packet;
use crate::round_trip::{self, RttProbe};
use crate::tcp::is_before;

/// Slots of each CPU.
pub const SLOTS: u32 = 4096;
/// Slots that one run of `flush` merges: few, because the verifier follows each of them.
pub const SLOTS_PER_GROUP: usize = 8;
/// Runs of `flush` that merge a whole front.
pub const GROUPS: usize = SLOTS as usize / SLOTS_PER_GROUP;
/// A flow loses its slot after this many packets of other flows have hit the slot and none of its
/// own. Until then, those packets are counted in their entries: swapping slots back and forth would
/// cost more.
pub const MAX_CONFLICTS: u8 = 64;
/// [`Slot::slow_path_mask`] of a slot whose entry was superseded: no packet is counted in it.
pub const DISABLED: u8 = u8::MAX;
/// Maximum number of bytes that a slot counts per direction before it is merged, plus one buffer.
/// It keeps the 32-bit counters from overflowing. It also keeps the highest sequence number, which
/// data without a gap advances by no more than this, far from half the number space: beyond that, a
/// merge could not determine which of two numbers is higher.
const MAX_UNMERGED_BYTES: u32 = 1 << 30;
/// Time between two measurements of a flow's round trip, in ns.
pub const RTT_PROBE_INTERVAL_NS: u64 = 1_000_000_000;

/// Counts of one direction since the last merge. All but the extra wire bytes fit into 32 bits: see
/// `MAX_UNMERGED_BYTES`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SlotCounts {
    /// Socket buffers.
    pub skbs: u32,
    /// As in [`crate::flow::Counts`].
    pub bytes: u32,
    /// As in [`Half`]; a merge does not reset it.
    pub highest: u32,
    /// As in [`crate::flow::Counts`].
    pub extra_packets: u32,
    /// As in [`crate::flow::Counts`].
    pub extra_wire_bytes: u64,
    /// As in [`Half`].
    pub retransmitted_packets: u32,
    /// As in [`Half`].
    pub retransmitted_bytes: u32,
}

/// One CPU's count of one flow. Two cache lines: the first is compared with a packet, the second is
/// changed by it.
#[repr(C, align(64))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The flow; all zero if the slot is free.
    pub key: EntryKey,
    /// The number of the flow's entry.
    pub entry: u32,
    /// Packets that need more than counting: bits of [`slow_path`].
    pub slow_path_mask: u8,
    /// Packets of other flows that have hit the slot since the last packet of its own flow.
    pub conflicts: u8,
    /// OR of the TCP flag bytes observed, sent and received; a merge does not reset it. 0 while
    /// `highest` of the direction is not valid.
    pub flags: [u8; 2],
    /// Latest packet, ns of the kernel's boot-time clock.
    pub last_seen_ns: u64,
    /// The first data that the local end sends after this time starts a round-trip measurement.
    pub probe_after_ns: u64,
    /// Sent by the local end, then received by it.
    pub counts: [SlotCounts; 2],
}

/// State of one CPU: one element of the HEADS map. Unlike a [`Front`], it exists for every possible
/// CPU. Two cache lines, because processors fetch lines in pairs: with every packet, a neighbor in
/// the same pair would take the line from this CPU.
#[repr(C, align(128))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FrontHead {
    /// Packets being counted on this CPU; more than one only where packets preempt each other.
    /// While it is not 0, a flush that interrupts must not touch the front.
    pub active: u32,
    /// 1 while the front is being flushed: a packet that interrupts must not touch the front.
    pub flushing: u32,
    /// Packets until the next one that is sampled by the interval.
    pub countdown: u32,
    /// Number plus one of an entry that was allocated and not used; 0 for none.
    pub spare: u32,
    /// The kernel's tick in ns. User space writes this field and the next.
    pub tick_ns: u64,
    /// Boot time at which the tick count would have been 0, modulo 2⁶⁴.
    pub tick_base_ns: u64,
    /// Always zero. Exchanged with itself as a memory barrier.
    pub barrier: u32,
    zero: [u32; 23],
}

/// The front of one CPU: one element of the FRONTS map. A CPU without a front counts every packet
/// in the shared table: exactly, but slower.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct Front {
    /// Indexed by [`slot_index`].
    pub slots: [Slot; SLOTS as usize],
}

/// The slots of one front that may be taken: one element of the INSTALLED map, which user space
/// maps.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct InstalledSlots {
    /// One bit per slot, one byte per group. Set by the classifier, cleared by the flush.
    pub groups: [u8; GROUPS],
}

/// Counts a packet of the slot's flow if it needs nothing else: it opens and closes nothing, leaves
/// no gap, does not close the window, is not to be sampled, and neither begins nor completes a
/// round-trip measurement. Otherwise returns false.
///
/// # Safety
/// `slot` points to a live slot that nothing else changes. `probe` returns a live probe, or none.
#[inline(always)]
pub unsafe fn count(
    slot: *mut Slot,
    hash: u64,
    seen: &PlainPacket<'_>,
    probe: impl Fn(u64) -> Option<*const RttProbe>,
) -> bool {
    let PlainPacket { packet, size, direction, now_ns } = *seen;
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*slot).slow_path_mask & slow_path_bits(packet, direction) != 0 {
            return false;
        }
        let counts = counts(slot, direction);
        if (*counts).bytes >= MAX_UNMERGED_BYTES {
            return false;
        }
        let needs_nothing_else =
            if packet.flags != 0 { track_tcp(slot, counts, hash, seen, probe) } else { seen.ends_with_payload() };
        if !needs_nothing_else {
            return false;
        }
        (*counts).skbs += 1;
        (*counts).bytes += size.bytes as u32;
        if size.has_extra() {
            (*counts).extra_packets += size.extra_packets as u32;
            (*counts).extra_wire_bytes += size.extra_wire_bytes;
        }
        (*slot).last_seen_ns = now_ns;
        (*slot).conflicts = 0;
    }
    true
}

/// Counts a packet in its flow's entry, because another flow occupies the slot. Returns false,
/// without changing anything, if the packet needs more than counting or the other flow has reached
/// [`MAX_CONFLICTS`].
///
/// # Safety
/// As for [`count`]; `value` points to the flow's live entry, which others may change concurrently
/// if `A` allows it.
#[inline(always)]
pub unsafe fn count_in_entry<A: Access>(
    slot: *mut Slot,
    value: *mut FlowValue,
    hash: u64,
    seen: &PlainPacket<'_>,
    probe: impl Fn(u64) -> Option<*const RttProbe>,
) -> bool {
    let PlainPacket { packet, direction, .. } = *seen;
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*slot).conflicts >= MAX_CONFLICTS || (*value).slow_path_mask & slow_path_bits(packet, direction) != 0 {
            return false;
        }
        if packet.flags != 0 {
            let is_data = packet.payload_len != 0;
            let needs_probe = direction == INGRESS || is_data && round_trip::is_repeated(value, packet);
            let probe = if needs_probe { probe(hash) } else { None };
            let is_measured = match direction {
                EGRESS => is_armed(probe, hash),
                _ => probe.is_some_and(|probe| round_trip::is_answered(probe, hash, packet)),
            };
            if !packet.is_plain() || is_measured {
                return false;
            }
        } else if !seen.ends_with_payload() {
            return false;
        }
        (*slot).conflicts += 1;
        account::record_plain::<A>(value, seen);
    }
    true
}

/// Follows the sequence numbers and flags of a TCP packet. Returns false, without changing
/// anything, if the packet has to take the long path.
///
/// # Safety
/// As for [`count`]; `counts` is the slot's for this direction.
#[inline(always)]
unsafe fn track_tcp(
    slot: *mut Slot,
    counts: *mut SlotCounts,
    hash: u64,
    seen: &PlainPacket<'_>,
    probe: impl Fn(u64) -> Option<*const RttProbe>,
) -> bool {
    let PlainPacket { packet, size, direction, now_ns } = *seen;
    if !packet.is_plain() || packet.window == 0 {
        return false;
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        let flags = flags(slot, direction);
        // Nothing but RSTs of this direction was observed, so `highest` is not valid.
        if *flags == 0 {
            return false;
        }
        if direction == INGRESS && probe(hash).is_some_and(|probe| round_trip::is_answered(probe, hash, packet)) {
            return false;
        }
        let is_data = packet.payload_len != 0;
        let is_next = packet.sequence == (*counts).highest;
        // A gap: data is missing, or another CPU counted the data in between.
        if !is_next && is_before((*counts).highest, packet.sequence) {
            return false;
        }
        let is_old = !is_next && is_data && is_before(packet.sequence, (*counts).highest);
        if direction == EGRESS && is_data && (now_ns >= (*slot).probe_after_ns || is_old && is_armed(probe(hash), hash))
        {
            return false;
        }
        let end = packet.sequence.wrapping_add(packet.payload_len);
        if is_old {
            // The buffer holds both repeated and new bytes.
            if is_before((*counts).highest, end) {
                return false;
            }
            (*counts).retransmitted_packets += size.packets() as u32;
            (*counts).retransmitted_bytes += packet.payload_len;
        }
        if is_next {
            (*counts).highest = end;
        }
        if packet.flags & !*flags != 0 {
            *flags |= packet.flags;
        }
    }
    true
}

/// # Safety
/// The probe, if there is one, is live.
#[inline(always)]
unsafe fn is_armed(probe: Option<*const RttProbe>, hash: u64) -> bool {
    // SAFETY: guaranteed by the caller.
    probe.is_some_and(|probe| unsafe { (*probe).armed } == hash)
}

/// The bits of [`slow_path`] that keep a packet out of the front.
#[inline(always)]
pub fn slow_path_bits(packet: &Packet, direction: u8) -> u8 {
    let payload = if packet.payload_len != 0 { slow_path::EGRESS_PAYLOAD << direction } else { 0 };
    payload | slow_path::HANDSHAKE
}

/// Assigns the slot to a flow, or updates it from the flow's entry. The slot's counts must have
/// been merged.
///
/// # Safety
/// `slot` points to a live slot that nothing else changes, `value` to the flow's entry.
#[inline(always)]
pub unsafe fn install(slot: *mut Slot, words: &Words, entry: u32, value: *mut FlowValue, slow_path_mask: u8) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (&raw mut (*slot).key).cast::<Words>().write([
            words[0].to_le(),
            words[1].to_le(),
            words[2].to_le(),
            words[3].to_le(),
            words[4].to_le(),
        ]);
        (*slot).entry = entry;
        (*slot).slow_path_mask = slow_path_mask;
        (*slot).conflicts = 0;
        copy_tcp_state(slot, value, EGRESS);
        copy_tcp_state(slot, value, INGRESS);
    }
}

/// # Safety
/// As for [`install`].
#[inline(always)]
unsafe fn copy_tcp_state(slot: *mut Slot, value: *mut FlowValue, direction: u8) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let half = account::half(value, direction);
        (*counts(slot, direction)).highest = (*half).highest;
        let known = (*half).flags;
        // Computed, not branched to: the verifier then follows one path instead of two.
        *flags(slot, direction) = (known * ((known >> initial::NUMBERED_BIT) & 1)) as u8;
    }
}

/// Moves the slot's counts into the flow's entry. The flow keeps the slot.
///
/// # Safety
/// As for [`install`]; others may change the entry concurrently if `A` allows it.
#[inline(always)]
pub unsafe fn merge<A: Access>(slot: *mut Slot, value: *mut FlowValue) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        merge_half::<A>(slot, value, EGRESS);
        merge_half::<A>(slot, value, INGRESS);
    }
}

/// # Safety
/// As for [`merge`].
#[inline(always)]
unsafe fn merge_half<A: Access>(slot: *mut Slot, value: *mut FlowValue, direction: u8) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let (from, half) = (counts(slot, direction), account::half(value, direction));
        if (*from).skbs == 0 {
            return;
        }
        let to = &raw mut (*half).counts;
        A::add64(&raw mut (*to).skbs, (*from).skbs.into());
        A::add64(&raw mut (*to).bytes, (*from).bytes.into());
        if (*from).extra_wire_bytes | u64::from((*from).extra_packets) != 0 {
            A::add64(&raw mut (*to).extra_packets, (*from).extra_packets.into());
            A::add64(&raw mut (*to).extra_wire_bytes, (*from).extra_wire_bytes);
        }
        if (*from).retransmitted_packets != 0 {
            A::add32(&raw mut (*half).retransmitted_packets, (*from).retransmitted_packets);
            A::add64(&raw mut (*half).retransmitted_bytes, (*from).retransmitted_bytes.into());
        }
        let (flags, highest) = (*flags(slot, direction), (*from).highest);
        if flags != 0 {
            account::merge_tcp_state::<A>(half, flags, highest);
        }
        from.write(SlotCounts { highest, ..SlotCounts::default() });
        account::advance_time(&raw mut (*value).last_seen_ns, (*slot).last_seen_ns);
    }
}

/// Frees the slot. Its counts must have been merged.
///
/// # Safety
/// As for [`install`].
#[inline(always)]
pub unsafe fn clear(slot: *mut Slot) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (&raw mut (*slot).key).cast::<Words>().write([0; 5]);
        (*slot).probe_after_ns = 0;
    }
}

/// Whether the slot belongs to a flow.
///
/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
pub unsafe fn is_taken(slot: *const Slot) -> bool {
    // SAFETY: guaranteed by the caller; no key has kind 0.
    unsafe { (*slot).key.kind != 0 }
}

/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
unsafe fn counts(slot: *mut Slot, direction: u8) -> *mut SlotCounts {
    // SAFETY: guaranteed by the caller; there are two. Computed, not branched to: the verifier then
    // follows one path.
    unsafe { (&raw mut (*slot).counts).cast::<SlotCounts>().add(usize::from(direction & 1)) }
}

/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
unsafe fn flags(slot: *mut Slot, direction: u8) -> *mut u8 {
    // SAFETY: guaranteed by the caller; there are two.
    unsafe { (&raw mut (*slot).flags).cast::<u8>().add(usize::from(direction & 1)) }
}

/// The byte of [`InstalledSlots::groups`] for a slot, and the bit in it.
#[inline(always)]
pub fn installed_bit(slot: u32) -> (usize, u8) {
    (slot as usize / SLOTS_PER_GROUP, 1 << (slot % SLOTS_PER_GROUP as u32))
}

/// The index of the slot that the flow with this hash may have.
#[inline(always)]
pub fn slot_index(hash: u64) -> u32 {
    // Bits on which neither the bucket nor most of the tag depends.
    (hash >> 40) as u32 & (SLOTS - 1)
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<SlotCounts>() == 32 && size_of::<Slot>() == 128);
    assert!(offset_of!(Slot, entry) == 40 && offset_of!(Slot, last_seen_ns) == 48 && offset_of!(Slot, counts) == 64);
    assert!(size_of::<FrontHead>() == 128 && size_of::<Front>() == 128 * SLOTS as usize);
    assert!(size_of::<InstalledSlots>() == GROUPS && GROUPS.is_multiple_of(64));
    assert!(EGRESS == 0 && INGRESS == 1 && slow_path::INGRESS_PAYLOAD == slow_path::EGRESS_PAYLOAD << INGRESS);
    assert!(SLOTS_PER_GROUP == u8::BITS as usize && SLOTS.is_power_of_two() && size_of::<Half>() == 72);
};
