//! The flow table seen from user space: what grew since the last look, and which flows leave. How the table works is told in
//! `netwatch_common::table`.

use std::os::fd::OwnedFd;

use netwatch_common::flow::FlowValue;
use netwatch_common::hash;
use netwatch_common::table::{self, Bucket, FlowEntry};

use super::fronts::Fronts;
use super::memory::{self, Region};
use super::retire::{self, Pressure};
use super::segments::Segments;
use crate::error::Result;
use crate::flow::EndReason;
use crate::meter::abi::Growth;

/// Entries that are looked at in one part of a drain: about two milliseconds' work.
const LOOKED_AT: u32 = 8192;
/// Flows that leave in one part of a drain: each part has every CPU flush its front.
const LEAVING: usize = 16_384;

/// The table.
#[derive(Debug)]
pub(super) struct Flows {
    segments: Segments,
    free: Region<u64>,
    buckets: Buckets,
    /// What was handed over of each entry.
    before: Vec<FlowValue>,
    /// Entries in use at the last look.
    live: u32,
    #[cfg(test)]
    retire_all: bool,
}

impl Flows {
    pub(super) fn new(segments: Segments, free: &OwnedFd, buckets: &OwnedFd) -> Result<Self> {
        let max_entries = segments.max_entries();
        let free = Region::map(free, "FREE", free_ring_len(max_entries) as usize)?;
        let buckets = buckets.try_clone().map_err(|cause| crate::error::Error::os("open", "BPF map", cause))?;
        let buckets = Buckets { map: buckets, count: table::bucket_count(max_entries), region: None };
        Ok(Self {
            segments,
            free,
            buckets,
            before: Vec::new(),
            live: 0,
            #[cfg(test)]
            retire_all: false,
        })
    }

    /// Makes room for the flows to come.
    pub(super) fn tend(&mut self) -> Result<()> {
        self.segments.tend()
    }

    /// Hands over every entry that changed, of one part that begins with this number: key, what was handed over before, what it is now. Where the
    /// next part begins, if there is one.
    pub(super) fn visit(&mut self, from: u32, sink: &mut impl FnMut(&Growth<'_>)) -> Result<Option<u32>> {
        let used = self.segments.used();
        self.before.resize(used as usize, FlowValue::EMPTY);
        if from == 0 {
            self.live = 0;
        }
        let end = used.min(from.saturating_add(LOOKED_AT));
        for number in from..end {
            let (region, within) = self.segments.entry(number)?;
            // A free one, or one whose first packet is being counted. Asked for first: after a burst most are free.
            // SAFETY: an entry in a region that we own.
            if unsafe { memory::load(&raw mut (*region.element(within)).value.first_seen_ns) } == 0 {
                continue;
            }
            // The key was complete before that time was there.
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

    /// Lets flows go that are over, without losing a packet of theirs; whether there are more of them. `now_ns` is the kernel's monotonic time.
    pub(super) fn retire(&mut self, fronts: &Fronts, now_ns: u64, sink: &mut impl FnMut(&Growth<'_>)) -> Result<bool> {
        let pressure = Pressure::of(self.live, self.segments.max_entries());
        #[cfg(test)]
        let now_ns = if self.retire_all { u64::MAX } else { now_ns };
        let over: Vec<(u32, EndReason)> = (0_u32..)
            .zip(&self.before)
            .filter(|(_, value)| value.first_seen_ns != 0)
            .filter_map(|(number, value)| Some((number, retire::end_reason(value, now_ns, pressure)?)))
            .take(LEAVING)
            .collect();
        if over.is_empty() {
            return Ok(false);
        }
        over.iter().try_for_each(|&(number, _)| self.take_out(number))?;
        fronts.flush()?;
        over.iter().try_for_each(|&(number, reason)| self.release(number, reason, sink))?;
        Ok(over.len() == LEAVING)
    }

    /// From now on no packet finds the entry but through a front.
    fn take_out(&mut self, number: u32) -> Result<()> {
        let (region, within) = self.segments.entry(number)?;
        let entry = region.element(within);
        // SAFETY: an entry in a region that we own. The classifier writes neither its key nor this word.
        let key = unsafe {
            (&raw mut (*entry).value.retiring).write_volatile(1);
            (*entry).key
        };
        self.buckets.remove(hash::hash(hash::words(&key)), number)
    }

    /// Reads an entry that no program refers to any more for the last time, hands it over with the reason why it ended, and frees it.
    fn release(&mut self, number: u32, reason: EndReason, sink: &mut impl FnMut(&Growth<'_>)) -> Result<()> {
        let (region, within) = self.segments.entry(number)?;
        let entry: FlowEntry = region.read(within);
        region.clear(within);
        let value = FlowValue { retiring: 0, ..entry.value };
        let before = std::mem::take(&mut self.before[number as usize]);
        sink(&Growth { key: &entry.key, before: &before, now: &value, ended: Some(reason) });
        self.give_back(number);
        Ok(())
    }

    fn give_back(&self, number: u32) {
        let control = self.segments.control();
        // SAFETY: in regions that we own; of `free_tail` and the elements behind it we are the only writer.
        unsafe {
            let tail = memory::load(&raw mut (*control).free_tail);
            let place = tail as usize & (self.free.len() - 1);
            memory::store(self.free.element(place), u64::from(number));
            memory::store(&raw mut (*control).free_tail, tail + 1);
        }
    }

    /// Kernel memory of the entries that there are, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.segments.memory_bytes()
    }

    /// Entries in use at the last look.
    #[cfg(test)]
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// From now on every flow is over at the next drain, or as usual.
    #[cfg(test)]
    pub(super) fn retire_all(&mut self, all: bool) {
        self.retire_all = all;
    }

    /// The next look shows everything again.
    #[cfg(test)]
    pub(super) fn forget(&mut self) -> Vec<FlowValue> {
        std::mem::take(&mut self.before)
    }

    /// Undoes [`Self::forget`].
    #[cfg(test)]
    pub(super) fn remember(&mut self, before: Vec<FlowValue>) {
        self.before = before;
    }
}

/// Room for every number at once, so that the ring is never full.
pub(super) fn free_ring_len(max_entries: u32) -> u32 {
    max_entries.next_power_of_two()
}

/// The tags, mapped when the first flow leaves: most runs are over before.
#[derive(Debug)]
struct Buckets {
    map: OwnedFd,
    count: u32,
    region: Option<Region<Bucket>>,
}

impl Buckets {
    /// Clears the tag of an entry in either of its buckets.
    fn remove(&mut self, hash: u64, number: u32) -> Result<()> {
        let region = match &mut self.region {
            Some(region) => region,
            none => none.insert(Region::map(&self.map, "BUCKETS", self.count as usize)?),
        };
        let tag = table::tag(hash, number);
        for bucket in table::buckets(hash, self.count - 1) {
            let tags = region.element(bucket as usize).cast::<u64>();
            for place in 0..table::TAGS {
                // SAFETY: a tag in a region that we own; nobody but us takes this one out.
                unsafe {
                    let cell = tags.add(place);
                    if memory::load(cell) == tag {
                        memory::store(cell, 0);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
