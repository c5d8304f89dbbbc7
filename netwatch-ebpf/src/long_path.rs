//! The long path: counts a packet that the front did not count, in its flow's entry or in a
//! remainder; every packet is counted in exactly one of them. Then decides whether the packet is
//! sampled, and whether its flow gets a slot in the front.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use netwatch_common::account::notify;
use netwatch_common::flow::{EGRESS, FlowValue, observation_point};
use netwatch_common::front::{self as rules, FrontHead, InstalledSlots, MAX_CONFLICTS, Slot};
use netwatch_common::hash::{self, Words, is_same};
use netwatch_common::observation::{Observation, Size};
use netwatch_common::parse::{self, Frame, Hook, Packet};
use netwatch_common::sample::reason;
use netwatch_common::table::FlowEntry;
use netwatch_common::{account, handshake, remainder, round_trip, stage, stat as slots};

use crate::atomic::SharedAccess;
use crate::fragment::FragmentMap;
use crate::maps::{INSTALLED, REMAINDERS, RTT_PROBES, SCRATCH, STAGES};
use crate::preemption;
use crate::scratch::{Scratch, next_epoch};
use crate::settings::settings;
use crate::skb::{Skb, meta};
use crate::table::{self, EntryRef};
use crate::{front, sample, stat, variant};

/// Continues in [`count_packet`] with a packet observed at `hook`. Returns only if STAGES is not
/// filled.
#[inline(always)]
pub fn tail_call(ctx: &TcContext, hook: Hook) {
    // Element 0 always exists.
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: exclusive until the program ends: packets do not preempt each other.
        unsafe { (*scratch).hook = hook as u32 };
        continue_in(ctx, stage::LONG_PATH);
    }
}

/// As [`tail_call`] where packets preempt each other, by way of [`count_preemptible`]: claiming
/// memory here would lengthen the short path of all others.
#[inline(always)]
pub fn tail_call_preemptible(ctx: &TcContext, hook: Hook) {
    continue_in(ctx, stage::PREEMPTIBLE + hook as u32);
}

/// Claims scratch memory for the packet and continues in [`count_packet`]. `hook` is the number of
/// the hook.
#[inline(always)]
pub fn count_preemptible(ctx: &TcContext, hook: u32) {
    // Never called then, and the verifier need not check the rest.
    if !preemption::is_preemptible() {
        return;
    }
    match preemption::claim(ctx) {
        Some(scratch) => {
            // SAFETY: claimed until it is released.
            unsafe { (*scratch).hook = hook };
            continue_in(ctx, stage::LONG_PATH);
            preemption::release(ctx);
        }
        None => count_unread(ctx, Hook::from_number(hook)),
    }
}

/// Counts a packet that found no scratch memory, without parsing it: under a protocol that is not
/// used otherwise, and without the headers that a wire would repeat for each segment.
#[inline(always)]
fn count_unread(ctx: &TcContext, hook: Hook) {
    stat::count(slots::SCRATCH_BUSY);
    let packet = Packet { protocol: remainder::UNREAD, ..Packet::default() };
    let (key, direction) = parse::orient(&packet, hook);
    let Some(value) = REMAINDERS.get_ptr_mut(remainder::protocol_slot(packet.protocol, key.observation_point)) else {
        return;
    };
    let Some(head) = front::head() else { return };
    let size = Size::new(ctx.len(), &meta(ctx), &packet);
    // SAFETY: live map values.
    unsafe {
        let now_ns = front::tick_ns(head);
        account::record_size::<SharedAccess>(value, direction, &size, now_ns);
    }
}

/// Parses and counts the packet, notifies user space, and continues in [`sample_packet`] if the
/// packet is sampled.
#[inline(always)]
pub fn count_packet(ctx: &TcContext) {
    let Some(scratch) = preemption::claimed(ctx) else { return };
    // SAFETY: exclusive, as in `tail_call`.
    let scratch = unsafe { &mut *scratch };
    let meta = meta(ctx);
    // SAFETY: a word of the scratch memory that only the frame uses.
    let skb = unsafe { Skb::new(ctx, (&raw mut scratch.word).cast()) };
    parse::parse(&skb, &meta, &mut scratch.seen.packet);
    let scratch = forget(scratch);
    if scratch.seen.packet.incomplete && skb.is_nonlinear() {
        if skb.pull(ctx) {
            continue_in(ctx, stage::LONG_PATH);
        }
        stat::count(slots::UNREADABLE);
        debug!(ctx, "cannot read the headers of a packet of {} bytes", ctx.len());
    }
    let hook = Hook::from_number(scratch.hook);
    let Some(head) = front::head() else { return };
    scratch.seen.complete(skb.len(), &meta, hook, front::tick_ns(head), &mut FragmentMap);
    let scratch = forget(scratch);
    // Created again: after a pull that failed, the verifier rejects the former pointers.
    // SAFETY: as above.
    let skb = unsafe { Skb::new(ctx, (&raw mut scratch.word).cast()) };
    scratch.seen.timestamp = parse::timestamp(&skb, &scratch.seen.packet);
    let scratch = forget(scratch);
    // SAFETY: belongs to this CPU; the mark keeps an interrupt from flushing the front until it is
    // removed.
    let is_counted = unsafe {
        front::enter_preemptible(head);
        let is_counted = count(head, scratch);
        front::leave_preemptible(head);
        is_counted
    };
    if !is_counted {
        continue_in(ctx, stage::NEXT_EPOCH);
    }
    let scratch = forget(scratch);
    if scratch.notification != notify::NONE && settings().notify() != 0 {
        sample::notify(ctx, scratch.hook, &scratch.seen, scratch.notification == notify::SOCKET_CHANGED);
    }
    let is_selected = front::is_selected(head);
    if is_selected && scratch.reason == u32::from(reason::NONE) {
        scratch.reason = u32::from(reason::INTERVAL);
    }
    if scratch.reason != u32::from(reason::NONE) {
        continue_in(ctx, stage::SAMPLE);
    }
    preemption::release(ctx);
}

/// Samples the packet that [`count_packet`] has counted.
#[inline(always)]
pub fn sample_packet(ctx: &TcContext) {
    if let Some(scratch) = preemption::claimed(ctx) {
        // SAFETY: exclusive, as in `tail_call`.
        let scratch = unsafe { &*scratch };
        sample::copy(ctx, &scratch.seen, scratch.reason as u8);
        preemption::release(ctx);
    }
}

/// Makes the contents of map memory unknown to the verifier, which does not track them, and to the
/// compiler, which would substitute constants. From here, one path continues instead of one for
/// every path that led here.
#[inline(always)]
pub fn forget<T>(memory: &mut T) -> &mut T {
    core::hint::black_box(memory)
}

/// Continues in another program. Returns only if that fails.
#[inline(always)]
pub fn continue_in(ctx: &TcContext, stage: u32) {
    // SAFETY: a tail call between programs of the same type.
    unsafe { STAGES.tail_call(ctx, stage) };
}

/// Counts the packet, and determines the notification and the reason to sample it. Returns false,
/// without counting it, if it begins another connection that has no entry yet.
///
/// # Safety
/// `head` belongs to this CPU, and nothing else changes its front.
#[inline(always)]
unsafe fn count(head: *mut FrontHead, scratch: &mut Scratch) -> bool {
    scratch.words = hash::words(&scratch.seen.key);
    scratch.hash = hash::hash(scratch.words);
    scratch.notification = notify::NONE;
    let next_epoch = core::mem::replace(&mut scratch.next_epoch, next_epoch::NONE);
    // SAFETY: guaranteed by the caller.
    scratch.number = unsafe { find_or_add(head, scratch) }.map_or(NO_ENTRY, |found| found.number);
    // Wherever the entry was found, the verifier follows one path from here.
    let scratch = forget(scratch);
    let Some(entry) = table::entry(scratch.number).filter(|_| next_epoch != next_epoch::NO_ROOM) else {
        scratch.reason = record(remainder_value(&scratch.seen), &mut scratch.seen);
        return true;
    };
    let (found, seen) = (EntryRef { number: scratch.number, entry }, &mut scratch.seen);
    // SAFETY: live map values; the front is exclusive.
    unsafe {
        let value = &raw mut (*found.entry).value;
        if next_epoch == next_epoch::NONE && (*value).first_seen_ns != 0 && handshake::begins_another(value, seen) {
            return false;
        }
        if variant::was_counted(scratch.hook, value, seen) {
            scratch.reason = u32::from(reason::NONE);
            return true;
        }
        let repeated = round_trip::is_repeated(value, &seen.packet);
        scratch.notification = account::notification(value, seen);
        scratch.reason = record(value, seen);
        measure_round_trip(value, scratch.hash, seen, repeated);
        let mask = account::update_slow_path_mask(value, &seen.packet, &settings().sampling());
        // The loopback has no short path.
        if seen.key.observation_point == observation_point::LINK
            && let Some(slot) = usable_slot(head, scratch.hash)
            && let Some(installed) = INSTALLED.get_ptr_mut(front::cpu())
        {
            update_slot((head, installed, slot), &scratch.words, found, seen, mask);
        }
    }
    true
}

/// The number of no entry.
const NO_ENTRY: u32 = u32::MAX;

/// The packet's entry, which is added if needed. `None` if the packet is counted in a remainder.
///
/// # Safety
/// `head` belongs to this CPU, and nothing else changes its front.
#[inline(always)]
unsafe fn find_or_add(head: *mut FrontHead, scratch: &Scratch) -> Option<EntryRef> {
    let Scratch { words, hash, seen, .. } = scratch;
    if remainder::is_fixed(&seen.key) {
        return None;
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        slot_entry(head, scratch).or_else(|| table::find(words, *hash)).or_else(|| table::add(head, words, *hash))
    }
}

/// The packet's entry if its flow has the slot, whose counts are merged into the entry.
///
/// # Safety
/// `head` belongs to this CPU, and nothing else changes its front.
#[inline(always)]
pub unsafe fn slot_entry(head: *mut FrontHead, scratch: &Scratch) -> Option<EntryRef> {
    // SAFETY: guaranteed by the caller.
    unsafe { usable_slot(head, scratch.hash).and_then(|slot| merge_slot(slot, &scratch.words, &scratch.seen)) }
}

/// Counts the packet in an entry or a remainder. Returns the reason to sample it: one of
/// [`reason`].
#[inline(always)]
fn record(value: *mut FlowValue, seen: &mut Observation) -> u32 {
    if value.is_null() {
        return u32::from(reason::NONE);
    }
    let config = settings().sampling();
    // SAFETY: a live map value; an entry is not given to another flow while a program runs.
    unsafe {
        if account::needs_clock(value, seen, &config) {
            seen.now_ns = bpf_ktime_get_boot_ns();
        }
        if (*value).first_seen_ns == 0 {
            account::open(value, seen);
        }
        account::record::<SharedAccess>(value, seen);
        seen.opened_by = (*value).opened_by;
        u32::from(account::sample_reason::<SharedAccess>(account::half(value, seen.direction), seen, &config))
    }
}

/// The slot of this CPU for this hash, unless the front is off, missing or being flushed.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
unsafe fn usable_slot(head: *mut FrontHead, hash: u64) -> Option<*mut Slot> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if settings().front() == 0 || front::is_flushing(head) {
            return None;
        }
        front::own().map(|front| front::slot(front, hash))
    }
}

/// Merges the counts of the slot if it belongs to this flow, or to another one that has reached
/// [`MAX_CONFLICTS`]; the other flow then loses the slot. Returns the entry if the slot belongs to
/// this flow.
///
/// # Safety
/// The slot belongs to this CPU.
#[inline(always)]
unsafe fn merge_slot(slot: *mut Slot, words: &Words, seen: &Observation) -> Option<EntryRef> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if !rules::is_taken(slot) {
            return None;
        }
        let ours = is_same(&raw const (*slot).key, words);
        if !ours && ((*slot).conflicts < MAX_CONFLICTS || !seen.packet.is_plain()) {
            return None;
        }
        let number = (*slot).entry;
        let entry = table::entry(number)?;
        rules::merge::<SharedAccess>(slot, &raw mut (*entry).value);
        if ours && !is_superseded(entry) {
            return Some(EntryRef { number, entry });
        }
        rules::clear(slot);
        None
    }
}

/// Whether the next connection on this key has an entry of its own.
///
/// # Safety
/// `entry` is live.
#[inline(always)]
unsafe fn is_superseded(entry: *const FlowEntry) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (&raw const (*entry).value.superseded).read_volatile() != 0 }
}

/// Begins or completes a round-trip measurement.
///
/// # Safety
/// `value` is the flow's live entry.
#[inline(always)]
unsafe fn measure_round_trip(value: *mut FlowValue, hash: u64, seen: &mut Observation, repeated: bool) {
    if seen.packet.flags == 0 {
        return;
    }
    let Some(probe) = RTT_PROBES.get_ptr_mut(round_trip::probe_index(hash)) else { return };
    // SAFETY: live map values; a helper without arguments.
    unsafe { round_trip::measure::<SharedAccess>(probe, value, hash, seen, repeated, || bpf_ktime_get_boot_ns()) }
}

/// Updates the flow's slot, or assigns the slot to the flow if it is free and the front would have
/// counted this packet.
///
/// # Safety
/// All three belong to this CPU, the slot's counts are merged; `found` is the flow's entry.
#[inline(always)]
unsafe fn update_slot(
    (head, installed, slot): (*mut FrontHead, *mut InstalledSlots, *mut Slot),
    words: &Words,
    found: EntryRef,
    seen: &Observation,
    mask: u8,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let taken = rules::is_taken(slot);
        if taken && !is_same(&raw const (*slot).key, words) {
            return;
        }
        let value = &raw mut (*found.entry).value;
        if !taken && (mask & rules::slow_path_bits(&seen.packet, seen.direction) != 0 || !seen.packet.is_plain()) {
            return;
        }
        rules::install(slot, words, found.number, value, mask);
        // Also if no measurement could begin because the probe is taken or the data was repeated.
        if !taken || (seen.direction == EGRESS && seen.packet.payload_len != 0) {
            (*slot).probe_after_ns = seen.now_ns + rules::RTT_PROBE_INTERVAL_NS;
        }
        let (byte, bit) = rules::installed_bit(rules::slot_index(hash::hash(*words)));
        *(&raw mut (*installed).groups).cast::<u8>().add(byte & (rules::GROUPS - 1)) |= bit;
        // Another CPU may have superseded the entry before it could find this slot. Only TCP has
        // epochs here. The exchange is a full barrier between the stores above and this check.
        if seen.packet.flags != 0 {
            front::barrier(head);
            if is_superseded(found.entry) {
                rules::clear(slot);
            }
        }
    }
}

#[inline(always)]
fn remainder_value(seen: &Observation) -> *mut FlowValue {
    REMAINDERS.get_ptr_mut(remainder::slot(&seen.key)).unwrap_or(core::ptr::null_mut())
}
