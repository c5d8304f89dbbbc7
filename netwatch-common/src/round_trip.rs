//! Round trips of established connections: now and then the time from data that the local end sent to its acknowledgement. Where
//! those are kept belongs to no CPU, because data and acknowledgement may pass on two; a packet that measures nothing reads
//! one word there.

use crate::account::{self, Cells};
use crate::flow::{EGRESS, FlowValue, RoundTrips};
use crate::front;
use crate::observation::Observation;
use crate::parse::Packet;
use crate::tcp;

/// How many measurements can be under way at a time: a power of two. A flow whose place is taken tries again later.
pub const PROBES: u32 = 1024;
/// A measurement that got no answer for so long is given up, in ns.
const PATIENCE_NS: u64 = 4_000_000_000;

/// A measurement under way.
#[repr(C, align(32))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The flow's hash; 0 while there is none.
    pub armed: u64,
    /// When the data was seen, ns of the kernel's monotonic clock.
    pub sent_ns: u64,
    /// What acknowledges it.
    pub acknowledgement: u32,
    zero: u32,
}

/// Where the flow with this hash is measured.
#[inline(always)]
pub fn place(hash: u64) -> u32 {
    (hash >> 20) as u32 & (PROBES - 1)
}

/// Whether this packet, received by the local end, ends a measurement.
///
/// # Safety
/// `probe` points to a live probe.
#[inline(always)]
pub unsafe fn is_answered(probe: *const Probe, hash: u64, packet: &Packet) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*probe).armed == hash
            && packet.flags & tcp::ACK != 0
            && packet.acknowledgement.wrapping_sub((*probe).acknowledgement) as i32 >= 0
    }
}

/// Whether a packet of the local end carries data that was sent before. To be asked before it is recorded.
///
/// # Safety
/// `value` points to the flow's live entry.
#[inline(always)]
pub unsafe fn is_repeated(value: *mut FlowValue, packet: &Packet) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let half = account::half(value, EGRESS);
        (*half).flags != 0 && tcp::is_before(packet.sequence, (*half).highest)
    }
}

/// Begins, ends or gives up the flow's measurement with a TCP packet that was recorded in its entry. `repeated`: see [`is_repeated`]. `clock` gives the precise time.
///
/// # Safety
/// `probe` points to a live probe, `value` to the flow's live entry; if `C` is [`Plain`](crate::account::Plain), nobody else changes them.
#[inline(always)]
pub unsafe fn measure<C: Cells>(
    probe: *mut Probe,
    value: *mut FlowValue,
    hash: u64,
    seen: &mut Observation,
    repeated: bool,
    clock: impl FnOnce() -> u64,
) {
    let packet = &seen.packet;
    let is_data = seen.direction == EGRESS && packet.payload_len != 0 && front::is_plain(packet);
    // SAFETY: the caller's promise.
    unsafe {
        if !is_data && (seen.direction == EGRESS || !is_answered(probe, hash, packet)) {
            return;
        }
        seen.now_ns = clock();
        if is_data {
            let end = packet.sequence.wrapping_add(packet.payload_len);
            return begin(probe, hash, seen.now_ns, end, repeated);
        }
        (*probe).armed = 0;
        finish::<C>(&raw mut (*value).round_trips, seen.now_ns.saturating_sub((*probe).sent_ns));
    }
}

/// Data that is sent again makes an answer worthless: which copy it belongs to could not be told (Karn).
///
/// # Safety
/// As for [`measure`].
#[inline(always)]
unsafe fn begin(probe: *mut Probe, hash: u64, now_ns: u64, acknowledgement: u32, repeated: bool) {
    // SAFETY: the caller's promise. Plain stores: if two CPUs meet here, a measurement is lost, never a packet.
    unsafe {
        let ours = (*probe).armed == hash;
        if ours && repeated {
            (*probe).armed = 0;
        }
        let busy = (*probe).armed != 0 && now_ns.saturating_sub((*probe).sent_ns) < PATIENCE_NS;
        if busy || repeated {
            return;
        }
        (*probe).armed = 0;
        (*probe).sent_ns = now_ns;
        (*probe).acknowledgement = acknowledgement;
        (*probe).armed = hash;
    }
}

/// # Safety
/// As for [`measure`].
#[inline(always)]
unsafe fn finish<C: Cells>(trips: *mut RoundTrips, rtt_ns: u64) {
    // 0 means "none": a round trip within the clock's step is still one.
    let rtt_ns = rtt_ns.max(1);
    let short = if rtt_ns > u64::from(u32::MAX) { u32::MAX } else { rtt_ns as u32 };
    // SAFETY: the caller's promise.
    unsafe {
        C::add64(&raw mut (*trips).sum_ns, rtt_ns);
        C::add32(&raw mut (*trips).count, 1);
        if (*trips).min_ns == 0 || short < (*trips).min_ns {
            (*trips).min_ns = short;
        }
    }
}

const _: () = assert!(size_of::<Probe>() == 32);
