//! The memory of the flow table. It grows in segments, ahead of need, on a thread of its own,
//! because the kernel waits for an RCU grace period when a segment is added.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aya_obj::generated::bpf_map_type;
use netwatch_common::table::{Control, FlowEntry, SEGMENT};

use super::memory::{self, Region};
use super::sys::{self, MapShape};
use crate::error::{Error, Result};
use crate::faults;

/// Creates the segments by which the table grows. In a run it is the guardian, because creating a
/// map needs privileges; otherwise it is this process.
pub trait SegmentSource: fmt::Debug + Send + Sync {
    /// Creates the segment with this number. Called on the thread that grows the table, so it may
    /// wait. Each number is requested once, unless the request fails; the next one follows.
    fn create(&self, number: u32) -> Result<OwnedFd>;

    /// The table grows no more: fails the current request and all later ones.
    fn close(&self);
}

/// Creates segments in this process.
#[derive(Debug)]
struct OwnSegments;

impl SegmentSource for OwnSegments {
    fn create(&self, _: u32) -> Result<OwnedFd> {
        create()
    }

    fn close(&self) {}
}

/// Segments that exist from the start: 4 MiB.
const INITIAL_SEGMENTS: u32 = 4;
/// Minimum number of unused entries, or as many as are in use if those are more: flows that may
/// arrive between two polls.
const MIN_UNUSED: u64 = 8192;
/// The kernel's `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Kernel memory of a segment in bytes.
pub(super) const SEGMENT_BYTES: u64 = SEGMENT as u64 * size_of::<FlowEntry>() as u64;

/// All segments, and the growth in progress.
#[derive(Debug)]
pub(super) struct Segments {
    shared: Arc<SharedSegments>,
    source: Arc<dyn SegmentSource>,
    growth: Option<JoinHandle<Result<()>>>,
    /// Earliest start of the next growth after one has failed.
    not_before: Option<Instant>,
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

/// Pause after a growth that failed: what was missing, usually memory, is not available again at
/// once.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

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

/// Number of segments of a new table with at most this many entries. The [`SegmentSource`] creates
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
            source: Arc::new(OwnSegments),
            growth: None,
            not_before: None,
            mapped: Vec::new(),
        })
    }

    /// Lets another source create the segments from now on.
    pub(super) fn grow_by(&mut self, source: Arc<dyn SegmentSource>) {
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
    /// again after [`RETRY_PAUSE`]; flows that find no room meanwhile are counted by protocol.
    pub(super) fn grow_ahead(&mut self) -> Result<()> {
        if let Some(growth) = self.growth.take_if(|growth| growth.is_finished()) {
            let grown =
                growth.join().unwrap_or_else(|_| Err(Error::other("grow", "the flow table", "a thread panicked")));
            grown.inspect_err(|_| self.pause())?;
        }
        let (next, limit) = self.shared.next_and_limit();
        let is_paused = self.not_before.is_some_and(|then| Instant::now() < then);
        if self.growth.is_some()
            || is_paused
            || limit >= u64::from(self.shared.max_entries)
            || next + next.max(MIN_UNUSED) <= limit
        {
            return Ok(());
        }
        let (shared, source) = (Arc::clone(&self.shared), Arc::clone(&self.source));
        let grow = move || shared.double(&*source);
        let thread = thread::Builder::new().name("grow".into()).spawn(grow);
        let started = thread.map_err(|cause| Error::os("start thread", "grow", cause));
        self.growth = Some(started.inspect_err(|_| self.pause())?);
        Ok(())
    }
}

impl Segments {
    #[cfg(test)]
    pub(super) fn is_growing(&self) -> bool {
        self.growth.is_some()
    }

    fn pause(&mut self) {
        self.not_before = Some(Instant::now() + RETRY_PAUSE);
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
    fn double(&self, source: &dyn SegmentSource) -> Result<()> {
        faults::point("grow")?;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.created().len() as u32;
        let more = now.min(count(self.max_entries) - now);
        while (pending.len() as u32) < more {
            let segment = source.create(now + pending.len() as u32)?;
            pending.push(segment);
        }
        self.add(&mut pending)
    }

    /// Adds segments, and only then allows their entries to be allocated.
    fn add(&self, segments: &mut Vec<OwnedFd>) -> Result<()> {
        let first = self.created().len() as u32;
        sys::map_update_batch(self.outer.as_fd(), first, segments)
            .map_err(|cause| Error::os("grow", "the flow table", cause))?;
        let total = first + segments.len() as u32;
        self.created().append(segments);
        let limit = u64::from(self.max_entries).min(u64::from(total) * u64::from(SEGMENT));
        // SAFETY: in a mapped region; only this side writes this field.
        unsafe { memory::store(&raw mut (*self.control.element(0)).limit, limit) };
        Ok(())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        if let Some(growth) = self.growth.take() {
            self.source.close();
            let _ended = growth.join();
        }
    }
}
