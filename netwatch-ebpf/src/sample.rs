//! Copies the heads of packets into a ring buffer, after they were counted. A full ring loses a sample, never a count.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_skb_load_bytes};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::programs::TcContext;
use netwatch_common::account;
use netwatch_common::flow::{EGRESS, scope};
use netwatch_common::observation::Observation;
use netwatch_common::sample::{CLASSES, NewFlow, SampleHeader, reason as reasons};
use netwatch_common::stat as slot;

use crate::maps::SAMPLES;
use crate::settings::settings;
use crate::stat;

/// The reader looks on a timer: a wake-up per record costs four times the record.
const NO_WAKEUP: u64 = BPF_RB_NO_WAKEUP as u64;

#[repr(C)]
struct Record<const N: usize> {
    header: SampleHeader,
    bytes: [u8; N],
}

/// Samples the packet.
#[inline(always)]
pub fn take(ctx: &TcContext, seen: &Observation, reason: u8) {
    let caplen = if reason == reasons::INTERVAL {
        settings().snaplen().min(ctx.len())
    } else {
        seen.packet.payload_offset.saturating_add(seen.packet.payload_len).min(ctx.len())
    };
    let taken = match caplen as usize {
        len if len <= CLASSES[0] => record::<{ CLASSES[0] }>(ctx, seen, reason, caplen),
        len if len <= CLASSES[1] => record::<{ CLASSES[1] }>(ctx, seen, reason, caplen),
        _ => record::<{ CLASSES[2] }>(ctx, seen, reason, caplen),
    };
    if !taken {
        stat::count(slot::SAMPLES_LOST);
    }
}

/// One record with room for `N` bytes. False if the ring has none.
#[inline(always)]
fn record<const N: usize>(ctx: &TcContext, seen: &Observation, reason: u8, caplen: u32) -> bool {
    let Some(mut record) = SAMPLES.reserve::<Record<N>>(0) else {
        return false;
    };
    let caplen = caplen.min(N as u32);
    let header = SampleHeader {
        time_ns: seen.now_ns,
        key: seen.key,
        orig_len: ctx.len(),
        caplen,
        payload_offset: seen.packet.payload_offset as u16,
        direction: seen.direction,
        reason,
        payload_len: seen.packet.payload_len,
        sequence: seen.packet.sequence,
        flags: seen.packet.flags,
        opened_by: seen.opened_by,
        fragment: seen.packet.fragment,
        zero: 0,
    };
    let target = record.as_mut_ptr();
    // SAFETY: the record has room for the header and, behind it, for `N` bytes; `caplen` is at most that.
    let loaded = unsafe {
        (&raw mut (*target).header).write(header);
        load(ctx, (&raw mut (*target).bytes).cast(), caplen, N as u32)
    };
    if loaded {
        record.submit(NO_WAKEUP);
    } else {
        record.discard(NO_WAKEUP);
    }
    loaded
}

/// Copies the first `len` bytes of the packet, linear or not.
///
/// # Safety
/// `target` has room for `room` bytes.
#[inline(always)]
unsafe fn load(ctx: &TcContext, target: *mut u8, len: u32, room: u32) -> bool {
    // The verifier must see the bounds on the very register that the helper gets. Before Linux 6.8 it learns nothing from `len != 0`; it does
    // from one less, compared, and one more.
    let less_one = core::hint::black_box(len.wrapping_sub(1));
    if less_one >= room {
        return false;
    }
    // SAFETY: the caller's promise and the check above.
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, target.cast(), less_one + 1) == 0 }
}

/// Announces the first packet of a flow, or (`another`) one that may be of a socket that has not been told of.
#[inline(always)]
pub fn announce(ctx: &TcContext, events: &RingBuf, seen: &Observation, another: bool) {
    let Some(mut record) = events.reserve::<NewFlow>(0) else {
        stat::count(slot::EVENTS_LOST);
        return;
    };
    let opened_by = if another { seen.direction } else { account::opened_by(seen) };
    // What the link brings from outside is of none of the target's sockets.
    let is_ours = seen.key.scope == scope::LOOPBACK || seen.direction == EGRESS;
    // SAFETY: the context is the program's own.
    let cookie = if is_ours { unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) } } else { 0 };
    let (opened_by, another) = (opened_by.into(), another.into());
    record.write(NewFlow { time_ns: seen.now_ns, key: seen.key, opened_by, another, cookie });
    record.submit(NO_WAKEUP);
}
