//! Counts a packet: in its flow's entry, or in a remainder's. Every packet ends in exactly one of them.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::TcContext;
use netwatch_common::account::{self, Cells, Observation};
use netwatch_common::flow::{FlowValue, scope};
use netwatch_common::parse::{self, Hook, Packet};
use netwatch_common::{fragment, remainder, stat as slot};

use crate::maps::{CONFIG, EVENTS, FLOWS, REMAINDERS};
use crate::skb::{Skb, meta};
use crate::{fragment as fragments, sample, stat};

const E2BIG: i32 = -7;
const EBUSY: i32 = -16;
const EEXIST: i32 = -17;

/// What every entry starts as; in read-only data, because the stack is small.
static EMPTY: FlowValue = FlowValue::EMPTY;

/// Memory that several CPUs change at the same time.
pub struct Shared;

impl Cells for Shared {
    #[inline(always)]
    unsafe fn add64(cell: *mut u64, value: u64) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
    }
    #[inline(always)]
    unsafe fn add32(cell: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(cell, value) };
    }
    #[inline(always)]
    unsafe fn or32(cell: *mut u32, bits: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic_or::<u32, u32, { AtomicOrdering::Relaxed }>(cell, bits) };
    }
}

/// Parses, counts, then samples.
#[inline(always)]
pub fn packet(ctx: &TcContext, hook: Hook) {
    let meta = meta(ctx);
    let (skb, mut packet) = read(ctx, &meta);
    let scope = if matches!(hook, Hook::Loopback) { scope::LOOPBACK } else { scope::LINK };
    fragment::join(&mut packet, scope, &mut fragments::Map);
    let (key, direction) = parse::orient(&packet, hook);
    let size = parse::size(&skb, &meta, &packet);
    // SAFETY: no arguments, no memory.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let seen = Observation { key: &key, packet: &packet, size, direction, now_ns };
    let value = entry(&seen);
    if value.is_null() {
        return;
    }
    // SAFETY: `entry` returns a live map value; RCU keeps it until the program ends.
    unsafe {
        account::record::<Shared>(value, &seen);
        sample::consider(ctx, &seen, account::half(value, direction));
    }
}

/// Parses the linear part; if that is not all there is to the headers, pulls the rest and parses again.
#[inline(always)]
fn read(ctx: &TcContext, meta: &parse::Meta) -> (Skb, Packet) {
    let mut skb = Skb::new(ctx);
    let mut packet = parse::parse(&skb, meta);
    // A loop that the compiler cannot unroll, so that the parser is in the program once.
    let mut attempts = core::hint::black_box(1_u32);
    while attempts > 0 && packet.incomplete && skb.is_short() {
        attempts -= 1;
        skb.pull(ctx);
        packet = parse::parse(&skb, meta);
    }
    if packet.incomplete && skb.is_short() {
        stat::count(slot::UNREADABLE);
    }
    (skb, packet)
}

/// The entry a packet is counted in.
#[inline(always)]
fn entry(seen: &Observation<'_>) -> *mut FlowValue {
    if remainder::is_fixed(seen.key) {
        return remainder_entry(seen);
    }
    if let Some(value) = FLOWS.get_ptr_mut(seen.key) {
        return value;
    }
    insert(seen)
}

/// Adds a flow. The errors of an insert mean different things, and none of them forgets the packet.
#[inline(always)]
fn insert(seen: &Observation<'_>) -> *mut FlowValue {
    match FLOWS.insert(seen.key, &EMPTY, BPF_NOEXIST.into()) {
        Ok(()) => announce(seen),
        // Another CPU was faster: its entry is ours.
        Err(EEXIST) => {}
        Err(E2BIG) => stat::count(slot::TABLE_FULL),
        Err(EBUSY) => stat::count(slot::INSERT_BUSY),
        Err(_) => stat::count(slot::INSERT_FAILED),
    }
    match FLOWS.get_ptr_mut(seen.key) {
        Some(value) => opened(value, seen),
        None => remainder_entry(seen),
    }
}

#[inline(always)]
fn remainder_entry(seen: &Observation<'_>) -> *mut FlowValue {
    let Some(value) = REMAINDERS.get_ptr_mut(remainder::slot(seen.key)) else {
        return core::ptr::null_mut();
    };
    opened(value, seen)
}

/// Notes the first packet. Two of them at once, on two CPUs, write nearly the same.
#[inline(always)]
fn opened(value: *mut FlowValue, seen: &Observation<'_>) -> *mut FlowValue {
    // SAFETY: a live map value.
    unsafe {
        if (*value).first_seen_ns == 0 {
            account::open(value, seen);
        }
    }
    value
}

/// Tells user space of a new flow.
#[inline(always)]
fn announce(seen: &Observation<'_>) {
    if CONFIG.load().announce == 0 {
        return;
    }
    sample::announce(&EVENTS, seen);
}
