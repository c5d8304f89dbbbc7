//! Sees the probes of the host's output policy where they would leave the host, and discards them.
//! Attached at the egress of the host's interfaces for some milliseconds of a set-up; every other
//! packet passes to later classifiers.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute `classifier` generates functions without doc comments")]

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TcContext;

/// Index of the `lo` of every network namespace.
const LOOPBACK: u32 = 1;
/// A packet of the socket reached an interface of the host.
const LEFT: u32 = 1;
/// A packet of the socket was redirected to the host itself.
const REDIRECTED: u32 = 2;

/// The sockets of probes by their cookie, and where their packets went. Keys are written by user
/// space, values by the program below.
#[map]
pub static PROBES: HashMap<u64, u32> = HashMap::with_max_entries(256, 0);

#[classifier]
pub fn egress_probe(ctx: TcContext) -> i32 {
    // SAFETY: the context lives as long as the program runs.
    let (cookie, interface) = unsafe { (bpf_get_socket_cookie(ctx.skb.skb.cast()), (*ctx.skb.skb).ifindex) };
    let Some(seen) = PROBES.get_ptr_mut(&cookie) else { return TC_ACT_UNSPEC };
    let place = if interface == LOOPBACK { REDIRECTED } else { LEFT };
    // SAFETY: a value of the map, which user space does not remove while the program is attached.
    // Packets of one socket may race, but write the same value unless the policy differs among
    // them.
    unsafe { seen.write_volatile(seen.read_volatile() | place) };
    TC_ACT_SHOT
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
