//! Copies the heads of counted packets into a ring buffer, and notifies user space of new flows. A
//! full ring loses a sample or a notification, never a count.

use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use netwatch_common::account;
use netwatch_common::flow::{EGRESS, observation_point};
use netwatch_common::observation::Observation;
use netwatch_common::sample::{CLASSES, FlowNotification, SampleHeader, reason as reasons};
use netwatch_common::stat as slot;

use crate::maps::{EVENTS, SAMPLES};
use crate::settings::settings;
use crate::{stat, variant};

/// The kernel wakes user space for the first record in an empty ring. User space then moves records
/// at intervals: waking it for each would cost four times as much as the record itself.
const WAKE_IF_EMPTY: u64 = 0;

#[repr(C)]
struct SampleRecord<const N: usize> {
    header: SampleHeader,
    bytes: [u8; N],
}

/// Copies the packet's head.
#[inline(always)]
pub fn copy(ctx: &TcContext, seen: &Observation, reason: u8) {
    let caplen = if reason == reasons::INTERVAL {
        settings().snaplen().min(ctx.len())
    } else {
        seen.packet.payload_offset.saturating_add(seen.packet.payload_len).min(ctx.len())
    };
    let copied = match caplen as usize {
        len if len <= CLASSES[0] => write::<{ CLASSES[0] }>(ctx, seen, reason, caplen),
        len if len <= CLASSES[1] => write::<{ CLASSES[1] }>(ctx, seen, reason, caplen),
        _ => write::<{ CLASSES[2] }>(ctx, seen, reason, caplen),
    };
    if !copied {
        stat::count(slot::SAMPLES_LOST);
    }
}

/// Writes a record with room for `N` bytes. Returns false if the ring has no room.
#[inline(always)]
fn write<const N: usize>(ctx: &TcContext, seen: &Observation, reason: u8, caplen: u32) -> bool {
    let Some(mut record) = SAMPLES.reserve::<SampleRecord<N>>(0) else {
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
    // SAFETY: the record has room for the header and then `N` bytes; `caplen` is at most `N`.
    let loaded = unsafe {
        (&raw mut (*target).header).write(header);
        load(ctx, (&raw mut (*target).bytes).cast(), caplen, N as u32)
    };
    if loaded {
        record.submit(WAKE_IF_EMPTY);
    } else {
        record.discard(WAKE_IF_EMPTY);
    }
    loaded
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

/// Notifies user space of the first packet of a flow, or (`socket_changed`) of a packet that may
/// belong to another socket than the flow's earlier packets.
#[inline(always)]
pub fn notify(ctx: &TcContext, hook: u32, seen: &Observation, socket_changed: bool) {
    let Some(mut record) = EVENTS.reserve::<FlowNotification>(0) else {
        stat::count(slot::EVENTS_LOST);
        return;
    };
    let opened_by = if socket_changed { seen.direction } else { account::opened_by(seen) };
    // Packets that the target receives on the link were not sent by one of its sockets.
    let from_target = variant::has_sender(hook)
        && (seen.key.observation_point == observation_point::LOOPBACK || seen.direction == EGRESS);
    // SAFETY: the context belongs to the program.
    let cookie = if from_target { unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) } } else { 0 };
    let (opened_by, socket_changed) = (opened_by.into(), socket_changed.into());
    record.write(FlowNotification { time_ns: seen.now_ns, key: seen.key, opened_by, socket_changed, cookie });
    record.submit(WAKE_IF_EMPTY);
}
