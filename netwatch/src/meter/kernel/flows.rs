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
use super::retire::{self, Fill, Retirement};
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::flow::{Chunks, Increment};
use crate::meter::abi::{self, Growth};
use crate::meter::clock::{self, Clock};

/// Number of entries that are read at a time.
const MAX_READ_AT_ONCE: u32 = 128;
/// Maximum number of flows that are taken out of the table at a time, because it flushes the front
/// of every CPU.
const MAX_RETIRED_AT_ONCE: usize = 4096;
/// Maximum number of entries that a [relief](FlowEntries::relieve) examines at a time.
const MAX_EXAMINED_AT_ONCE: u32 = 32_768;
/// Pause between two reliefs, each of which examines the whole table.
const RELIEF_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of retired flows that wait to be handed over: 20 MiB. Beyond it, flows stay in
/// the table.
const MAX_WAITING: usize = 1 << 16;
/// Memory for so many retired flows is kept. More is only needed when user space is late.
const MAX_KEPT_WAITING: usize = 1 << 14;

/// The table.
#[derive(Debug)]
pub(super) struct FlowEntries {
    segments: Segments,
    free: Region<u64>,
    buckets: Buckets,
    /// What was handed over of each entry.
    before: Chunks<FlowValue>,
    /// Finished flows of the current drain that are still in the table.
    finished: Vec<FinishedEntry>,
    /// The last increments of retired flows, to be handed over before the entries are read on:
    /// another flow may have one of their keys.
    waiting: VecDeque<Increment>,
    /// Number of those in `waiting` that may be handed over: all records about them were polled.
    polled: usize,
    /// The last call of [`Self::read`] handed over nothing, because a poll has to come before.
    needs_poll: bool,
    /// The kernel's time at the last poll. Flows that closed later are not finished.
    polled_ns: Option<u64>,
    /// Entries that were in use at the last drain.
    live: u32,
    relief: Relief,
    /// Why room could not be made, to be reported by the next poll.
    failure: Option<Error>,
    idle_timeout_ns: u64,
    #[cfg(test)]
    retire_all: bool,
}

/// An entry that leaves the table: its number, and why.
type FinishedEntry = (u32, Retirement);

/// Progress of the reliefs.
#[derive(Debug, Default)]
struct Relief {
    /// The next entry to examine.
    next: u32,
    /// When the next examination of the whole table may begin.
    not_before: Option<Instant>,
}

impl FlowEntries {
    pub(super) fn new(segments: Segments, free: &OwnedFd, buckets: &OwnedFd, idle_timeout_ns: u64) -> Result<Self> {
        let max_entries = segments.max_entries();
        let free = Region::map(free, "FREE", free_ring_len(max_entries) as usize)?;
        let buckets = buckets.try_clone().map_err(|cause| Error::os("open", "BPF map", cause))?;
        let buckets = Buckets { map: buckets, count: table::bucket_count(max_entries), region: None };
        Ok(Self {
            segments,
            free,
            buckets,
            before: Chunks::default(),
            finished: Vec::new(),
            waiting: VecDeque::new(),
            polled: 0,
            needs_poll: false,
            polled_ns: None,
            live: 0,
            relief: Relief::default(),
            failure: None,
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

    /// Notes that the table could not grow or be relieved.
    pub(super) fn note_failure(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Returns the failure that was noted.
    pub(super) fn take_failure(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// State of the free entries, shared with the classifier.
    pub(super) fn control(&self) -> *mut Control {
        self.segments.control()
    }

    /// Notes that all records up to now are being polled. From now on, flows that finished before
    /// may be handed over with their ends: their sockets and samples are known then.
    pub(super) fn note_poll(&mut self) {
        self.polled = self.waiting.len();
        self.polled_ns = Some(clock::kernel_ns());
        self.needs_poll = false;
    }

    /// Hands over increments of some entries: those that wait, or else those from entry `from` on
    /// that grew. Unless this is the last drain, finished flows are retired, and handed over once,
    /// with their ends. Returns where to continue; `None` at the end of the table.
    pub(super) fn read(
        &mut self,
        from: u32,
        is_last: bool,
        fronts: &Fronts,
        clock: Clock,
        out: &mut Vec<Increment>,
    ) -> Result<Option<u32>> {
        if !self.waiting.is_empty() {
            self.take_waiting(is_last, out);
            return Ok(Some(from));
        }
        let used = self.segments.used();
        if from >= used {
            return Ok(None);
        }
        if from == 0 {
            self.live = 0;
            self.finished.clear();
        }
        let end = used.min(from + MAX_READ_AT_ONCE);
        // A part at a time, because new memory is cleared.
        while self.before.len() < end as usize {
            self.before.push(FlowValue::EMPTY);
        }
        let rule = if is_last { RetireRule::Never } else { self.rule(self.polled_ns) };
        for number in from..end {
            let Some(entry) = self.entry(number)? else { continue };
            self.live += 1;
            let retirement = rule.retirement(&entry.value);
            if let Some(retirement) = retirement {
                self.finished.push((number, retirement));
            }
            // A flow that ends is handed over when it has left the table, unless the entry of the
            // next connection may be handed over before.
            let before = &mut self.before[number as usize];
            if (retirement.is_none() || entry.value.superseded != 0) && *before != entry.value {
                out.extend(abi::increment(&Growth::of(&entry, before), clock));
                *before = entry.value;
            }
        }
        if end == used || self.finished.len() + MAX_READ_AT_ONCE as usize > MAX_RETIRED_AT_ONCE {
            let finished = std::mem::take(&mut self.finished);
            self.retire(&finished, fronts, clock)?;
            self.polled = self.waiting.len();
        }
        Ok(Some(end))
    }

    /// Hands over some of the increments that wait. Those of flows that a relief retired since the
    /// last poll need another poll before, unless there is none.
    fn take_waiting(&mut self, is_last: bool, out: &mut Vec<Increment>) {
        let is_late = self.polled == 0 && std::mem::replace(&mut self.needs_poll, true);
        if is_last || is_late {
            self.polled = self.waiting.len();
        }
        let count = self.polled.min(MAX_READ_AT_ONCE as usize);
        out.extend(self.waiting.drain(..count));
        self.polled -= count;
        self.needs_poll = count == 0;
        if self.waiting.is_empty() {
            self.waiting.shrink_to(MAX_KEPT_WAITING);
        }
    }

    /// Whether nothing more can be handed over before the next poll.
    pub(super) fn needs_poll(&self) -> bool {
        self.needs_poll
    }

    /// Retires finished flows while the table is more than half full, whether or not the session
    /// has time to drain it. Does a part of that work.
    pub(super) fn relieve(&mut self, fronts: &Fronts, clock: Clock) -> Result<()> {
        let is_paused = self.relief.not_before.is_some_and(|then| Instant::now() < then);
        let room = MAX_WAITING.saturating_sub(self.waiting.len());
        if is_paused || room < MAX_RETIRED_AT_ONCE || self.fill() == Fill::Low {
            return Ok(());
        }
        // Also after an error.
        self.relief.not_before = Some(Instant::now() + RELIEF_INTERVAL);
        fronts.merge()?;
        // Those that a drain has found so far: an entry must not be found, and freed, twice.
        let found = std::mem::take(&mut self.finished);
        self.retire(&found, fronts, clock)?;
        let (used, from) = (self.segments.used(), self.relief.next);
        // What is retired here waits for the next poll in any case.
        let (rule, mut finished) = (self.rule(None), Vec::new());
        let mut next = from;
        while next < used && next - from < MAX_EXAMINED_AT_ONCE && finished.len() < MAX_RETIRED_AT_ONCE {
            let retirement = self.entry(next)?.and_then(|entry| rule.retirement(&entry.value));
            finished.extend(retirement.map(|retirement| (next, retirement)));
            next += 1;
        }
        let is_end = next >= used;
        self.relief.next = if is_end { 0 } else { next };
        self.retire(&finished, fronts, clock)?;
        if !is_end {
            self.relief.not_before = None;
        }
        Ok(())
    }

    /// When a flow is finished. Those that closed after `polled_ns` are not.
    fn rule(&self, polled_ns: Option<u64>) -> RetireRule {
        #[cfg(test)]
        if self.retire_all {
            return RetireRule::All;
        }
        let now_ns = clock::kernel_ns();
        RetireRule::At(retire::RetireMoment {
            now_ns,
            polled_ns: polled_ns.unwrap_or(now_ns),
            idle_timeout_ns: self.idle_timeout_ns,
            fill: self.fill(),
        })
    }

    /// How full the table is.
    fn fill(&self) -> Fill {
        Fill::of(self.in_use(), self.segments.max_entries())
    }

    /// Number of entries in use.
    pub(super) fn in_use(&self) -> u32 {
        let control = self.segments.control();
        // SAFETY: in a mapped region.
        let [head, tail] =
            unsafe { [memory::load(&raw mut (*control).free_head), memory::load(&raw mut (*control).free_tail)] };
        let free = u32::try_from(tail.saturating_sub(head)).unwrap_or(u32::MAX);
        self.segments.used().saturating_sub(free)
    }

    /// The entry with this number; `None` if it is free, or its first packet is being counted.
    fn entry(&mut self, number: u32) -> Result<Option<FlowEntry>> {
        let (region, within) = self.segments.entry(number)?;
        // Checked first: after a burst most entries are free.
        // SAFETY: an entry in a region that we own.
        if unsafe { memory::load(&raw mut (*region.element(within)).value.first_seen_ns) } == 0 {
            return Ok(None);
        }
        // The key was written before that time.
        Ok(Some(region.read(within)))
    }

    /// Takes flows out of the table without losing a packet.
    fn retire(&mut self, finished: &[FinishedEntry], fronts: &Fronts, clock: Clock) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        finished.iter().try_for_each(|&(number, _)| self.unlink(number))?;
        fronts.flush()?;
        finished.iter().try_for_each(|&(number, retirement)| self.release(number, retirement, clock))
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

    /// Reads an entry that no program refers to any more for the last time, and frees it. The
    /// increment, with the reason if the flow has ended, waits to be handed over.
    fn release(&mut self, number: u32, retirement: Retirement, clock: Clock) -> Result<()> {
        let (region, within) = self.segments.entry(number)?;
        let entry: FlowEntry = region.read(within);
        region.clear(within);
        let now = FlowValue { retiring: 0, ..entry.value };
        let before = self.before.get_mut(number as usize).map(std::mem::take).unwrap_or_default();
        let ended = retirement.end_reason(&now);
        let growth = Growth { key: &entry.key, before: &before, now: &now, ended, is_last: true };
        self.waiting.extend(abi::increment(&growth, clock));
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

    /// Passes all entries to `show`, without effect on the next drain.
    #[cfg(test)]
    pub(super) fn snapshot(&mut self, show: &mut impl FnMut(&Growth<'_>)) {
        for number in 0..self.segments.used() {
            if let Some(entry) = self.entry(number).expect("readable") {
                show(&Growth::of(&entry, &FlowValue::EMPTY));
            }
        }
    }
}

/// When a flow is finished.
enum RetireRule {
    /// Depends on the time.
    At(retire::RetireMoment),
    /// Never: the meter is about to stop.
    Never,
    #[cfg(test)]
    All,
}

impl RetireRule {
    fn retirement(&self, value: &FlowValue) -> Option<Retirement> {
        match self {
            Self::At(moment) => moment.retirement(value),
            Self::Never => None,
            #[cfg(test)]
            Self::All => {
                retire::RetireMoment { now_ns: u64::MAX, polled_ns: u64::MAX, idle_timeout_ns: 0, fill: Fill::Low }
                    .retirement(value)
            }
        }
    }
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
