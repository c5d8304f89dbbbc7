//! The memory of the flow table. It grows in segments, ahead of need.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya_obj::generated::bpf_map_type;
use netwatch_common::table::{Control, FlowEntry, SEGMENT};

use super::growth::{GrowthThread, MemorySource, OwnMemory};
use super::memory::{self, Region};
use super::sys::{self, MMAPABLE, MapShape};
use crate::error::{Error, Result};
use crate::faults;

/// Segments that exist from the start: 4 MiB.
const INITIAL_SEGMENTS: u32 = 4;
/// Minimum number of unused entries, or as many as are in use if those are more: flows that may
/// arrive between two polls.
const MIN_UNUSED: u64 = 8192;

/// Kernel memory of a segment in bytes.
pub(super) const SEGMENT_BYTES: u64 = SEGMENT as u64 * size_of::<FlowEntry>() as u64;

/// All segments, and the growth in progress.
#[derive(Debug)]
pub(super) struct Segments {
    shared: Arc<SharedSegments>,
    source: Arc<dyn MemorySource>,
    growth: GrowthThread,
    mapped: Vec<Region<FlowEntry>>,
}

#[derive(Debug)]
struct SharedSegments {
    outer: OwnedFd,
    control: Region<Control>,
    created: Mutex<Vec<OwnedFd>>,
    /// Created by the source, and not yet in the table because a growth failed.
    pending: Mutex<Vec<OwnedFd>>,
    max_entries: u32,
}

/// Creates the array of a segment; all have the same shape.
pub fn create() -> Result<OwnedFd> {
    let shape = MapShape {
        map_type: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        key_size: 4,
        value_size: size_of::<FlowEntry>() as u32,
        max_entries: SEGMENT,
        flags: MMAPABLE,
    };
    sys::map_create("ENTRIES", shape, None).map_err(|cause| Error::os("create BPF map", "ENTRIES", cause))
}

/// Number of segments of a full table with this many entries.
pub fn count(max_entries: u32) -> u32 {
    max_entries.div_ceil(SEGMENT)
}

/// Number of segments of a new table with at most this many entries. The [`MemorySource`] creates
/// those from this number on.
pub fn initial_count(max_entries: u32) -> u32 {
    INITIAL_SEGMENTS.min(count(max_entries))
}

impl Segments {
    /// Adds the initial segments. `template` is the first: the kernel has verified the programs
    /// against it.
    pub(super) fn new(outer: OwnedFd, control: &OwnedFd, template: OwnedFd, max_entries: u32) -> Result<Self> {
        let control = Region::map(control, "CONTROL", 1)?;
        let shared =
            SharedSegments { outer, control, created: Mutex::default(), pending: Mutex::default(), max_entries };
        let more = initial_count(max_entries) - 1;
        shared.add(&mut std::iter::once(Ok(template)).chain((0..more).map(|_| create())).collect::<Result<_>>()?)?;
        Ok(Self {
            shared: Arc::new(shared),
            source: Arc::new(OwnMemory),
            growth: GrowthThread::of("the flow table"),
            mapped: Vec::new(),
        })
    }

    /// Lets another source create the segments from now on.
    pub(super) fn grow_by(&mut self, source: Arc<dyn MemorySource>) {
        self.source = source;
    }

    /// State of the free entries, shared with the classifier.
    pub(super) fn control(&self) -> *mut Control {
        self.shared.control.element(0)
    }

    /// Number of entries that were allocated at least once.
    pub(super) fn used(&self) -> u32 {
        let (next, limit) = self.shared.next_and_limit();
        next.min(limit) as u32
    }

    /// Kernel memory of the current segments, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.shared.created().len() as u64 * SEGMENT_BYTES
    }

    /// Maximum number of entries.
    pub(super) fn max_entries(&self) -> u32 {
        self.shared.max_entries
    }

    /// The segment with this entry, and the entry's index in it.
    pub(super) fn entry(&mut self, number: u32) -> Result<(&Region<FlowEntry>, usize)> {
        let (segment, within) = ((number / SEGMENT) as usize, (number % SEGMENT) as usize);
        while self.mapped.len() <= segment {
            let created = self.shared.created();
            let region = Region::map(&created[self.mapped.len()], "ENTRIES", SEGMENT as usize)?;
            drop(created);
            self.mapped.push(region);
        }
        Ok((&self.mapped[segment], within))
    }

    /// Grows the table ahead of need. Returns the error of a growth that has failed, and tries
    /// again after a pause; flows that find no room meanwhile are counted by protocol.
    pub(super) fn grow_ahead(&mut self) -> Result<()> {
        let is_due = self.growth.is_due()?;
        let (next, limit) = self.shared.next_and_limit();
        if !is_due || limit >= u64::from(self.shared.max_entries) || next + next.max(MIN_UNUSED) <= limit {
            return Ok(());
        }
        let (shared, source) = (Arc::clone(&self.shared), Arc::clone(&self.source));
        self.growth.start(move || shared.double(&*source))
    }
}

impl Segments {
    #[cfg(test)]
    pub(super) fn is_growing(&self) -> bool {
        self.growth.is_running()
    }
}

impl SharedSegments {
    fn created(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        // Nothing can panic while the lock is held.
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_and_limit(&self) -> (u64, u64) {
        let control = self.control.element(0);
        // SAFETY: in a mapped region.
        unsafe { (memory::load(&raw mut (*control).next), memory::load(&raw mut (*control).limit)) }
    }

    /// Doubles the number of segments, up to the maximum. Segments of a growth that fails are kept
    /// for the next one.
    fn double(&self, source: &dyn MemorySource) -> Result<()> {
        faults::point("grow")?;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.created().len() as u32;
        let more = now.min(count(self.max_entries) - now);
        while (pending.len() as u32) < more {
            let segment = source.segment(now + pending.len() as u32)?;
            pending.push(segment);
        }
        self.add(&mut pending)
    }

    /// Adds segments, and only then allows their entries to be allocated.
    fn add(&self, segments: &mut Vec<OwnedFd>) -> Result<()> {
        let first = self.created().len() as u32;
        let total = first + segments.len() as u32;
        let numbers: Vec<u32> = (first..total).collect();
        sys::map_update_batch(self.outer.as_fd(), &numbers, segments)
            .map_err(|cause| Error::os("grow", "the flow table", cause))?;
        self.created().append(segments);
        let limit = u64::from(self.max_entries).min(u64::from(total) * u64::from(SEGMENT));
        // SAFETY: in a mapped region; only this side writes this field.
        unsafe { memory::store(&raw mut (*self.control.element(0)).limit, limit) };
        Ok(())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        if self.growth.is_running() {
            self.source.close();
        }
    }
}
