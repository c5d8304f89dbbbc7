//! The capture programs: they copy packets of the link into the PACKETS ring, and let all of them
//! pass to later classifiers. They are attached beside the classifier, and only while packets are
//! captured, so that a run without a capture has no additional instruction.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the attribute `classifier` generates functions without doc comments")]
#![expect(internal_features, reason = "on the BPF target only the intrinsic compiles to a plain atomic add")]

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::Global;
use aya_ebpf::bindings::{__sk_buff, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, RingBuf};
use aya_ebpf::programs::TcContext;
use netwatch_common::capture::{
    CaptureSettings, DEFAULT_RING_BYTES, INTERFACE_SHIFT, MAX_CAPLEN, PacketHeader, RECORD_BYTES, slot,
};
use netwatch_common::flow::{EGRESS, INGRESS};

/// Written by user space before the load, then frozen.
#[unsafe(no_mangle)]
pub static CAPTURE: Global<CaptureSettings> = Global::new(CaptureSettings::DEFAULT);

/// Packets. Written by the programs below, read by user space.
#[map]
pub static PACKETS: RingBuf = RingBuf::with_byte_size(DEFAULT_RING_BYTES, 0);

/// Counters by `netwatch_common::capture::slot`. Written by the programs below, read by user space.
#[map]
pub static CAPTURE_STATS: Array<u64> = Array::with_max_entries(slot::COUNT, 0);

/// At ingress of the host's end of the link: packets that the target sent.
#[classifier]
#[inline(always)]
pub fn capture_egress(ctx: TcContext) -> i32 {
    capture(&ctx, EGRESS.into())
}

/// At egress of the host's end of the link: packets that the target receives.
#[classifier]
#[inline(always)]
pub fn capture_ingress(ctx: TcContext) -> i32 {
    capture(&ctx, INGRESS.into())
}

#[inline(always)]
fn capture(ctx: &TcContext, direction: u32) -> i32 {
    count(slot::OBSERVED + direction);
    let settings: *const CaptureSettings = (&raw const CAPTURE).cast();
    // Volatile: user space has replaced the default, which the compiler would substitute.
    // SAFETY: read-only data that lives as long as the program.
    let snaplen = unsafe { (&raw const (*settings).snaplen).read_volatile() };
    let mut wanted = snaplen.min(ctx.len());
    // SAFETY: as above.
    if unsafe { (&raw const (*settings).filter).read_volatile() } != 0 {
        wanted = match filtered(ctx, direction, wanted) {
            0 => {
                count(slot::FILTERED + direction);
                return TC_ACT_UNSPEC;
            }
            wanted => wanted,
        };
    }
    if wanted > MAX_CAPLEN {
        count(slot::TOO_LONG + direction);
    }
    if let Err(lost) = copy(ctx, wanted.min(MAX_CAPLEN), direction) {
        count(lost + direction);
        count(slot::LOST);
    }
    TC_ACT_UNSPEC
}

/// How many bytes of the packet to copy, at most `wanted`; 0 if the filter rejects it.
#[inline(always)]
fn filtered(ctx: &TcContext, direction: u32, wanted: u32) -> u32 {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context lives as long as the program runs.
    if unsafe { (*skb).vlan_present } != 0 {
        // The filter is about the frame with its tag: user space puts it in and decides.
        return ctx.len();
    }
    packet_filter(skb, direction).min(wanted)
}

/// The number of bytes that the filter accepts; 0 rejects the packet. User space replaces this
/// function before it loads the programs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn packet_filter(skb: *const __sk_buff, direction: u32) -> u32 {
    // The compiler must not derive anything from this body.
    core::hint::black_box((skb, direction));
    core::hint::black_box(u32::MAX)
}

/// Copies the packet into a record of the smallest sufficient size.
#[inline(always)]
fn copy(ctx: &TcContext, caplen: u32, direction: u32) -> Result<(), u32> {
    macro_rules! smallest {
        ($($class:literal)*) => {
            $(
                if caplen as usize <= RECORD_BYTES[$class] - size_of::<PacketHeader>() {
                    return write::<{ RECORD_BYTES[$class] - size_of::<PacketHeader>() }>(ctx, caplen, direction);
                }
            )*
        };
    }
    smallest! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 }
    Err(slot::UNREADABLE)
}

#[repr(C)]
struct PacketRecord<const N: usize> {
    header: PacketHeader,
    bytes: [u8; N],
}

/// Writes a record with room for `N` bytes.
#[inline(always)]
fn write<const N: usize>(ctx: &TcContext, caplen: u32, direction: u32) -> Result<(), u32> {
    let Some(mut record) = PACKETS.reserve::<PacketRecord<N>>(0) else {
        return Err(slot::RING_FULL);
    };
    let target = record.as_mut_ptr();
    // SAFETY: the record has room for the header and then `N` bytes.
    let loaded = unsafe {
        (&raw mut (*target).header).write(header(ctx, caplen, direction));
        load(ctx, (&raw mut (*target).bytes).cast(), caplen, N as u32)
    };
    if !loaded {
        record.discard(BPF_RB_NO_WAKEUP.into());
        return Err(slot::UNREADABLE);
    }
    record.submit(wakeup(size_of::<PacketRecord<N>>() as u64));
    Ok(())
}

#[inline(always)]
fn header(ctx: &TcContext, caplen: u32, direction: u32) -> PacketHeader {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context lives as long as the program runs.
    let (gso_size, gso_segs, vlan) = unsafe { ((*skb).gso_size, (*skb).gso_segs, vlan(skb)) };
    // Packets that the target receives were not sent by one of its sockets.
    // SAFETY: the context belongs to the program.
    let cookie = if direction == EGRESS.into() { unsafe { bpf_get_socket_cookie(skb.cast_mut().cast()) } } else { 0 };
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_boot_ns() };
    let settings: *const CaptureSettings = (&raw const CAPTURE).cast();
    // SAFETY: read-only data that lives as long as the program.
    let interface = unsafe { (&raw const (*settings).interface).read_volatile() };
    let direction = direction | interface << INTERFACE_SHIFT;
    PacketHeader { time_ns, cookie, lost: lost(), orig_len: ctx.len(), caplen, gso_size, gso_segs, vlan, direction }
}

/// The VLAN tag that is stored outside the frame, see [`PacketHeader::vlan`].
///
/// # Safety
/// `skb` is the context of the program.
#[inline(always)]
unsafe fn vlan(skb: *const __sk_buff) -> u32 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*skb).vlan_present == 0 {
            return 0;
        }
        let protocol = u16::from_be((*skb).vlan_proto as u16);
        u32::from(protocol) << 16 | (*skb).vlan_tci & 0xffff
    }
}

/// Copies the first `len` bytes of the packet, linear or not.
///
/// # Safety
/// `target` has room for `room` bytes.
#[inline(always)]
unsafe fn load(ctx: &TcContext, target: *mut u8, len: u32, room: u32) -> bool {
    // The verifier must see the bounds on the register that is passed to the helper. Before Linux
    // 6.8 it derives no bound from `len != 0`, but it does from subtracting one, comparing, and
    // adding one.
    let len_minus_1 = core::hint::black_box(len.wrapping_sub(1));
    if len_minus_1 >= room {
        return false;
    }
    // SAFETY: guaranteed by the caller and the check above.
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, target.cast(), len_minus_1 + 1) == 0 }
}

/// Wakes the reader only when this record fills the ring beyond another multiple of the step: a
/// wake-up costs four times as much as the record. Records of other CPUs may hide one multiple, but
/// not all of them.
#[inline(always)]
fn wakeup(record_bytes: u64) -> u64 {
    /// The kernel's header of a record (`BPF_RINGBUF_HDR_SZ`).
    const RECORD_HEADER_BYTES: u64 = 8;
    let settings: *const CaptureSettings = (&raw const CAPTURE).cast();
    // SAFETY: read-only data that lives as long as the program.
    let step = u64::from(unsafe { (&raw const (*settings).wakeup_bytes).read_volatile() });
    let filled = PACKETS.query(BPF_RB_AVAIL_DATA.into());
    let before = filled.wrapping_sub(record_bytes + RECORD_HEADER_BYTES);
    // The bits from that of the step on count the multiples.
    if (filled ^ before) & step.wrapping_neg() != 0 { BPF_RB_FORCE_WAKEUP.into() } else { BPF_RB_NO_WAKEUP.into() }
}

/// Counts one more packet in a slot of `netwatch_common::capture::slot`.
#[inline(always)]
fn count(slot: u32) {
    if let Some(counter) = CAPTURE_STATS.get_ptr_mut(slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the program.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
}

/// Packets that were lost so far.
#[inline(always)]
fn lost() -> u64 {
    // SAFETY: the map's value is an aligned u64 that lives as long as the program.
    CAPTURE_STATS.get_ptr(slot::LOST).map_or(0, |counter| unsafe { counter.read_volatile() })
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
