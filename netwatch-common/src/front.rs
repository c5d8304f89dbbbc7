//! The front: a small direct-mapped table of each CPU's own, where packets of flows that are busy right now are counted with
//! plain additions, no helper call and no line of the cache that another CPU writes. What a slot has counted is merged into the flow's
//! entry when another flow takes its place, and when user space asks for it (`flush`).
//!
//! **Time.** A precise clock costs more than counting does. Packets that need none take the kernel's tick (`jiffies`, read in line) as ns of
//! the monotonic clock: `jiffies * tick_ns + tick_base_ns`. It is up to one tick behind (4 ms at 250 Hz) and never ahead.
//!
//! Only packets that need nothing but counting are counted here: see [`count`]. Not: what happens to the others, and who gets
//! a slot; the classifier's `account` decides that.

use crate::account::{self, Cells};
use crate::flow::{EGRESS, FlowKey, FlowValue, Half, INGRESS};
use crate::hash::Words;
use crate::observation::Size;
use crate::parse::Packet;
use crate::round_trip::{self, Probe};
use crate::tcp::{self, is_before};

/// Slots of each CPU.
pub const SLOTS: u32 = 4096;
/// Slots that are flushed at a time: few, because the verifier follows each.
pub const PER_FLUSH: usize = 8;
/// How often a front has to be flushed.
pub const GROUPS: usize = SLOTS as usize / PER_FLUSH;
/// A flow gets the slot of another once packets have asked for it so often, and that one had none meanwhile. Until then they are counted
/// in their entries, which is cheaper than flows that take turns.
pub const PATIENCE: u8 = 64;
/// A slot takes so many bytes in each direction until it is merged, and one buffer more. So its counters of 32 bits cannot overflow, and the
/// highest sequence number, which data without a gap moves on by no more than that, gets nowhere near half around: a merge could not tell
/// then which of two is the higher.
const FULL: u32 = 1 << 30;
/// Time between two measurements of a flow's round trip, in ns.
pub const PROBE_INTERVAL_NS: u64 = 1_000_000_000;

/// What must not be counted here: bits of [`Slot::attention`].
pub mod attention {
    /// Packets with payload that the local end sent: they are to be sampled.
    pub const EGRESS_PAYLOAD: u8 = 1;
    /// Packets with payload that the local end received.
    pub const INGRESS_PAYLOAD: u8 = 2;
    /// Every packet: a handshake is not over.
    pub const HANDSHAKE: u8 = 4;
}

/// What one direction's packets add up to since the last merge. All but the wire's extra bytes fit 32 bits: see [`FULL`].
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Socket buffers.
    pub skbs: u32,
    /// As in [`crate::flow::Counts`].
    pub bytes: u32,
    /// As in [`Half`]; not reset by a merge.
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

/// One CPU's count of one flow. Two lines of the cache: what a packet is compared with, and what it changes.
#[repr(C, align(64))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The flow; all zero when the slot is free.
    pub key: FlowKey,
    /// The number of its entry.
    pub entry: u32,
    /// Packets that need more than counting: bits of [`attention`].
    pub attention: u8,
    /// Packets of other flows that found the slot taken, since its flow had one.
    pub conflicts: u8,
    /// OR of the TCP flag bytes seen, sent and received; not reset by a merge.
    pub flags: [u8; 2],
    /// Latest packet, ns of the kernel's monotonic clock.
    pub last_seen_ns: u64,
    /// From then on, the next data that the local end sends starts a measurement of the round trip.
    pub probe_after_ns: u64,
    /// Sent by the local end, then received by it.
    pub tallies: [Tally; 2],
}

/// What the front of one CPU has beside its slots: one page, which user space maps.
#[repr(C, align(4096))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Packets that are being counted on this CPU, more than one only where they preempt each other: an interrupt that comes then must leave the
    /// front alone.
    pub active: u32,
    /// 1 while the front is being flushed: a packet that comes then must leave it alone.
    pub flushing: u32,
    /// Packets until the next one that is sampled by the interval.
    pub countdown: u32,
    /// An entry's number plus one that was taken and not used; 0 for none.
    pub spare: u32,
    /// The kernel's tick in ns. This and the next are written by user space.
    pub tick_ns: u64,
    /// Monotonic time at which the count of ticks would have been 0, modulo 2⁶⁴.
    pub tick_base_ns: u64,
    zero: [u64; 4],
    /// One bit a slot, a byte for each group: it may hold something. Set by the classifier, cleared by the flush.
    pub installed: [u8; GROUPS],
}

/// The front of one CPU. One element of the FRONTS map.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Front {
    /// All but the slots.
    pub head: Head,
    /// By [`slot`].
    pub slots: [Slot; SLOTS as usize],
}

/// Counts a packet of the slot's flow if it needs nothing else: it opens and closes nothing, closes no window, leaves no gap, is not to
/// be sampled, and neither begins nor ends a measurement of the round trip. False if not.
///
/// # Safety
/// `slot` points to a live slot that nobody else changes. `probe` gives a live probe, or none.
#[inline(always)]
pub unsafe fn count(slot: *mut Slot, hash: u64, seen: &Plain<'_>, probe: impl Fn(u64) -> Option<*const Probe>) -> bool {
    let Plain { packet, size, direction, now_ns } = *seen;
    // SAFETY: the caller's promise.
    unsafe {
        if (*slot).attention & attention_of(packet, direction) != 0 {
            return false;
        }
        let tally = tally(slot, direction);
        if (*tally).bytes >= FULL {
            return false;
        }
        if packet.flags != 0 && !follow(slot, tally, hash, seen, probe) {
            return false;
        }
        (*tally).skbs += 1;
        (*tally).bytes += size.bytes as u32;
        if size.has_extra() {
            (*tally).extra_packets += size.extra_packets as u32;
            (*tally).extra_wire_bytes += size.extra_wire_bytes;
        }
        (*slot).last_seen_ns = now_ns;
        (*slot).conflicts = 0;
    }
    true
}

/// Counts a packet in its flow's entry, because another flow has the slot. False, and nothing changed, if it needs more than counting or the
/// other flow's time is over.
///
/// # Safety
/// As for [`count`]; `value` points to the flow's live entry, which others may change at the same time if `C` allows it.
#[inline(always)]
pub unsafe fn count_in_entry<C: Cells>(
    slot: *mut Slot,
    value: *mut FlowValue,
    hash: u64,
    seen: &Plain<'_>,
    probe: impl Fn(u64) -> Option<*const Probe>,
) -> bool {
    let Plain { packet, direction, .. } = *seen;
    // SAFETY: the caller's promise.
    unsafe {
        if (*slot).conflicts >= PATIENCE || (*value).attention & attention_of(packet, direction) != 0 {
            return false;
        }
        if packet.flags != 0 {
            let is_data = packet.payload_len != 0;
            let probe = if direction == INGRESS || is_data && is_old(value, packet) { probe(hash) } else { None };
            let is_measured = match direction {
                EGRESS => is_armed(probe, hash),
                _ => probe.is_some_and(|probe| round_trip::is_answered(probe, hash, packet)),
            };
            if !is_plain(packet) || is_measured {
                return false;
            }
        }
        (*slot).conflicts += 1;
        account::record_plain::<C>(value, seen);
    }
    true
}

/// # Safety
/// `value` points to a live entry.
#[inline(always)]
unsafe fn is_old(value: *mut FlowValue, packet: &Packet) -> bool {
    // SAFETY: the caller's promise.
    unsafe { round_trip::is_repeated(value, packet) }
}

/// A packet that may be counted here.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// What its headers said.
    pub packet: &'a Packet,
    /// How much it counts.
    pub size: &'a Size,
    /// [`EGRESS`] or [`INGRESS`].
    pub direction: u8,
    /// The kernel's tick.
    pub now_ns: u64,
}

/// Follows a TCP packet's numbers and flags. False, and nothing changed, if it has to go the long way.
///
/// # Safety
/// As for [`count`]; the tally is the slot's for this direction.
#[inline(always)]
unsafe fn follow(
    slot: *mut Slot,
    tally: *mut Tally,
    hash: u64,
    seen: &Plain<'_>,
    probe: impl Fn(u64) -> Option<*const Probe>,
) -> bool {
    let Plain { packet, size, direction, now_ns } = *seen;
    if !is_plain(packet) || packet.window == 0 {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let flags = flags(slot, direction);
        // Nothing of this direction is known here: `highest` means nothing yet.
        if *flags == 0 {
            return false;
        }
        if direction == INGRESS && probe(hash).is_some_and(|probe| round_trip::is_answered(probe, hash, packet)) {
            return false;
        }
        let is_data = packet.payload_len != 0;
        let is_next = packet.sequence == (*tally).highest;
        // A gap: data is missing, or another CPU counted what lies between.
        if !is_next && is_before((*tally).highest, packet.sequence) {
            return false;
        }
        let is_old = !is_next && is_data && is_before(packet.sequence, (*tally).highest);
        if direction == EGRESS && is_data && (now_ns >= (*slot).probe_after_ns || is_old && is_armed(probe(hash), hash))
        {
            return false;
        }
        let end = packet.sequence.wrapping_add(packet.payload_len);
        if is_old {
            // So are old and new bytes in one buffer.
            if is_before((*tally).highest, end) {
                return false;
            }
            (*tally).retransmitted_packets += size.packets() as u32;
            (*tally).retransmitted_bytes += packet.payload_len;
        }
        if is_next {
            (*tally).highest = end;
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
unsafe fn is_armed(probe: Option<*const Probe>, hash: u64) -> bool {
    // SAFETY: the caller's promise.
    probe.is_some_and(|probe| unsafe { (*probe).armed } == hash)
}

/// Whether a TCP packet neither opens nor closes anything.
#[inline(always)]
pub fn is_plain(packet: &Packet) -> bool {
    packet.flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0
}

/// The bits of [`attention`] that keep a packet out of the front.
#[inline(always)]
pub fn attention_of(packet: &Packet, direction: u8) -> u8 {
    let payload = if packet.payload_len != 0 { attention::EGRESS_PAYLOAD << direction } else { 0 };
    payload | attention::HANDSHAKE
}

/// Gives the slot to a flow, or brings it up to date with the flow's entry. What it had counted must have been merged.
///
/// # Safety
/// `slot` points to a live slot that nobody else changes, `value` to the flow's entry.
#[inline(always)]
pub unsafe fn install(slot: *mut Slot, words: &Words, entry: u32, value: *mut FlowValue, attention: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*slot).key).cast::<Words>().write([
            words[0].to_le(),
            words[1].to_le(),
            words[2].to_le(),
            words[3].to_le(),
            words[4].to_le(),
        ]);
        (*slot).entry = entry;
        (*slot).attention = attention;
        (*slot).conflicts = 0;
        adopt(slot, value, EGRESS);
        adopt(slot, value, INGRESS);
    }
}

/// # Safety
/// As for [`install`].
#[inline(always)]
unsafe fn adopt(slot: *mut Slot, value: *mut FlowValue, direction: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let half = account::half(value, direction);
        (*tally(slot, direction)).highest = (*half).highest;
        *flags(slot, direction) = (*half).flags as u8;
    }
}

/// Moves what the slot has counted into the flow's entry. The slot stays the flow's.
///
/// # Safety
/// As for [`install`]; others may change the entry at the same time if `C` allows it.
#[inline(always)]
pub unsafe fn merge<C: Cells>(slot: *mut Slot, value: *mut FlowValue) {
    // SAFETY: the caller's promise.
    unsafe {
        merge_half::<C>(slot, value, EGRESS);
        merge_half::<C>(slot, value, INGRESS);
    }
}

/// # Safety
/// As for [`merge`].
#[inline(always)]
unsafe fn merge_half<C: Cells>(slot: *mut Slot, value: *mut FlowValue, direction: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let (tally, half) = (tally(slot, direction), account::half(value, direction));
        if (*tally).skbs == 0 {
            return;
        }
        let counts = &raw mut (*half).counts;
        C::add64(&raw mut (*counts).skbs, (*tally).skbs.into());
        C::add64(&raw mut (*counts).bytes, (*tally).bytes.into());
        if (*tally).extra_wire_bytes | u64::from((*tally).extra_packets) != 0 {
            C::add64(&raw mut (*counts).extra_packets, (*tally).extra_packets.into());
            C::add64(&raw mut (*counts).extra_wire_bytes, (*tally).extra_wire_bytes);
        }
        if (*tally).retransmitted_packets != 0 {
            C::add32(&raw mut (*half).retransmitted_packets, (*tally).retransmitted_packets);
            C::add64(&raw mut (*half).retransmitted_bytes, (*tally).retransmitted_bytes.into());
        }
        let (flags, highest) = (*flags(slot, direction), (*tally).highest);
        if flags != 0 {
            account::raise::<C>(half, flags, highest);
        }
        tally.write(Tally { highest, ..Tally::default() });
        account::advance(&raw mut (*value).last_seen_ns, (*slot).last_seen_ns);
    }
}

/// Frees the slot. What it had counted must have been merged.
///
/// # Safety
/// As for [`install`].
#[inline(always)]
pub unsafe fn clear(slot: *mut Slot) {
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*slot).key).cast::<Words>().write([0; 5]);
        (*slot).probe_after_ns = 0;
    }
}

/// Whether the slot is some flow's.
///
/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
pub unsafe fn is_taken(slot: *const Slot) -> bool {
    // SAFETY: the caller's promise; no key has the kind 0.
    unsafe { (*slot).key.kind != 0 }
}

/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
unsafe fn tally(slot: *mut Slot, direction: u8) -> *mut Tally {
    // SAFETY: the caller's promise; one of two. Computed, not branched to, for the verifier's sake.
    unsafe { (&raw mut (*slot).tallies).cast::<Tally>().add(usize::from(direction & 1)) }
}

/// # Safety
/// `slot` points to a live slot.
#[inline(always)]
unsafe fn flags(slot: *mut Slot, direction: u8) -> *mut u8 {
    // SAFETY: the caller's promise; one of two.
    unsafe { (&raw mut (*slot).flags).cast::<u8>().add(usize::from(direction & 1)) }
}

/// The byte of [`Head::installed`] and the bit in it.
#[inline(always)]
pub fn place(slot: u32) -> (usize, u8) {
    (slot as usize / PER_FLUSH, 1 << (slot % PER_FLUSH as u32))
}

/// Where the flow with this hash may have its slot.
#[inline(always)]
pub fn slot(hash: u64) -> u32 {
    // Bits that neither the bucket nor most of the tag depends on.
    (hash >> 40) as u32 & (SLOTS - 1)
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Tally>() == 32 && size_of::<Slot>() == 128);
    assert!(offset_of!(Slot, entry) == 40 && offset_of!(Slot, last_seen_ns) == 48 && offset_of!(Slot, tallies) == 64);
    assert!(size_of::<Head>() == 4096 && offset_of!(Head, installed) == 64);
    assert!(size_of::<Front>() == 4096 + 128 * SLOTS as usize);
    assert!(EGRESS == 0 && INGRESS == 1 && attention::INGRESS_PAYLOAD == attention::EGRESS_PAYLOAD << INGRESS);
    assert!(PER_FLUSH == u8::BITS as usize && SLOTS.is_power_of_two() && size_of::<Half>() == 72);
};
