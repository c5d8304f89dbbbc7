//! The programs that the bench compares netwatch with, and the driver that turns one frame into
//! many flows. For `cargo xtask bench engine` only: not part of netwatch.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the attribute `classifier` generates functions without comments")]
#![expect(internal_features, reason = "the BPF target has a plain atomic add only as an intrinsic")]

mod steer;

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, ProgramArray};
use aya_ebpf::programs::TcContext;

use netwatch_common::config::defaults;
use steer::Steer;

/// The two ends of a packet, in the order of its header. IPv4 addresses take the first word.
#[repr(C)]
#[derive(Clone, Copy)]
struct FiveTuple {
    source: [u32; 4],
    destination: [u32; 4],
    ports: u32,
    protocol: u32,
}

/// The usual counters of a flow.
#[repr(C)]
struct PlainCounters {
    packets: u64,
    bytes: u64,
    last_seen_ns: u64,
}

#[map]
static STEER: Array<Steer> = Array::with_max_entries(1, 0);

/// Element 0: the program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map]
static PLAIN: HashMap<FiveTuple, PlainCounters> = HashMap::with_max_entries(defaults::MAX_FLOWS, 0);

/// A classifier that does nothing.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The usual design: five-tuple, hash map, atomic adds, `bpf_ktime_get_ns`. Packets of flows that
/// do not fit are not counted.
#[classifier]
pub fn plain(ctx: TcContext) -> i32 {
    if let Some(key) = five_tuple(&ctx) {
        count(&key, u64::from(ctx.len()));
    }
    TC_ACT_UNSPEC
}

/// Turns the frame, which the test run of the kernel uses repeatedly, into one of the next flow,
/// and continues in the program under test.
#[classifier]
pub fn driver(ctx: TcContext) -> i32 {
    if let Some(steer) = STEER.get_ptr_mut(0) {
        // SAFETY: a live map value that only this program writes during a test run.
        steer_packet(&ctx, unsafe { &mut *steer });
    }
    // SAFETY: a program of the same type.
    unsafe { TARGET.tail_call(&ctx, 0) };
    TC_ACT_UNSPEC
}

#[inline(always)]
fn steer_packet(ctx: &TcContext, steer: &mut Steer) {
    // An odd factor maps numbers one to one to pseudorandom ones, like the ports and addresses of
    // many flows.
    let number = ((steer.first + steer.next) as u32).wrapping_mul(0x9e37_79b1);
    put(ctx, steer.port_at, (number as u16).to_be());
    put(ctx, steer.address_at, ((number >> 16) as u16).to_be());
    if steer.payload != 0 {
        put(ctx, steer.sequence_at, steer.sequence.to_be());
    }
    steer.next += 1;
    if steer.next >= steer.flows {
        steer.next = 0;
        steer.sequence = steer.sequence.wrapping_add(steer.payload);
    }
}

/// Writes into the packet. Offsets are below 256.
#[inline(always)]
fn put<T: Copy>(ctx: &TcContext, offset: u32, value: T) {
    let address = ctx.data() + (offset & 0xff) as usize;
    if address + size_of::<T>() <= ctx.data_end() {
        // SAFETY: within the packet, as just checked.
        unsafe { (address as *mut T).write_unaligned(value) };
    }
}

/// Reads from the packet.
#[inline(always)]
fn get<T: Copy>(ctx: &TcContext, offset: usize) -> Option<T> {
    let address = ctx.data() + offset;
    if address + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet, as just checked.
    Some(unsafe { (address as *const T).read_unaligned() })
}

/// Parses neither VLAN tags nor extension headers nor fragments, as most counters.
#[inline(always)]
fn five_tuple(ctx: &TcContext) -> Option<FiveTuple> {
    const IPV4: u16 = 0x0800_u16.to_be();
    const IPV6: u16 = 0x86dd_u16.to_be();
    const ETHERNET: usize = 14;
    match get::<u16>(ctx, 12)? {
        IPV4 => {
            let header_len = usize::from(get::<u8>(ctx, ETHERNET)? & 0xf) * 4;
            let ports = get(ctx, ETHERNET + header_len)?;
            let [source, destination] = get::<[u32; 2]>(ctx, ETHERNET + 12)?;
            let protocol = get::<u8>(ctx, ETHERNET + 9)?.into();
            Some(FiveTuple { source: [source, 0, 0, 0], destination: [destination, 0, 0, 0], ports, protocol })
        }
        IPV6 => {
            let [source, destination] = get::<[[u32; 4]; 2]>(ctx, ETHERNET + 8)?;
            let protocol = get::<u8>(ctx, ETHERNET + 6)?.into();
            Some(FiveTuple { source, destination, ports: get(ctx, ETHERNET + 40)?, protocol })
        }
        _ => None,
    }
}

#[inline(always)]
fn count(key: &FiveTuple, bytes: u64) {
    // SAFETY: no arguments, no memory.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(counted) = PLAIN.get_ptr_mut(key) else {
        let _uncounted_if_full = PLAIN.insert(key, PlainCounters { packets: 1, bytes, last_seen_ns: now }, 0);
        return;
    };
    // SAFETY: a live map value.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*counted).packets, 1);
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*counted).bytes, bytes);
        (*counted).last_seen_ns = now;
    }
}

/// As in netwatch's own program.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// As in netwatch's own program.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
