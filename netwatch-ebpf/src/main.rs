//! netwatch's kernel half: a TC classifier that counts packets and lets every one of them pass to later classifiers.
//! Entry points only; the parser and the rules of accounting are in `netwatch-common`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the attribute `classifier` makes functions without the comments of ours")]
#![expect(internal_features, reason = "the BPF target has no other way to a plain atomic add than the intrinsic")]

mod account;
mod atomic;
mod flush;
mod fragment;
mod front;
mod known;
mod maps;
mod sample;
mod scratch;
mod settings;
mod skb;
mod stat;
mod table;

use core::ffi::c_void;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use netwatch_common::parse::Hook;

use front::Outcome;

/// At ingress of the host's end of the link: what the target sent.
#[classifier]
#[inline(always)]
pub fn link_egress(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::FromTarget)
}

/// At egress of the host's end of the link: what the target receives.
#[classifier]
#[inline(always)]
pub fn link_ingress(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::ToTarget)
}

/// At egress of the target's own `lo`: what it says to itself.
#[classifier]
#[inline(always)]
pub fn loopback(ctx: TcContext) -> i32 {
    // The long way for all: a third copy of the short one would be verified at the start of every run.
    if scratch::is_contended() {
        account::hand_over_amid_others(&ctx, Hook::Loopback);
    } else {
        account::hand_over(&ctx, Hook::Loopback);
    }
    TC_ACT_UNSPEC
}

/// The short way, and where it does not do, the middle or the long one.
#[inline(always)]
fn classify(ctx: &TcContext, hook: Hook) -> i32 {
    match front::count(ctx, hook) {
        Outcome::Counted => {}
        Outcome::OthersSlot(hash) => known::hand_over(ctx, hook, hash),
        Outcome::NeedsMore => account::hand_over(ctx, hook),
        Outcome::NoFront => account::hand_over_amid_others(ctx, hook),
    }
    TC_ACT_UNSPEC
}

/// Merges a CPU's front into the table. Never attached: user space runs it. Without aya's macro, whose programs return nothing.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn flush(ctx: *mut c_void) -> u32 {
    flush::run(&RawTracePointContext::new(ctx))
}

/// Tells user space the kernel's count of ticks. Never attached: user space runs it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn tick(_: *mut c_void) -> u32 {
    front::tell_tick();
    0
}

/// Where the others hand over to, so that the verifier reads this once and not three times.
#[classifier]
#[inline(always)]
pub fn account(ctx: TcContext) -> i32 {
    account::packet(&ctx);
    TC_ACT_UNSPEC
}

/// Where the three above hand over to when a flow has no slot of the front.
#[classifier]
#[inline(always)]
pub fn known(ctx: TcContext) -> i32 {
    known::packet(&ctx);
    TC_ACT_UNSPEC
}

/// Where the entry points hand over to where packets preempt each other.
#[classifier]
#[inline(always)]
pub fn amid_egress(ctx: TcContext) -> i32 {
    account::amid(&ctx, Hook::FromTarget);
    TC_ACT_UNSPEC
}

/// As above.
#[classifier]
#[inline(always)]
pub fn amid_ingress(ctx: TcContext) -> i32 {
    account::amid(&ctx, Hook::ToTarget);
    TC_ACT_UNSPEC
}

/// As above.
#[classifier]
#[inline(always)]
pub fn amid_loopback(ctx: TcContext) -> i32 {
    account::amid(&ctx, Hook::Loopback);
    TC_ACT_UNSPEC
}

/// Where `account` hands over to when a packet is worth a sample.
#[classifier]
#[inline(always)]
pub fn sample(ctx: TcContext) -> i32 {
    account::sampled(&ctx);
    TC_ACT_UNSPEC
}

/// Nothing here can panic; if something could, the verifier would refuse the endless loop instead of letting it run wild.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives GPL-only helpers to no other licence; dual licences count.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
