//! Counts a packet that the front did not: in its flow's entry, or in a remainder's. Every packet ends in exactly one of them.
//! Then decides whether it is worth a sample, and whether its flow gets a slot of the front.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use netwatch_common::account::news;
use netwatch_common::flow::{EGRESS, FlowValue, scope};
use netwatch_common::front::{self as rules, Front, Head, PATIENCE, Slot};
use netwatch_common::hash::{self, Words, is_same};
use netwatch_common::observation::{Observation, Size};
use netwatch_common::parse::{self, Frame, Hook, Packet};
use netwatch_common::{account, remainder, round_trip, sample as samples, stage, stat as slots};

use crate::atomic::Shared;
use crate::maps::{EVENTS, PROBES, REMAINDERS, SCRATCH, STAGES};
use crate::scratch::{self, Scratch};
use crate::settings::settings;
use crate::skb::{Skb, meta};
use crate::table::{self, Place};
use crate::{fragment as fragments, front, sample, stat};

/// Notes where the packet was seen and goes on in [`packet`]. Returns only if user space forgot to fill STAGES.
#[inline(always)]
pub fn hand_over(ctx: &TcContext, hook: Hook) {
    // There is always an element 0.
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: this CPU's own until the program ends: packets do not preempt each other.
        unsafe { (*scratch).hook = hook as u32 };
        proceed(ctx, stage::ACCOUNT);
    }
}

/// The same where they do, by way of [`amid`]: done here, it would lengthen the short way of all others.
#[inline(always)]
pub fn hand_over_amid_others(ctx: &TcContext, hook: Hook) {
    proceed(ctx, stage::AMID + hook as u32);
}

/// Goes on in [`packet`] with a working memory of the packet's own, if there is one.
#[inline(always)]
pub fn amid(ctx: &TcContext, hook: Hook) {
    // Nobody hands over to it then, and the verifier need not read the rest.
    if !scratch::is_contended() {
        return;
    }
    match scratch::claim(ctx) {
        Some(scratch) => {
            // SAFETY: ours until it is released.
            unsafe { (*scratch).hook = hook as u32 };
            proceed(ctx, stage::ACCOUNT);
            scratch::release(ctx);
        }
        None => unread(ctx, hook),
    }
}

/// Counts a packet for which no working memory is free, unread: under a protocol that nothing else has, and without the headers that a wire
/// would repeat for each segment.
#[inline(always)]
fn unread(ctx: &TcContext, hook: Hook) {
    stat::count(slots::SCRATCH_BUSY);
    let packet = Packet { protocol: remainder::UNREAD, ..Packet::default() };
    let (key, direction) = parse::orient(&packet, hook);
    let Some(value) = REMAINDERS.get_ptr_mut(remainder::of_protocol(packet.protocol, key.scope)) else { return };
    let Some(front) = front::own() else { return };
    let size = Size::of(ctx.len(), &meta(ctx), &packet);
    // SAFETY: live map values.
    unsafe {
        let now_ns = front::tick_ns(&raw const (*front).head);
        account::record_size::<Shared>(value, direction, &size, now_ns);
    }
}

/// Parses, counts, then samples.
#[inline(always)]
pub fn packet(ctx: &TcContext) {
    let Some(scratch) = scratch::claimed(ctx) else { return };
    // SAFETY: as in `hand_over`, of which this is the continuation.
    let scratch = unsafe { &mut *scratch };
    let meta = meta(ctx);
    // SAFETY: a word of the scratch memory that only the frame uses.
    let skb = unsafe { Skb::new(ctx, (&raw mut scratch.word).cast()) };
    parse::parse(&skb, &meta, &mut scratch.seen.packet);
    let scratch = forget(scratch);
    if scratch.seen.packet.incomplete && skb.is_short() {
        if skb.pull(ctx) {
            proceed(ctx, stage::ACCOUNT);
        }
        stat::count(slots::UNREADABLE);
        debug!(ctx, "headers of a packet of {} bytes are out of reach", ctx.len());
    }
    let hook = Hook::from_number(scratch.hook);
    let Some(front) = front::own() else { return };
    // SAFETY: a live map value.
    let head = unsafe { &raw mut (*front).head };
    scratch.seen.complete(skb.len(), &meta, hook, front::tick_ns(head), &mut fragments::Map);
    let scratch = forget(scratch);
    // SAFETY: this CPU's own; the mark keeps an interrupt out of the front until it is taken away.
    let reason = unsafe {
        front::enter_amid_others(head);
        let reason = count(front, scratch);
        front::leave_amid_others(head);
        reason
    };
    let scratch = forget(scratch);
    if scratch.news != news::NONE && settings().announce() != 0 {
        sample::announce(ctx, &EVENTS, &scratch.seen, scratch.news == news::ANOTHER_SOCKET);
    }
    let reason = if front::is_due(head) && reason.is_none() { Some(samples::reason::INTERVAL) } else { reason };
    if let Some(reason) = reason {
        scratch.reason = u32::from(reason);
        proceed(ctx, stage::SAMPLE);
    }
    scratch::release(ctx);
}

/// Samples the packet that [`packet`] has counted.
#[inline(always)]
pub fn sampled(ctx: &TcContext) {
    if let Some(scratch) = scratch::claimed(ctx) {
        // SAFETY: as in `hand_over`, of which this is the continuation.
        let scratch = unsafe { &*scratch };
        sample::take(ctx, &scratch.seen, scratch.reason as u8);
        scratch::release(ctx);
    }
}

/// From here on the verifier, which does not track map memory, and the compiler, which would put constants back in its
/// place, both take what is there for unknown: one path goes on, not one for every path that led here.
#[inline(always)]
pub fn forget<T>(memory: &mut T) -> &mut T {
    core::hint::black_box(memory)
}

/// Continues in another program. Returns only if that fails.
#[inline(always)]
pub fn proceed(ctx: &TcContext, stage: u32) {
    // SAFETY: a tail call between programs of the same type.
    unsafe { STAGES.tail_call(ctx, stage) };
}

/// Counts the packet. Returns the reason to sample it, if there is one.
///
/// # Safety
/// `front` is this CPU's own, and nobody else changes it.
#[inline(always)]
unsafe fn count(front: *mut Front, scratch: &mut Scratch) -> Option<u8> {
    scratch.words = hash::words(&scratch.seen.key);
    scratch.hash = hash::hash(scratch.words);
    scratch.news = news::NONE;
    // SAFETY: the caller's promise.
    scratch.number = unsafe { locate(front, scratch) }.map_or(NOWHERE, |place| place.number);
    // Wherever the entry was found, the verifier follows one path from here.
    let scratch = forget(scratch);
    let Some(entry) = table::entry(scratch.number) else {
        return record(remainder_value(&scratch.seen), &mut scratch.seen);
    };
    let (place, seen) = (Place { number: scratch.number, entry }, &mut scratch.seen);
    // SAFETY: live map values; the front is ours.
    unsafe {
        let value = &raw mut (*place.entry).value;
        let repeated = round_trip::is_repeated(value, &seen.packet);
        scratch.news = news(value, seen);
        let reason = record(value, seen);
        measure(value, scratch.hash, seen, repeated);
        let attention = account::note_attention(value, &seen.packet, &settings().of_samples());
        // The loopback has no short way.
        if let Some(slot) = usable_slot(front, scratch.hash)
            && seen.key.scope == scope::LINK
        {
            settle(&raw mut (*front).head, slot, &scratch.words, place, seen, attention);
        }
        reason
    }
}

/// No entry has this number.
const NOWHERE: u32 = u32::MAX;

/// The packet's entry, new if it has to be. `None` if it is counted under a remainder.
///
/// # Safety
/// `front` is this CPU's own, and nobody else changes it.
#[inline(always)]
unsafe fn locate(front: *mut Front, scratch: &Scratch) -> Option<Place> {
    let Scratch { words, hash, seen, .. } = scratch;
    if remainder::is_fixed(&seen.key) {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let held = make_room(usable_slot(front, *hash), words, seen);
        held.or_else(|| table::find(words, *hash)).or_else(|| table::add(&raw mut (*front).head, words, *hash))
    }
}

/// Counts the packet in an entry or a remainder.
#[inline(always)]
fn record(value: *mut FlowValue, seen: &mut Observation) -> Option<u8> {
    if value.is_null() {
        return None;
    }
    let config = settings().of_samples();
    // SAFETY: a live map value; the table gives no entry to another flow while a program runs.
    unsafe {
        if account::needs_clock(value, seen, &config) {
            seen.now_ns = bpf_ktime_get_ns();
        }
        if (*value).first_seen_ns == 0 {
            account::open(value, seen);
        }
        account::record::<Shared>(value, seen);
        seen.opened_by = (*value).opened_by;
        account::wants_sample::<Shared>(account::half(value, seen.direction), seen, &config)
    }
}

/// The slot for this hash, unless the front is off or being flushed.
///
/// # Safety
/// `front` is this CPU's own.
#[inline(always)]
unsafe fn usable_slot(front: *mut Front, hash: u64) -> Option<*mut Slot> {
    // SAFETY: the caller's promise.
    if settings().front() == 0 || unsafe { front::is_flushing(&raw mut (*front).head) } {
        return None;
    }
    Some(front::slot(front, hash))
}

/// Merges what the slot has counted if it is this flow's, or another's whose time is over; that one then loses it. The flow's
/// entry, if the slot is its.
///
/// # Safety
/// The slot is this CPU's own.
#[inline(always)]
unsafe fn make_room(slot: Option<*mut Slot>, words: &Words, seen: &Observation) -> Option<Place> {
    let slot = slot?;
    // SAFETY: the caller's promise.
    unsafe {
        if !rules::is_taken(slot) {
            return None;
        }
        let ours = is_same(&raw const (*slot).key, words);
        if !ours && ((*slot).conflicts < PATIENCE || !rules::is_plain(&seen.packet)) {
            return None;
        }
        let number = (*slot).entry;
        let entry = table::entry(number)?;
        rules::merge::<Shared>(slot, &raw mut (*entry).value);
        if ours {
            return Some(Place { number, entry });
        }
        rules::clear(slot);
        None
    }
}

/// Begins or ends the measurement of a round trip.
///
/// # Safety
/// `value` is the flow's live entry.
#[inline(always)]
unsafe fn measure(value: *mut FlowValue, hash: u64, seen: &mut Observation, repeated: bool) {
    if seen.packet.flags == 0 {
        return;
    }
    let Some(probe) = PROBES.get_ptr_mut(round_trip::place(hash)) else { return };
    // SAFETY: live map values; a helper without arguments.
    unsafe { round_trip::measure::<Shared>(probe, value, hash, seen, repeated, || bpf_ktime_get_ns()) }
}

/// Gives the slot to the flow, or brings it up to date, if it is free or the flow's and the front would have counted this packet.
///
/// # Safety
/// The slot is this CPU's own and has nothing that is not merged; the place is the flow's.
#[inline(always)]
unsafe fn settle(head: *mut Head, slot: *mut Slot, words: &Words, place: Place, seen: &Observation, attention: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let taken = rules::is_taken(slot);
        if taken && !is_same(&raw const (*slot).key, words) {
            return;
        }
        let value = &raw mut (*place.entry).value;
        if !taken
            && (attention & rules::attention_of(&seen.packet, seen.direction) != 0 || !rules::is_plain(&seen.packet))
        {
            return;
        }
        rules::install(slot, words, place.number, value, attention);
        // Also where none could begin: the place is taken, or the data is old.
        if !taken || (seen.direction == EGRESS && seen.packet.payload_len != 0) {
            (*slot).probe_after_ns = seen.now_ns + rules::PROBE_INTERVAL_NS;
        }
        let (byte, bit) = rules::place(rules::slot(hash::hash(*words)));
        *(&raw mut (*head).installed).cast::<u8>().add(byte & (rules::GROUPS - 1)) |= bit;
    }
}

#[inline(always)]
fn remainder_value(seen: &Observation) -> *mut FlowValue {
    REMAINDERS.get_ptr_mut(remainder::slot(&seen.key)).unwrap_or(core::ptr::null_mut())
}
