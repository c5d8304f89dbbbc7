//! Reads the two ring buffers. Samples are copied out at once: the ring's space goes back to the kernel.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, RingBuf};
use bytes::Bytes;
use netwatch_common::parse::{part, protocol};
use netwatch_common::sample::{self as abi, SampleHeader, reason};

use crate::error::{Error, Result};
use crate::meter::abi::{direction, opposite, traffic};
use crate::meter::clock::Clock;
use crate::meter::notification::{NewFlow, Notification, Sample, SampleReason, SocketChange};

/// The two rings.
pub(super) struct Rings {
    samples: RingBuf<MapData>,
    events: RingBuf<MapData>,
    pace: Pace,
}

impl Rings {
    pub(super) fn new(samples: &OwnedFd, events: &OwnedFd, sizes: Sizes) -> Result<Self> {
        Ok(Self { samples: open(samples, "SAMPLES")?, events: open(events, "EVENTS")?, pace: Pace::new(sizes) })
    }

    /// When to look again.
    pub(super) fn next_poll(&self) -> Duration {
        self.pace.interval()
    }

    /// Hands over what is there, events first. Bounded: what arrives meanwhile may wait for the next call.
    pub(super) fn poll(&mut self, clock: Clock, sink: &mut impl FnMut(Notification)) {
        const AT_MOST: usize = 65_536;
        let (mut event_bytes, mut sample_bytes) = (0, 0);
        for _ in 0..AT_MOST {
            let Some(record) = self.events.next() else { break };
            event_bytes += record.len();
            let record: abi::FlowNotification = read(&record);
            let socket = Some(record.cookie).filter(|cookie| *cookie != 0);
            if record.socket_changed == 0 {
                sink(Notification::NewFlow(new_flow(&record, socket, clock)));
            } else if let Some(socket) = socket {
                let (traffic, _) = traffic(&record.key, netwatch_common::flow::EGRESS.into());
                sink(Notification::SocketChanged(SocketChange { traffic, socket }));
            }
        }
        for _ in 0..AT_MOST {
            let Some(record) = self.samples.next() else { break };
            sample_bytes += record.len();
            sink(Notification::Sample(sample(&record, clock)));
        }
        self.pace.found(Sizes { samples: sample_bytes, events: event_bytes });
    }
}

/// Bytes in each ring, or of each ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub samples: usize,
    pub events: usize,
}

/// How often to look: the more was found, the sooner again.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    sizes: Sizes,
    looked: Instant,
}

impl Pace {
    /// When to look again.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Costs a quiet run nothing that could be measured.
    const SLOWEST: Duration = Duration::from_millis(250);
    const FASTEST: Duration = Duration::from_millis(1);

    pub(super) fn new(sizes: Sizes) -> Self {
        Self { interval: Self::SLOWEST, sizes, looked: Instant::now() }
    }

    /// It was looked now, and so much was there.
    pub(super) fn found(&mut self, found: Sizes) {
        let now = Instant::now();
        let waited = now - std::mem::replace(&mut self.looked, now);
        self.found_after(waited, found);
    }

    /// Half the time after more than an eighth of a ring was found full, double after less than a thirty-second: but not after a look that came
    /// sooner than it had to, between the parts of a drain, which says nothing.
    fn found_after(&mut self, waited: Duration, found: Sizes) {
        let above =
            |share: usize| found.samples > self.sizes.samples / share || found.events > self.sizes.events / share;
        if above(8) {
            self.interval = (self.interval / 2).max(Self::FASTEST);
        } else if !above(32) && waited >= self.interval {
            self.interval = (self.interval * 2).min(Self::SLOWEST);
        }
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rings")
    }
}

pub(super) fn open(map: &OwnedFd, name: &str) -> Result<RingBuf<MapData>> {
    let copy = map.try_clone().map_err(|cause| Error::os("open BPF map", name, cause))?;
    let said = |cause: aya::maps::MapError| Error::said("open BPF map", name, cause.to_string());
    let map = MapData::from_fd(copy).map_err(said)?;
    Map::from_map_data(map).and_then(RingBuf::try_from).map_err(said)
}

/// The start of a record. The classifier writes no shorter ones.
fn read<T: Copy>(record: &[u8]) -> T {
    assert!(record.len() >= size_of::<T>(), "a record of {} bytes", record.len());
    // SAFETY: long enough; `T` is one of the ABI's records, plain data for which any bytes are a value.
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
    let taken = bytes.len().min(header.caplen as usize);
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
        bytes: Bytes::copy_from_slice(&bytes[..taken]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_ring_the_sooner_the_next_look() {
        let mut pace = Pace::new(Sizes { samples: 1024, events: 1024 });
        for _ in 0..20 {
            pace.found_after(Duration::ZERO, Sizes { samples: 200, events: 0 });
        }
        assert_eq!(pace.interval, Pace::FASTEST);
        pace.found_after(Pace::SLOWEST, Sizes { samples: 0, events: 64 });
        assert_eq!(pace.interval, Pace::FASTEST, "neither much nor little");
        for _ in 0..20 {
            let before = pace.interval;
            pace.found_after(Duration::ZERO, Sizes { samples: 0, events: 0 });
            assert_eq!(pace.interval, before, "it came too soon to say anything");
            pace.found_after(before, Sizes { samples: 0, events: 0 });
        }
        assert_eq!(pace.interval, Pace::SLOWEST);
    }
}
