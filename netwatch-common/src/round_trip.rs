//! Round-trip times of established connections: once in a while, the time from data that the local
//! end sent to its acknowledgment. Measurements are shared by all CPUs, because data and
//! acknowledgment may be processed by two of them. A packet that measures nothing only reads one
//! word of a measurement.

use crate::access::Access;
use crate::account;
use crate::flow::{EGRESS, FlowValue, RoundTrips};
use crate::observation::Observation;
use crate::parse::Packet;
use crate::tcp;

/// Maximum number of concurrent measurements, a power of two. A flow that finds its probe taken
/// tries again later.
pub const MAX_RTT_PROBES: u32 = 1024;
/// A measurement without an answer is abandoned after this time, in ns.
const RTT_TIMEOUT_NS: u64 = 4_000_000_000;

/// A measurement in progress.
#[repr(C, align(32))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RttProbe {
    /// The flow's hash; 0 if no measurement is in progress.
    pub armed: u64,
    /// When the data was observed, ns of the kernel's boot-time clock.
    pub sent_ns: u64,
    /// The number that acknowledges the data.
    pub acknowledgment: u32,
    zero: u32,
}

/// The index of the probe for the flow with this hash.
#[inline(always)]
pub fn probe_index(hash: u64) -> u32 {
    (hash >> 20) as u32 & (MAX_RTT_PROBES - 1)
}

/// Whether this packet, received by the local end, completes a measurement.
///
/// # Safety
/// `probe` points to a live probe.
#[inline(always)]
pub unsafe fn is_answered(probe: *const RttProbe, hash: u64, packet: &Packet) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*probe).armed == hash
            && packet.flags & tcp::ACK != 0
            && packet.acknowledgment.wrapping_sub((*probe).acknowledgment) as i32 >= 0
    }
}

/// Whether a packet of the local end carries data that was sent before. Call it before the packet
/// is recorded.
///
/// # Safety
/// `value` points to the flow's live entry.
#[inline(always)]
pub unsafe fn is_repeated(value: *mut FlowValue, packet: &Packet) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let half = account::half(value, EGRESS);
        account::is_numbered(half) && tcp::is_before(packet.sequence, (*half).highest)
    }
}

/// Abandons a measurement of the flow with this hash.
///
/// # Safety
/// `probe` points to a live probe.
#[inline(always)]
pub unsafe fn disarm(probe: *mut RttProbe, hash: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*probe).armed == hash {
            (*probe).armed = 0;
        }
    }
}

/// Begins, completes or abandons the flow's measurement with a TCP packet that was recorded in its
/// entry. `repeated` is the result of [`is_repeated`]; `clock` returns the precise time.
///
/// # Safety
/// `probe` points to a live probe, `value` to the flow's live entry; if `A` is
/// [`ExclusiveAccess`](crate::access::ExclusiveAccess), nothing else changes them.
#[inline(always)]
pub unsafe fn measure<A: Access>(
    probe: *mut RttProbe,
    value: *mut FlowValue,
    hash: u64,
    seen: &mut Observation,
    repeated: bool,
    clock: impl FnOnce() -> u64,
) {
    let packet = &seen.packet;
    let is_data = seen.direction == EGRESS && packet.payload_len != 0 && packet.is_plain();
    // SAFETY: guaranteed by the caller.
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
        finish::<A>(&raw mut (*value).round_trips, seen.now_ns.saturating_sub((*probe).sent_ns));
    }
}

/// Begins a measurement. Repeated data invalidates one in progress, because it is unknown which
/// copy was acknowledged (Karn's algorithm).
///
/// # Safety
/// As for [`measure`].
#[inline(always)]
unsafe fn begin(probe: *mut RttProbe, hash: u64, now_ns: u64, acknowledgment: u32, repeated: bool) {
    // SAFETY: guaranteed by the caller. Plain stores: if two CPUs race, a measurement is lost,
    // never a packet.
    unsafe {
        let ours = (*probe).armed == hash;
        if ours && repeated {
            (*probe).armed = 0;
        }
        let busy = (*probe).armed != 0 && now_ns.saturating_sub((*probe).sent_ns) < RTT_TIMEOUT_NS;
        if busy || repeated {
            return;
        }
        (*probe).armed = 0;
        (*probe).sent_ns = now_ns;
        (*probe).acknowledgment = acknowledgment;
        (*probe).armed = hash;
    }
}

/// # Safety
/// As for [`measure`].
#[inline(always)]
unsafe fn finish<A: Access>(trips: *mut RoundTrips, rtt_ns: u64) {
    // 0 stands for "not measured", so a round trip within the clock's resolution takes 1 ns.
    let rtt_ns = rtt_ns.max(1);
    let short = if rtt_ns > u64::from(u32::MAX) { u32::MAX } else { rtt_ns as u32 };
    // SAFETY: guaranteed by the caller.
    unsafe {
        A::add64(&raw mut (*trips).sum_ns, rtt_ns);
        A::add32(&raw mut (*trips).count, 1);
        if (*trips).min_ns == 0 || short < (*trips).min_ns {
            (*trips).min_ns = short;
        }
    }
}

const _: () = assert!(size_of::<RttProbe>() == 32);
