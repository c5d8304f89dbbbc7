//! The classifier for cgroups: counts the IP packets that the sockets of a cgroup send and receive,
//! and lets all of them pass. Everything but the entry points and `variant` is the source of the
//! classifier, compiled a second time.
//!
//! Other than at the TC hooks, packets preempt each other here on every kernel: a program at the
//! egress of a cgroup runs in the process that sends, with softirqs on. Therefore there is no front
//! and every packet takes the long path.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "entry points are named after their hooks")]
#![expect(internal_features, reason = "on the BPF target only the intrinsic compiles to a plain atomic add")]
#![expect(dead_code, reason = "the short path is not used here")]

#[path = "../../atomic.rs"]
mod atomic;
#[path = "../../epoch.rs"]
mod epoch;
#[path = "../../flush.rs"]
mod flush;
#[path = "../../fragment.rs"]
mod fragment;
#[path = "../../front.rs"]
mod front;
#[path = "../../long_path.rs"]
mod long_path;
#[path = "../../maps.rs"]
mod maps;
#[path = "../../preemption.rs"]
mod preemption;
mod processes;
#[path = "../../sample.rs"]
mod sample;
#[path = "../../scratch.rs"]
mod scratch;
#[path = "../../settings.rs"]
mod settings;
#[path = "../../skb.rs"]
mod skb;
#[path = "../../stat.rs"]
mod stat;
#[path = "../../table.rs"]
mod table;
mod variant;

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use netwatch_common::parse::Hook;

/// The return value that lets a packet pass. These programs never drop one.
const ALLOW: i32 = 1;
/// The index of the `lo` of every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// Defines programs at cgroups.
macro_rules! cgroup_programs {
    ($($name:ident $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "cgroup/skb")]
            pub extern "C" fn $name(skb: *mut __sk_buff) -> i32 {
                $body(&TcContext::new(skb));
                ALLOW
            }
        )*
    };
}

cgroup_programs! {
    cgroup_egress count_sent;
    cgroup_ingress count_received;
    long_path long_path::count_packet;
    next_epoch epoch::begin;
    sample long_path::sample_packet;
}

/// A packet that a socket of the cgroup sends, before it is divided into fragments or segments.
#[inline(always)]
fn count_sent(ctx: &TcContext) {
    if !processes::is_metered(ctx) {
        return;
    }
    let hook = if is_on_loopback(ctx) { Hook::Loopback } else { Hook::FromTarget };
    long_path::count_preemptible(ctx, hook as u32);
}

/// A packet for a socket of the cgroup, after its fragments were joined.
#[inline(always)]
fn count_received(ctx: &TcContext) {
    if !processes::is_metered(ctx) {
        return;
    }
    let hook = if is_on_loopback(ctx) { variant::LOOPBACK_RECEIVED } else { Hook::ToTarget as u32 };
    long_path::count_preemptible(ctx, hook);
}

#[inline(always)]
fn is_on_loopback(ctx: &TcContext) -> bool {
    // SAFETY: the context lives as long as the program runs.
    unsafe { (*ctx.skb.skb).ifindex == LOOPBACK_IFINDEX }
}

/// A socket is created. Attached only to distinguish processes, as the tracepoints are.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/sock_create")]
pub extern "C" fn socket_created(ctx: *mut bpf_sock) -> i32 {
    // SAFETY: the context lives as long as the program runs.
    unsafe { processes::created(ctx) };
    ALLOW
}

/// The tracepoint `sched_process_fork`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn sched_process_fork(ctx: *mut c_void) -> i32 {
    processes::forked(&RawTracePointContext::new(ctx));
    0
}

/// The tracepoint `sched_process_exit`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn sched_process_exit(ctx: *mut c_void) -> i32 {
    processes::exited(&RawTracePointContext::new(ctx));
    0
}

/// As in the classifier: it waits until no packet on its CPU is half counted.
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
