//! The host meter: counts frames in user space, with the classifier's parser and accounting rules
//! and a table in plain memory. It is used for frames from capture files; only the table differs
//! from the classifier's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use netwatch_common::access::ExclusiveAccess;
use netwatch_common::account;
use netwatch_common::flow::{EntryKey, FlowValue, kind};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{self, Captured, Frame, Hook, Linked, Meta, Packet};
use netwatch_common::round_trip::{self, RttProbe};
use netwatch_common::{handshake, hash, remainder, tcp};

use super::abi::{self, Growth};
use super::clock::Clock;
use super::icmp;
use super::{DrainProgress, Meter};
use crate::error::Result;
use crate::flow::{
    EndReason, FlowKey, Increment, InterfaceCounters, ObservationLosses, QuotedError, Traffic, nanoseconds,
};
use crate::session::{MeterLosses, Observed};

mod fragments;
mod packet_flow;

use fragments::RecentFragments;
pub use packet_flow::{PacketFlow, PacketFlows, PacketOrigin};

/// Uses a fast hash with a random seed: there is one lookup per packet, and captures may be
/// hostile.
type FlowMap = HashMap<EntryKey, FlowValue, foldhash::fast::RandomState>;

/// A flow that was idle for this many nanoseconds is removed when the table is full. Its counts are
/// handed over; further packets get a new entry.
const FULL_TABLE_TIMEOUT_NS: u64 = 120_000_000_000;
/// After this time, any SYN on the five-tuple of a closed connection begins another one. The kernel
/// keeps no entry of a closed connection for longer.
const CLOSED_TIMEOUT_NS: u64 = 2_000_000_000;

/// A counted packet with its bytes, for further analysis.
#[derive(Debug, Clone, Copy)]
pub struct CountedFrame<'a> {
    /// How it was counted. Key and direction are those of the table: if the local end is unknown,
    /// it is the lower end.
    pub seen: &'a Observation,
    /// The frame from its link-layer header on.
    pub frame: &'a Linked<'a>,
}

impl<'a> CountedFrame<'a> {
    /// The transport payload, as far as it was captured.
    pub fn payload(&self) -> &'a [u8] {
        let (start, length) = (self.seen.packet.payload_offset as usize, self.seen.packet.payload_len as usize);
        let rest = self.frame.captured.bytes.get(start..).unwrap_or_default();
        &rest[..rest.len().min(length)]
    }

    /// The flow that the packet was counted in.
    pub fn flow(&self) -> Option<FlowKey> {
        match abi::traffic(&self.seen.key, self.seen.opened_by.into()).0 {
            Traffic::Flow(key) => Some(key),
            _ => None,
        }
    }

    /// The flow and error that this packet quotes, if it is an ICMP error. The flow's local end
    /// sent the quoted packet. `time_ns` is the time of this packet.
    pub fn icmp_error(&self, time_ns: u64) -> Option<QuotedError> {
        if !self.seen.packet.icmp_error {
            return None;
        }
        icmp::quoted_in_frame(self.seen, self.frame.captured.bytes, time_ns)
    }
}

/// Parses frames as the classifier does.
#[derive(Debug, Default)]
pub struct FrameReader {
    fragments: RecentFragments,
}

impl FrameReader {
    /// Parses a frame that was observed at the hook that `hook` returns for its headers.
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

/// What a packet is counted under if its sender is the local end.
pub fn as_sent(packet: &Packet) -> Traffic {
    let (key, direction) = parse::orient(packet, Hook::FromTarget);
    abi::traffic(&key, direction.into()).0
}

/// Whether the capture does not contain the whole frame: according to its record, or because the
/// packet is longer.
pub fn is_truncated(frame: &Linked<'_>, packet: &Packet) -> bool {
    has_missing_bytes(&frame.captured) || (packet.incomplete && packet.kind != kind::MALFORMED)
}

/// The host meter. The caller provides times, in nanoseconds since the Unix epoch.
#[derive(Debug)]
pub struct HostMeter {
    flows: FlowMap,
    max_flows: usize,
    /// Remainders by the key of their slot.
    remainders: FlowMap,
    probes: ProbeTable,
    reader: FrameReader,
    lost: ObservationLosses,
    /// A packet after a pause of this length begins another flow, except for TCP. Nanoseconds.
    idle_timeout_ns: u64,
    /// Earliest time of the next search for idle flows, which does not run for each packet that
    /// finds the table full.
    next_sweep_ns: u64,
}

impl HostMeter {
    /// An empty table for at most `max_flows` flows; packets of further flows are counted by
    /// protocol. A packet after a pause of `idle_timeout` begins another flow, except for TCP.
    pub fn new(max_flows: usize, idle_timeout: Duration) -> Self {
        Self {
            flows: FlowMap::default(),
            max_flows,
            remainders: FlowMap::default(),
            probes: ProbeTable::default(),
            reader: FrameReader::default(),
            lost: ObservationLosses::default(),
            idle_timeout_ns: nanoseconds(idle_timeout),
            next_sweep_ns: 0,
        }
    }

    /// Counts a frame that was observed at the hook that `hook` returns for its headers. Entries
    /// that are removed from a full table go to `sink`.
    #[inline]
    pub fn count(
        &mut self,
        frame: &Linked<'_>,
        hook: impl FnOnce(&Packet) -> Hook,
        now_ns: u64,
        sink: &mut impl FnMut(Increment),
    ) -> Observation {
        let mut seen = self.reader.read(frame, hook, now_ns);
        if seen.packet.kind == kind::MALFORMED && has_missing_bytes(&frame.captured) {
            self.lost.unreadable += 1;
        }
        seen.opened_by = self.record(&seen, sink);
        seen
    }

    /// Counts the packet. Returns the direction of the packet that opened its flow.
    fn record(&mut self, seen: &Observation, sink: &mut impl FnMut(Increment)) -> u8 {
        if remainder::is_fixed(&seen.key) {
            return record(&mut self.remainders, &remainder_key(seen), seen, &mut self.probes);
        }
        if let Some(value) = self.flows.get_mut(&seen.key) {
            if let Some(ended) = end_before(value, seen, self.idle_timeout_ns) {
                value.superseded = 1;
                emit(&seen.key, value, Some(ended), sink);
                self.probes.disarm(&seen.key);
                *value = FlowValue { epoch: value.epoch.wrapping_add(1), ..FlowValue::EMPTY };
                // SAFETY: exclusive memory.
                unsafe { account::open(value, seen) };
            }
            return add(value, seen, &mut self.probes);
        }
        if self.flows.len() >= self.max_flows && !self.make_room(seen.now_ns, sink) {
            self.lost.table_full += 1;
            return record(&mut self.remainders, &remainder_key(seen), seen, &mut self.probes);
        }
        record(&mut self.flows, &seen.key, seen, &mut self.probes)
    }

    /// Hands over and removes idle flows. Returns whether that made room.
    fn make_room(&mut self, now_ns: u64, sink: &mut impl FnMut(Increment)) -> bool {
        if now_ns < self.next_sweep_ns {
            return false;
        }
        self.next_sweep_ns = now_ns.saturating_add(FULL_TABLE_TIMEOUT_NS / 8);
        let (before, idle_timeout_ns) = (self.flows.len(), self.idle_timeout_ns);
        self.flows.retain(|key, value| {
            let stays = value.last_seen_ns.saturating_add(FULL_TABLE_TIMEOUT_NS) > now_ns;
            if !stays {
                emit(key, value, end_reason(value, now_ns, idle_timeout_ns), sink);
            }
            stays
        });
        self.flows.len() < before
    }

    /// Hands over all entries and clears the table. No entry has an end reason: the flows may go
    /// on.
    pub fn drain(&mut self, sink: &mut impl FnMut(Increment)) {
        let all = self.flows.drain().chain(self.remainders.drain());
        all.for_each(|(key, value)| emit(&key, &value, None, sink));
    }

    /// Lost observations. `unreadable` counts frames that their capture has truncated within the
    /// headers.
    pub fn lost(&self) -> ObservationLosses {
        self.lost
    }
}

/// Frames are counted one by one, and what they carry is observed with them: only counts are left
/// to be drained.
impl Meter for HostMeter {
    fn poll(&mut self, _sink: &mut dyn FnMut(Observed<'_>)) -> Result<()> {
        Ok(())
    }

    fn next_poll(&self) -> Duration {
        Duration::MAX
    }

    fn drain_part(&mut self, _: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool> {
        self.drain(&mut |increment| sink(increment));
        Ok(false)
    }

    fn losses(&self) -> Result<MeterLosses> {
        Ok(MeterLosses { meter: self.lost, ..MeterLosses::default() })
    }

    fn balance(&mut self) -> Result<Option<InterfaceCounters>> {
        Ok(None)
    }
}

fn has_missing_bytes(frame: &Captured<'_>) -> bool {
    frame.bytes.len() < frame.len() as usize
}

fn remainder_key(seen: &Observation) -> EntryKey {
    remainder::key(remainder::slot(&seen.key))
}

fn record(table: &mut FlowMap, key: &EntryKey, seen: &Observation, probes: &mut ProbeTable) -> u8 {
    match table.entry(*key) {
        Entry::Occupied(entry) => add(entry.into_mut(), seen, probes),
        Entry::Vacant(entry) => {
            let value = entry.insert(FlowValue::EMPTY);
            // SAFETY: exclusive memory.
            unsafe { account::open(value, seen) };
            add(value, seen, probes)
        }
    }
}

/// Counts a packet in an entry. Captures may have packets out of order, so the earliest and latest
/// times are kept, not the first and last.
#[inline]
fn add(value: &mut FlowValue, seen: &Observation, probes: &mut ProbeTable) -> u8 {
    let latest = value.last_seen_ns;
    // SAFETY: exclusive memory.
    unsafe {
        let repeated = round_trip::is_repeated(value, &seen.packet);
        account::record::<ExclusiveAccess>(value, seen);
        if seen.packet.flags != 0 {
            let hash = hash::hash(hash::words(&seen.key));
            let probe = &raw mut probes.0[round_trip::probe_index(hash) as usize];
            round_trip::measure::<ExclusiveAccess>(probe, value, hash, &mut { *seen }, repeated, || seen.now_ns);
        }
    }
    value.first_seen_ns = value.first_seen_ns.min(seen.now_ns);
    value.last_seen_ns = latest.max(seen.now_ns);
    value.opened_by
}

/// Round-trip measurements in progress.
#[derive(Debug)]
struct ProbeTable(Box<[RttProbe]>);

impl Default for ProbeTable {
    fn default() -> Self {
        Self(vec![RttProbe::default(); round_trip::MAX_RTT_PROBES as usize].into())
    }
}

impl ProbeTable {
    fn disarm(&mut self, key: &EntryKey) {
        let hash = hash::hash(hash::words(key));
        // SAFETY: exclusive memory.
        unsafe { round_trip::disarm(&mut self.0[round_trip::probe_index(hash) as usize], hash) }
    }
}

/// Why the flow of an entry that leaves the full table has ended; `None` for an open connection,
/// which continues with its next packet.
fn end_reason(value: &FlowValue, now_ns: u64, idle_timeout_ns: u64) -> Option<EndReason> {
    let idle_ns = now_ns.saturating_sub(value.last_seen_ns);
    match value.is_closed() {
        true => Some(EndReason::EndOfFlow),
        false if value.is_open() => None,
        false if is_tcp(value) || idle_ns >= idle_timeout_ns => Some(EndReason::IdleTimeout),
        false => Some(EndReason::LackOfResources),
    }
}

/// Why the flow of an entry ended before this packet, which begins another one; `None` if the
/// packet belongs to it.
fn end_before(value: &FlowValue, seen: &Observation, idle_timeout_ns: u64) -> Option<EndReason> {
    let idle_ns = seen.now_ns.saturating_sub(value.last_seen_ns);
    let is_after_end = value.is_closed() && idle_ns >= CLOSED_TIMEOUT_NS && tcp::is_request(seen.packet.flags);
    // SAFETY: exclusive memory.
    if is_after_end || unsafe { handshake::begins_another(value, seen) } {
        return Some(EndReason::EndOfFlow);
    }
    let is_idle = idle_ns >= idle_timeout_ns && seen.packet.flags == 0 && !is_tcp(value);
    is_idle.then_some(EndReason::IdleTimeout)
}

/// Whether TCP flags were observed.
fn is_tcp(value: &FlowValue) -> bool {
    value.halves.iter().any(|half| half.flags != 0)
}

fn emit(key: &EntryKey, now: &FlowValue, ended: Option<EndReason>, sink: &mut impl FnMut(Increment)) {
    let growth = Growth { key, before: &FlowValue::EMPTY, now, ended, is_last: true };
    if let Some(increment) = abi::increment(&growth, Clock::UNIX) {
        sink(increment);
    }
}

#[cfg(test)]
mod tests;
