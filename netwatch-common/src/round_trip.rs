//! Round trips of established connections: now and then the time from data that the local end sent to its acknowledgement. Where
//! those are kept belongs to no CPU, because data and acknowledgement may pass on two; a packet that measures nothing reads
//! one word there.

use crate::account::Cells;
use crate::flow::{EGRESS, RoundTrips};
use crate::observation::Observation;
use crate::parse::{Packet, tcp};

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

/// Begins, ends or gives up a measurement. `repeated` says that the packet carried data a second time: which copy an answer belongs to
/// could not be told (Karn). True if it began one.
///
/// # Safety
/// `probe` points to a live probe, `trips` into the flow's live entry.
#[inline(always)]
pub unsafe fn observe<C: Cells>(
    probe: *mut Probe,
    trips: *mut RoundTrips,
    hash: u64,
    seen: &Observation,
    repeated: bool,
) -> bool {
    // SAFETY: the caller's promise. Plain stores: if two CPUs meet here, a measurement is lost, never a packet.
    unsafe {
        let ours = (*probe).armed == hash;
        if seen.direction != EGRESS {
            if ours && is_answered(probe, hash, &seen.packet) {
                (*probe).armed = 0;
                finish::<C>(trips, seen.now_ns.saturating_sub((*probe).sent_ns));
            }
            return false;
        }
        if ours && (repeated || seen.packet.flags & tcp::SYN != 0) {
            (*probe).armed = 0;
            return false;
        }
        let busy = (*probe).armed != 0 && seen.now_ns.saturating_sub((*probe).sent_ns) < PATIENCE_NS;
        if busy || repeated {
            return false;
        }
        (*probe).armed = 0;
        (*probe).sent_ns = seen.now_ns;
        (*probe).acknowledgement = seen.packet.sequence.wrapping_add(seen.packet.payload_len);
        (*probe).armed = hash;
        true
    }
}

/// # Safety
/// As for [`observe`].
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
