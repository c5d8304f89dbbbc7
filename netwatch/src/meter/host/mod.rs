//! The classifier's work without a kernel: the same parser and the same rules of accounting over a table in plain memory. For frames
//! that were captured before. Not where they come from, nor a second opinion: only the table is another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use netwatch_common::access::Exclusive;
use netwatch_common::account;
use netwatch_common::flow::{FlowKey, FlowValue, kind};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{self, Captured, Frame, Hook, Linked, Meta, Packet};
use netwatch_common::round_trip::{self, RttProbe};
use netwatch_common::{hash, remainder};

use super::abi::{self, Growth};
use super::clock::Clock;
use super::icmp;
use crate::flow::{EndReason, Increment, Lost, Quoted, Traffic};

mod fragments;

use fragments::RecentFragments;

/// A fast hash, seeded at random: there is one look-up for each packet, and hostile captures.
type FlowMap = HashMap<FlowKey, FlowValue, foldhash::fast::RandomState>;

/// A flow that was silent for this long gives up its entry when the table is full, nanoseconds. What it carried is not forgotten: the
/// entry is handed over. Should the flow go on, it begins anew.
const IDLE_NS: u64 = 120_000_000_000;

/// One packet that was counted, for whoever wants to learn more from it than its size.
#[derive(Debug, Clone, Copy)]
pub struct CountedFrame<'a> {
    /// What it was counted as. Key and direction are the table's: of a flow whose local end is not known, the lower end is local.
    pub seen: &'a Observation,
    /// The frame, from its link-layer header on.
    pub frame: &'a Linked<'a>,
}

impl<'a> CountedFrame<'a> {
    /// The transport's payload, as far as the capture kept it.
    pub fn payload(&self) -> &'a [u8] {
        let (start, length) = (self.seen.packet.payload_offset as usize, self.seen.packet.payload_len as usize);
        let rest = self.frame.captured.bytes.get(start..).unwrap_or_default();
        &rest[..rest.len().min(length)]
    }

    /// The flow whose packet this ICMP error quotes, and the error. The flow's local end sent the packet.
    pub fn icmp_error(&self) -> Option<Quoted> {
        if !self.seen.packet.icmp_error {
            return None;
        }
        icmp::quoted_in_frame(self.seen, self.frame.captured.bytes)
    }
}

/// Reads frames as the classifier does.
#[derive(Debug, Default)]
pub struct FrameReader {
    fragments: RecentFragments,
}

impl FrameReader {
    /// What a frame counts as where `hook`, which is told what its headers say, says that it was seen.
    #[inline]
    pub fn read(&mut self, frame: &Linked<'_>, hook: impl FnOnce(&Packet) -> Hook, now_ns: u64) -> Observation {
        let meta = Meta::default();
        let mut seen = Observation::new(frame, &meta, Hook::Loopback, now_ns, &mut self.fragments);
        let hook = hook(&seen.packet);
        if hook != Hook::Loopback {
            (seen.key, seen.direction) = parse::orient(&seen.packet, hook);
        }
        seen
    }
}

/// What a packet counts as if its sender is taken for local.
pub fn as_sent(packet: &Packet) -> Traffic {
    let (key, direction) = parse::orient(packet, Hook::FromTarget);
    abi::traffic(&key, direction.into()).0
}

/// Whether the capture lacks a part of this frame: it says so, or the packet is longer than what is there.
pub fn lacks_its_end(frame: &Linked<'_>, packet: &Packet) -> bool {
    is_cut(&frame.captured) || (packet.incomplete && packet.kind != kind::MALFORMED)
}

/// Counts frames. Times are the caller's, in nanoseconds since the Unix epoch.
#[derive(Debug)]
pub struct HostMeter {
    flows: FlowMap,
    max_flows: usize,
    /// What has no entry of its own, by the key of its slot.
    remainders: FlowMap,
    probes: RttProbes,
    reader: FrameReader,
    lost: Lost,
    /// When it is worth to look for idle flows again: not for each packet that finds the table full.
    next_sweep_ns: u64,
}

impl HostMeter {
    /// An empty table for at most `max_flows` flows; packets of further ones are counted by protocol.
    pub fn new(max_flows: usize) -> Self {
        Self {
            flows: FlowMap::default(),
            max_flows,
            remainders: FlowMap::default(),
            probes: RttProbes::default(),
            reader: FrameReader::default(),
            lost: Lost::default(),
            next_sweep_ns: 0,
        }
    }

    /// Counts a frame where `hook` says it was seen. Entries that have to make room go to `sink`.
    #[inline]
    pub fn count(
        &mut self,
        frame: &Linked<'_>,
        hook: impl FnOnce(&Packet) -> Hook,
        now_ns: u64,
        sink: &mut impl FnMut(Increment),
    ) -> Observation {
        let mut seen = self.reader.read(frame, hook, now_ns);
        if seen.packet.kind == kind::MALFORMED && is_cut(&frame.captured) {
            self.lost.unreadable += 1;
        }
        seen.opened_by = self.record(&seen, sink);
        seen
    }

    /// Counts it, and says who opened its flow.
    fn record(&mut self, seen: &Observation, sink: &mut impl FnMut(Increment)) -> u8 {
        if remainder::is_fixed(&seen.key) {
            return record(&mut self.remainders, &remainder_key(seen), seen, &mut self.probes);
        }
        if let Some(value) = self.flows.get_mut(&seen.key) {
            return add(value, seen, &mut self.probes);
        }
        if self.flows.len() >= self.max_flows && !self.make_room(seen.now_ns, sink) {
            self.lost.table_full += 1;
            return record(&mut self.remainders, &remainder_key(seen), seen, &mut self.probes);
        }
        record(&mut self.flows, &seen.key, seen, &mut self.probes)
    }

    /// Hands over what has been silent for long. True if that made room.
    fn make_room(&mut self, now_ns: u64, sink: &mut impl FnMut(Increment)) -> bool {
        if now_ns < self.next_sweep_ns {
            return false;
        }
        self.next_sweep_ns = now_ns.saturating_add(IDLE_NS / 8);
        let before = self.flows.len();
        self.flows.retain(|key, value| {
            let stays = value.last_seen_ns.saturating_add(IDLE_NS) > now_ns;
            if !stays {
                hand_over(key, value, Some(end_reason(value)), sink);
            }
            stays
        });
        self.flows.len() < before
    }

    /// Hands over everything and starts anew.
    pub fn drain(&mut self, sink: &mut impl FnMut(Increment)) {
        let all = self.flows.drain().chain(self.remainders.drain());
        all.for_each(|(key, value)| hand_over(&key, &value, None, sink));
    }

    /// What could not be observed. `unreadable` are frames cut off by their capture within their headers.
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

fn is_cut(frame: &Captured<'_>) -> bool {
    frame.bytes.len() < frame.len() as usize
}

fn remainder_key(seen: &Observation) -> FlowKey {
    remainder::key(remainder::slot(&seen.key))
}

fn record(table: &mut FlowMap, key: &FlowKey, seen: &Observation, probes: &mut RttProbes) -> u8 {
    match table.entry(*key) {
        Entry::Occupied(entry) => add(entry.into_mut(), seen, probes),
        Entry::Vacant(entry) => {
            let value = entry.insert(FlowValue::EMPTY);
            // SAFETY: memory of our own.
            unsafe { account::open(value, seen) };
            add(value, seen, probes)
        }
    }
}

/// Captures may hold packets out of order: the earliest and the latest time count, not the first and the last.
#[inline]
fn add(value: &mut FlowValue, seen: &Observation, probes: &mut RttProbes) -> u8 {
    let latest = value.last_seen_ns;
    // SAFETY: memory of our own.
    unsafe {
        let repeated = round_trip::is_repeated(value, &seen.packet);
        account::record::<Exclusive>(value, seen);
        if seen.packet.flags != 0 {
            let hash = hash::hash(hash::words(&seen.key));
            let probe = &raw mut probes.0[round_trip::probe_index(hash) as usize];
            round_trip::measure::<Exclusive>(probe, value, hash, &mut { *seen }, repeated, || seen.now_ns);
        }
    }
    value.first_seen_ns = value.first_seen_ns.min(seen.now_ns);
    value.last_seen_ns = latest.max(seen.now_ns);
    value.opened_by
}

/// Round trips that are being measured.
#[derive(Debug)]
struct RttProbes(Box<[RttProbe]>);

impl Default for RttProbes {
    fn default() -> Self {
        Self(vec![RttProbe::default(); round_trip::MAX_RTT_PROBES as usize].into())
    }
}

/// Why a flow that was idle for [`IDLE_NS`] gives up its entry.
fn end_reason(value: &FlowValue) -> EndReason {
    if value.is_closed() { EndReason::EndOfFlow } else { EndReason::IdleTimeout }
}

fn hand_over(key: &FlowKey, now: &FlowValue, ended: Option<EndReason>, sink: &mut impl FnMut(Increment)) {
    let growth = Growth { key, before: &FlowValue::EMPTY, now, ended };
    if let Some(increment) = abi::increment(&growth, Clock::UNIX) {
        sink(increment);
    }
}

#[cfg(test)]
mod tests;
