//! The kernel side of netwatch: a TC classifier that counts packets and lets all of them pass to
//! later classifiers. This file only has the entry points; the parser and the accounting rules are
//! in `netwatch-common`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the attribute `classifier` generates functions without doc comments")]
#![expect(internal_features, reason = "on the BPF target only the intrinsic compiles to a plain atomic add")]

mod atomic;
mod epoch;
mod flush;
mod fragment;
mod front;
mod long_path;
mod maps;
mod middle_path;
mod preemption;
mod sample;
mod scratch;
mod settings;
mod skb;
mod stat;
mod table;
mod variant;

use core::ffi::c_void;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use netwatch_common::parse::Hook;

use front::ShortPathResult;

/// At ingress of the host's end of the link: packets that the target sent.
#[classifier]
#[inline(always)]
pub fn link_egress(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::FromTarget)
}

/// At egress of the host's end of the link: packets that the target receives.
#[classifier]
#[inline(always)]
pub fn link_ingress(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::ToTarget)
}

/// At egress of the target's own `lo`. All packets take the long path: the verifier would have to
/// check a third copy of the short path at the start of every run.
#[classifier]
#[inline(always)]
pub fn loopback(ctx: TcContext) -> i32 {
    if preemption::is_preemptible() {
        long_path::tail_call_preemptible(&ctx, Hook::Loopback);
    } else {
        long_path::tail_call(&ctx, Hook::Loopback);
    }
    TC_ACT_UNSPEC
}

/// The short path; packets that it declines continue on the middle or the long path.
#[inline(always)]
fn classify(ctx: &TcContext, hook: Hook) -> i32 {
    match front::count(ctx, hook) {
        ShortPathResult::Counted => {}
        ShortPathResult::SlotTaken(hash) => middle_path::tail_call(ctx, hook, hash),
        ShortPathResult::Declined => long_path::tail_call(ctx, hook),
        ShortPathResult::NoFront => long_path::tail_call_preemptible(ctx, hook),
    }
    TC_ACT_UNSPEC
}

/// Merges the front of a CPU into the table. Never attached: user space runs it. Defined without
/// aya's macro, whose programs return nothing.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn flush(ctx: *mut c_void) -> u32 {
    flush::run(&RawTracePointContext::new(ctx))
}

/// Stores the kernel's tick count for user space. Never attached: user space runs it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn tick(_: *mut c_void) -> u32 {
    front::store_tick();
    0
}

/// The long path. A program of its own, so that it is verified once and not once per entry point.
#[classifier]
#[inline(always)]
pub fn long_path(ctx: TcContext) -> i32 {
    long_path::count_packet(&ctx);
    TC_ACT_UNSPEC
}

/// The continuation of `long_path` for packets that begin another connection on their five-tuple.
#[classifier]
#[inline(always)]
pub fn next_epoch(ctx: TcContext) -> i32 {
    epoch::begin(&ctx);
    TC_ACT_UNSPEC
}

/// The middle path, for packets of flows without a slot in the front.
#[classifier]
#[inline(always)]
pub fn middle_path(ctx: TcContext) -> i32 {
    middle_path::count_packet(&ctx);
    TC_ACT_UNSPEC
}

/// The continuation of `link_egress` where packets preempt each other.
#[classifier]
#[inline(always)]
pub fn egress_preemptible(ctx: TcContext) -> i32 {
    long_path::count_preemptible(&ctx, Hook::FromTarget as u32);
    TC_ACT_UNSPEC
}

/// The continuation of `link_ingress` where packets preempt each other.
#[classifier]
#[inline(always)]
pub fn ingress_preemptible(ctx: TcContext) -> i32 {
    long_path::count_preemptible(&ctx, Hook::ToTarget as u32);
    TC_ACT_UNSPEC
}

/// The continuation of `loopback` where packets preempt each other.
#[classifier]
#[inline(always)]
pub fn loopback_preemptible(ctx: TcContext) -> i32 {
    long_path::count_preemptible(&ctx, Hook::Loopback as u32);
    TC_ACT_UNSPEC
}

/// The continuation of `long_path` for packets that are to be sampled.
#[classifier]
#[inline(always)]
pub fn sample(ctx: TcContext) -> i32 {
    long_path::sample_packet(&ctx);
    TC_ACT_UNSPEC
}

/// Nothing here can panic. If something could, the verifier would reject the endless loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are only available under the GPL; a dual license is enough.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
