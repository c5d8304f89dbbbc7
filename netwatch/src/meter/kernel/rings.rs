//! The two ring buffers of the classifier: converts their records, and decides when to read
//! them again.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use aya_log::EbpfLogger;
use bytes::Bytes;
use netwatch_common::parse::{part, protocol};
use netwatch_common::sample::{self as abi, SampleHeader, reason};
use nix::unistd::{SysconfVar, sysconf};

use super::object::Loaded;
use super::ring::SharedRing;
use super::sys;
use crate::error::{Error, Result};
use crate::meter::abi::{direction, opposite, traffic};
use crate::meter::clock::Clock;
use crate::meter::notification::{NewFlow, Notification, Sample, SampleReason, SocketChange};

/// The two rings.
#[derive(Debug)]
pub(super) struct Rings {
    samples: SharedRing,
    events: SharedRing,
    pace: Pace,
}

impl Rings {
    pub(super) fn new(samples: &OwnedFd, events: &OwnedFd, sizes: RingBytes) -> Result<Self> {
        let [samples, events] =
            [(samples, "SAMPLES"), (events, "EVENTS")].map(|(map, name)| SharedRing::open(map, name));
        Ok(Self { samples: samples?, events: events?, pace: Pace::new(sizes) })
    }

    /// The rings, to move their records out on another thread.
    pub(super) fn shared(&self) -> [SharedRing; 2] {
        [self.events.clone(), self.samples.clone()]
    }

    /// How long the next poll may wait.
    pub(super) fn next_poll(&self) -> Duration {
        self.pace.interval()
    }

    /// Hands over the records up to now, events first.
    pub(super) fn poll(&mut self, clock: Clock, sink: &mut impl FnMut(Notification)) {
        // Samples first: the notification of a sample's flow is then among the events.
        let samples = self.samples.take();
        let events = self.events.take();
        for record in events.iter() {
            let record: abi::FlowNotification = read(record);
            let socket = Some(record.cookie).filter(|cookie| *cookie != 0);
            if record.socket_changed == 0 {
                sink(Notification::NewFlow(new_flow(&record, socket, clock)));
            } else if let Some(socket) = socket {
                let (traffic, _) = traffic(&record.key, netwatch_common::flow::EGRESS.into());
                sink(Notification::SocketChanged(SocketChange { traffic, socket }));
            }
        }
        for record in samples.iter() {
            sink(Notification::Sample(sample(record, clock)));
        }
        self.pace.record_poll(RingBytes { samples: samples.len(), events: events.len() });
        self.events.give_back(events);
        self.samples.give_back(samples);
    }
}

/// The size of a ring in bytes for which this many were requested. The kernel only permits powers
/// of two that are whole pages, which have between 4 and 64 KiB.
pub(super) fn ring_bytes(requested: u32) -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u32::try_from(bytes).ok());
    rounded(requested, page.unwrap_or(1 << 16))
}

fn rounded(requested: u32, page_bytes: u32) -> u32 {
    const MAX_BYTES: u32 = 1 << 31;
    requested.clamp(page_bytes, MAX_BYTES).next_power_of_two()
}

/// Bytes in each ring: found by a poll, or the ring's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingBytes {
    pub samples: usize,
    pub events: usize,
}

/// The polling interval: the fuller the rings, the shorter.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    sizes: RingBytes,
    polled: Instant,
}

impl Pace {
    /// How long the next poll may wait.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// An idle run has no measurable cost at this interval.
    const MAX_INTERVAL: Duration = Duration::from_millis(250);
    const MIN_INTERVAL: Duration = Duration::from_millis(8);

    pub(super) fn new(sizes: RingBytes) -> Self {
        Self { interval: Self::MAX_INTERVAL, sizes, polled: Instant::now() }
    }

    /// Adjusts the interval after a poll that found this much.
    pub(super) fn record_poll(&mut self, found: RingBytes) {
        let now = Instant::now();
        let waited = now - std::mem::replace(&mut self.polled, now);
        self.adjust(waited, found);
    }

    /// Halves the interval if more than an eighth of a ring was full, doubles it if less than 1/32
    /// was. An early poll, between the parts of a drain, does not double it: little can have
    /// arrived by then.
    fn adjust(&mut self, waited: Duration, found: RingBytes) {
        let above =
            |share: usize| found.samples > self.sizes.samples / share || found.events > self.sizes.events / share;
        if above(8) {
            self.interval = (self.interval / 2).max(Self::MIN_INTERVAL);
        } else if !above(32) && waited >= self.interval {
            self.interval = (self.interval * 2).min(Self::MAX_INTERVAL);
        }
    }
}

/// The start of a record. The classifier writes no shorter records.
fn read<T: Copy>(record: &[u8]) -> T {
    assert!(record.len() >= size_of::<T>(), "a record of only {} bytes", record.len());
    // SAFETY: long enough; `T` is a record of the ABI, plain data for which any bytes are valid.
    unsafe { record.as_ptr().cast::<T>().read_unaligned() }
}

fn new_flow(record: &abi::FlowNotification, socket: Option<u64>, clock: Clock) -> NewFlow {
    let (traffic, flipped) = traffic(&record.key, record.opened_by);
    let opened_by = direction(record.opened_by as u8);
    let opened_by = if flipped { opposite(opened_by) } else { opened_by };
    NewFlow { time_ns: clock.unix_ns(record.time_ns), traffic, opened_by, socket }
}

fn sample(record: &[u8], clock: Clock) -> Sample {
    let header: SampleHeader = read(record);
    let bytes = &record[size_of::<SampleHeader>()..];
    let copied = bytes.len().min(header.caplen as usize);
    let (traffic, flipped) = traffic(&header.key, header.opened_by.into());
    let oriented = |way| if flipped { opposite(direction(way)) } else { direction(way) };
    Sample {
        time_ns: clock.unix_ns(header.time_ns),
        traffic,
        direction: oriented(header.direction),
        opened_by: oriented(header.opened_by),
        payload_len: header.payload_len,
        tcp: (header.key.protocol == protocol::TCP).then_some((header.sequence, header.flags)),
        is_later_fragment: header.fragment == part::LATER,
        reason: match header.reason {
            reason::DNS => SampleReason::Dns,
            reason::ICMP_ERROR => SampleReason::IcmpError,
            reason::INTERVAL => SampleReason::Interval,
            _ => SampleReason::Head,
        },
        orig_len: header.orig_len,
        payload_offset: header.payload_offset.into(),
        bytes: Bytes::copy_from_slice(&bytes[..copied]),
    }
}

/// Log level of the classifier: nothing is logged. The level is a constant to the verifier, which
/// then removes the code from the loaded program.
pub(super) const LOG_OFF: u8 = 0;
/// Log level of the classifier: `log::Level::Debug`.
pub(super) const LOG_DEBUG: u8 = 4;

/// Forwards log messages of the classifier to the logger of the `log` crate.
pub(super) struct Logger(EbpfLogger<&'static dyn log::Log>);

impl Logger {
    pub(super) fn new(loaded: &Loaded) -> Result<Self> {
        let program = loaded.program("long_path");
        let failed =
            |cause: &dyn std::fmt::Display| Error::other("open the log of", "the classifier", cause.to_string());
        let info = sys::program_info(program.as_fd()).map_err(|cause| failed(&cause))?;
        EbpfLogger::init_from_id(info.id).map(Self).map_err(|cause| failed(&cause))
    }

    /// Forwards the messages that are in the ring.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logger")
    }
}

#[cfg(test)]
mod tests {
    use netwatch_common::config::defaults;

    use super::*;

    #[test]
    fn rings_are_whole_pages_for_every_page_size() {
        for page in [4 << 10, 16 << 10, 64 << 10] {
            for requested in [0, 1, 4096, 5000, 65_536, defaults::SAMPLE_RING_BYTES, (1 << 31) + 1, u32::MAX] {
                let bytes = rounded(requested, page);
                assert!(bytes.is_power_of_two() && bytes.is_multiple_of(page), "{bytes} for {requested}, {page}");
                assert!(bytes >= requested.min(1 << 31), "{bytes} for {requested}");
                assert!(bytes == page || u64::from(bytes) < 2 * u64::from(requested), "{bytes} for {requested}");
            }
            for default in [defaults::SAMPLE_RING_BYTES, defaults::EVENT_RING_BYTES, defaults::PROCESS_RING_BYTES] {
                assert_eq!(rounded(default, page), default, "no machine needs other defaults");
            }
        }
    }

    #[test]
    fn fuller_rings_are_polled_more_often() {
        let mut pace = Pace::new(RingBytes { samples: 1024, events: 1024 });
        for _ in 0..20 {
            pace.adjust(Duration::ZERO, RingBytes { samples: 200, events: 0 });
        }
        assert_eq!(pace.interval, Pace::MIN_INTERVAL);
        pace.adjust(Pace::MAX_INTERVAL, RingBytes { samples: 0, events: 64 });
        assert_eq!(pace.interval, Pace::MIN_INTERVAL, "between the two thresholds");
        for _ in 0..20 {
            let before = pace.interval;
            pace.adjust(Duration::ZERO, RingBytes { samples: 0, events: 0 });
            assert_eq!(pace.interval, before, "an early poll does not lengthen the interval");
            pace.adjust(before, RingBytes { samples: 0, events: 0 });
        }
        assert_eq!(pace.interval, Pace::MAX_INTERVAL);
    }
}
