//! The flow table in user space: reads growth since the last drain, and retires finished flows.
//! `netwatch_common::table` describes the design of the table.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netwatch_common::flow::FlowValue;
use netwatch_common::hash;
use netwatch_common::table::{self, Bucket, Control, FlowEntry};

use super::fronts::Fronts;
use super::growth::MemorySource;
use super::memory::{self, Region};
use super::retire::{self, Pressure};
use super::segments::Segments;
use crate::error::Result;
use crate::flow::EndReason;
use crate::meter::abi::Growth;

/// A part of a drain ends after this time, with the work of the ledger, however large the table is.
const MAX_PART: Duration = Duration::from_millis(4);
/// Number of entries between two checks of the clock.
const ENTRIES_PER_CLOCK_CHECK: u32 = 128;
/// Maximum number of entries read in one part of a drain.
const MAX_ENTRIES_PER_PART: u32 = 8192;
/// Maximum number of flows that are taken out of the table at a time, because it flushes the front
/// of every CPU.
const MAX_RETIRED_AT_ONCE: usize = 4096;
/// Maximum number of entries examined for retirement in one part of a drain. Those that stay cost
/// little more than the access to memory.
const MAX_EXAMINED_PER_PART: usize = 32_768;

/// The table.
#[derive(Debug)]
pub(super) struct FlowEntries {
    segments: Segments,
    free: Region<u64>,
    buckets: Buckets,
    /// What was handed over of each entry.
    before: Vec<FlowValue>,
    /// Flows that no program refers to any more, and why they ended. The rest of a part that ended
    /// by its time.
    unlinked: VecDeque<(u32, EndReason)>,
    /// Entries in use at the last drain.
    live: u32,
    idle_timeout_ns: u64,
    #[cfg(test)]
    retire_all: bool,
}

impl FlowEntries {
    pub(super) fn new(segments: Segments, free: &OwnedFd, buckets: &OwnedFd, idle_timeout_ns: u64) -> Result<Self> {
        let max_entries = segments.max_entries();
        let free = Region::map(free, "FREE", free_ring_len(max_entries) as usize)?;
        let buckets = buckets.try_clone().map_err(|cause| crate::error::Error::os("open", "BPF map", cause))?;
        let buckets = Buckets { map: buckets, count: table::bucket_count(max_entries), region: None };
        Ok(Self {
            segments,
            free,
            buckets,
            before: Vec::new(),
            unlinked: VecDeque::new(),
            live: 0,
            idle_timeout_ns,
            #[cfg(test)]
            retire_all: false,
        })
    }

    /// Lets another source create the segments of the table from now on.
    pub(super) fn grow_by(&mut self, source: Arc<dyn MemorySource>) {
        self.segments.grow_by(source);
    }

    /// Grows the table ahead of need.
    pub(super) fn grow_ahead(&mut self) -> Result<()> {
        self.segments.grow_ahead()
    }

    /// State of the free entries, shared with the classifier.
    pub(super) fn control(&self) -> *mut Control {
        self.segments.control()
    }

    /// Hands over the growth of every entry that changed, in one part of the table that starts at
    /// entry `from`. Returns the start of the next part, if there is one.
    pub(super) fn read_part(&mut self, from: u32, sink: &mut impl FnMut(&Growth<'_>)) -> Result<Option<u32>> {
        let used = self.segments.used();
        if from == 0 {
            self.live = 0;
        }
        let end = used.min(from.saturating_add(MAX_ENTRIES_PER_PART));
        // In parts too, because new memory is cleared.
        if self.before.len() < end as usize {
            self.before.resize(end as usize, FlowValue::EMPTY);
        }
        let started = Instant::now();
        for number in from..end {
            if must_end(started, number - from) {
                return Ok(Some(number));
            }
            let (region, within) = self.segments.entry(number)?;
            // The entry is free, or its first packet is being counted. Checked first: after a burst
            // most entries are free.
            // SAFETY: an entry in a region that we own.
            if unsafe { memory::load(&raw mut (*region.element(within)).value.first_seen_ns) } == 0 {
                continue;
            }
            // The key was written before that time.
            let entry: FlowEntry = region.read(within);
            self.live += 1;
            let before = &mut self.before[number as usize];
            if *before != entry.value {
                sink(&Growth { key: &entry.key, before, now: &entry.value, ended: None });
                *before = entry.value;
            }
        }
        Ok((end < used).then_some(end))
    }

    /// Retires finished flows without losing a packet, in one part of the table that starts at
    /// entry `from`. Returns the start of the next part, if there is one. `now_ns` is the kernel's
    /// time.
    pub(super) fn retire(
        &mut self,
        from: u32,
        fronts: &Fronts,
        now_ns: u64,
        sink: &mut impl FnMut(&Growth<'_>),
    ) -> Result<Option<u32>> {
        if !self.unlinked.is_empty() {
            self.release_unlinked(sink)?;
            return Ok(Some(from));
        }
        let pressure = Pressure::of(self.live, self.segments.max_entries());
        #[cfg(test)]
        let now_ns = if self.retire_all { u64::MAX } else { now_ns };
        let end = self.before.len().min((from as usize).saturating_add(MAX_EXAMINED_PER_PART));
        let finished: Vec<(u32, EndReason)> = (from..)
            .zip(self.before.get(from as usize..end).unwrap_or_default())
            .filter(|(_, value)| value.first_seen_ns != 0)
            .filter_map(|(number, value)| {
                Some((number, retire::end_reason(value, now_ns, self.idle_timeout_ns, pressure)?))
            })
            .take(MAX_RETIRED_AT_ONCE)
            .collect();
        let next = match finished.last() {
            Some((last, _)) if finished.len() == MAX_RETIRED_AT_ONCE => last + 1,
            _ => end as u32,
        };
        if finished.is_empty() {
            return Ok(((next as usize) < self.before.len()).then_some(next));
        }
        finished.iter().try_for_each(|&(number, _)| self.unlink(number))?;
        fronts.flush()?;
        self.unlinked.extend(finished);
        Ok(Some(next))
    }

    /// Releases entries that were unlinked before the last flush, until the part has to end.
    fn release_unlinked(&mut self, sink: &mut impl FnMut(&Growth<'_>)) -> Result<()> {
        let (started, mut released) = (Instant::now(), 0);
        while let Some((number, reason)) = self.unlinked.pop_front() {
            self.release(number, reason, sink)?;
            released += 1;
            if must_end(started, released) {
                break;
            }
        }
        Ok(())
    }

    /// Removes the entry's tag: from now on packets only find the entry through a front.
    fn unlink(&mut self, number: u32) -> Result<()> {
        let (region, within) = self.segments.entry(number)?;
        let entry = region.element(within);
        // SAFETY: an entry in a mapped region. The classifier writes neither its key nor this
        // field.
        let key = unsafe {
            (&raw mut (*entry).value.retiring).write_volatile(1);
            (*entry).key
        };
        self.buckets.remove(hash::hash(hash::words(&key)), number)
    }

    /// Reads an entry that no program refers to any more for the last time, hands it over with the
    /// reason why it ended, and frees it.
    fn release(&mut self, number: u32, reason: EndReason, sink: &mut impl FnMut(&Growth<'_>)) -> Result<()> {
        let (region, within) = self.segments.entry(number)?;
        let entry: FlowEntry = region.read(within);
        region.clear(within);
        let value = FlowValue { retiring: 0, superseded: 0, ..entry.value };
        let before = std::mem::take(&mut self.before[number as usize]);
        sink(&Growth { key: &entry.key, before: &before, now: &value, ended: Some(reason) });
        self.free_number(number);
        Ok(())
    }

    /// Frees the number of an entry.
    fn free_number(&self, number: u32) {
        let control = self.segments.control();
        // SAFETY: in mapped regions; this side is the only writer of `free_tail` and of the
        // elements after it.
        unsafe {
            let tail = memory::load(&raw mut (*control).free_tail);
            let place = tail as usize & (self.free.len() - 1);
            memory::store(self.free.element(place), table::freed(number, tail));
            memory::store(&raw mut (*control).free_tail, tail + 1);
        }
    }

    /// Kernel memory of the current segments, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.segments.memory_bytes()
    }

    /// Entries in use at the last drain.
    #[cfg(test)]
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Whether the table is growing.
    #[cfg(test)]
    pub(super) fn is_growing(&self) -> bool {
        self.segments.is_growing()
    }

    /// Sets whether each drain retires all flows.
    #[cfg(test)]
    pub(super) fn retire_all(&mut self, all: bool) {
        self.retire_all = all;
    }

    /// Makes the next drain hand over everything again.
    #[cfg(test)]
    pub(super) fn take_handed_over(&mut self) -> Vec<FlowValue> {
        std::mem::take(&mut self.before)
    }

    /// Undoes [`Self::take_handed_over`].
    #[cfg(test)]
    pub(super) fn restore_handed_over(&mut self, before: Vec<FlowValue>) {
        self.before = before;
    }
}

/// Whether a part that began at `started` has to end after `entries` entries.
fn must_end(started: Instant, entries: u32) -> bool {
    entries != 0 && entries.is_multiple_of(ENTRIES_PER_CLOCK_CHECK) && started.elapsed() >= MAX_PART
}

/// Size of the FREE ring: room for every number, so that the ring is never full.
pub(super) fn free_ring_len(max_entries: u32) -> u32 {
    max_entries.next_power_of_two()
}

/// The tags. Mapped when the first flow is retired: most runs end before.
#[derive(Debug)]
struct Buckets {
    map: OwnedFd,
    count: u32,
    region: Option<Region<Bucket>>,
}

impl Buckets {
    /// Clears the tag of an entry in the bucket that holds it.
    fn remove(&mut self, hash: u64, number: u32) -> Result<()> {
        let region = match &mut self.region {
            Some(region) => region,
            none => none.insert(Region::map(&self.map, "BUCKETS", self.count as usize)?),
        };
        let tag = table::tag(hash, number);
        for bucket in table::buckets(hash, self.count - 1) {
            let tags = region.element(bucket as usize).cast::<u64>();
            for place in 0..table::TAGS {
                // SAFETY: a tag in a mapped region. The classifier may replace it at the same time
                // by that of the next connection.
                if unsafe { memory::replace(tags.add(place), tag, 0) } {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
