//! The memory of the flow table: grows in steps, ahead of need, on a thread of its own, because the kernel waits for a grace period
//! when a segment is put in.

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

/// Flows that have memory from the start: 4 MiB.
const AT_FIRST: u32 = 4;
/// There is always memory for so many more flows, or for as many as there are if those are more: what may come between two looks.
const AHEAD: u64 = 8192;
/// The kernel's `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Kernel memory of a segment.
pub(super) const SEGMENT_BYTES: u64 = SEGMENT as u64 * size_of::<FlowEntry>() as u64;

/// All segments, and the growth that is under way.
#[derive(Debug)]
pub(super) struct Segments {
    shared: Arc<Shared>,
    growth: Option<JoinHandle<Result<()>>>,
    /// The last growth failed: when the next may begin.
    not_before: Option<Instant>,
    mapped: Vec<Region<FlowEntry>>,
}

#[derive(Debug)]
struct Shared {
    outer: OwnedFd,
    control: Region<Control>,
    made: Mutex<Vec<OwnedFd>>,
    max_entries: u32,
}

/// Between a growth that failed and the next one: what was missing, most often memory, is not there again at once.
const PAUSE: Duration = Duration::from_secs(1);

/// A segment's array; all are alike.
pub(super) fn create() -> Result<OwnedFd> {
    let shape = MapShape {
        map_type: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        key_size: 4,
        value_size: size_of::<FlowEntry>() as u32,
        max_entries: SEGMENT,
        flags: MMAPABLE,
    };
    sys::map_create("ENTRIES", shape, None).map_err(|cause| Error::os("create BPF map", "ENTRIES", cause))
}

/// How many segments a table of so many entries has when it is full.
pub(super) fn count(max_entries: u32) -> u32 {
    max_entries.div_ceil(SEGMENT)
}

impl Segments {
    /// Puts in the first ones, of which `template` is one: the kernel has checked the programs against it.
    pub(super) fn new(outer: OwnedFd, control: &OwnedFd, template: OwnedFd, max_entries: u32) -> Result<Self> {
        let control = Region::map(control, "CONTROL", 1)?;
        let shared = Shared { outer, control, made: Mutex::default(), max_entries };
        let more = AT_FIRST.min(count(max_entries)) - 1;
        shared.add(std::iter::once(Ok(template)).chain((0..more).map(|_| create())).collect::<Result<_>>()?)?;
        Ok(Self { shared: Arc::new(shared), growth: None, not_before: None, mapped: Vec::new() })
    }

    /// What both sides agree on about free entries.
    pub(super) fn control(&self) -> *mut Control {
        self.shared.control.element(0)
    }

    /// How many entries were given out at least once.
    pub(super) fn used(&self) -> u32 {
        let (next, limit) = self.shared.next_and_limit();
        next.min(limit) as u32
    }

    /// Kernel memory of the segments that there are, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.shared.made().len() as u64 * SEGMENT_BYTES
    }

    /// How many there can be.
    pub(super) fn max_entries(&self) -> u32 {
        self.shared.max_entries
    }

    /// The segment with this entry, and where in it the entry is.
    pub(super) fn entry(&mut self, number: u32) -> Result<(&Region<FlowEntry>, usize)> {
        let (segment, within) = ((number / SEGMENT) as usize, (number % SEGMENT) as usize);
        while self.mapped.len() <= segment {
            let made = self.shared.made();
            let region = Region::map(&made[self.mapped.len()], "ENTRIES", SEGMENT as usize)?;
            drop(made);
            self.mapped.push(region);
        }
        Ok((&self.mapped[segment], within))
    }

    /// Makes room for the flows to come. Says what went wrong with the last growth, and tries again [`PAUSE`] later; flows that find no room
    /// meanwhile are counted by protocol.
    pub(super) fn tend(&mut self) -> Result<()> {
        if let Some(growth) = self.growth.take_if(|growth| growth.is_finished()) {
            let grown =
                growth.join().unwrap_or_else(|_| Err(Error::said("grow", "the flow table", "a thread panicked")));
            grown.inspect_err(|_| self.pause())?;
        }
        let (next, limit) = self.shared.next_and_limit();
        let is_paused = self.not_before.is_some_and(|then| Instant::now() < then);
        if self.growth.is_some()
            || is_paused
            || limit >= u64::from(self.shared.max_entries)
            || next + next.max(AHEAD) <= limit
        {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let grow = move || shared.double();
        let thread = thread::Builder::new().name("grow".into()).spawn(grow);
        let started = thread.map_err(|cause| Error::os("start thread", "grow", cause));
        self.growth = Some(started.inspect_err(|_| self.pause())?);
        Ok(())
    }
}

impl Segments {
    fn pause(&mut self) {
        self.not_before = Some(Instant::now() + PAUSE);
    }
}

impl Shared {
    fn made(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        // Nothing that could panic is done under the lock.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_and_limit(&self) -> (u64, u64) {
        let control = self.control.element(0);
        // SAFETY: in a region that we own.
        unsafe { (memory::load(&raw mut (*control).next), memory::load(&raw mut (*control).limit)) }
    }

    fn double(&self) -> Result<()> {
        faults::point("grow")?;
        let now = self.made().len() as u32;
        let more = now.min(count(self.max_entries) - now);
        self.add((0..more).map(|_| create()).collect::<Result<_>>()?)
    }

    /// Puts segments in, and only then lets their entries be given out.
    fn add(&self, segments: Vec<OwnedFd>) -> Result<()> {
        let first = self.made().len() as u32;
        sys::map_update_batch(self.outer.as_fd(), first, &segments)
            .map_err(|cause| Error::os("grow", "the flow table", cause))?;
        let have = first + segments.len() as u32;
        self.made().extend(segments);
        let limit = u64::from(self.max_entries).min(u64::from(have) * u64::from(SEGMENT));
        // SAFETY: in a region that we own; only this side writes it.
        unsafe { memory::store(&raw mut (*self.control.element(0)).limit, limit) };
        Ok(())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        if let Some(growth) = self.growth.take() {
            let _ended = growth.join();
        }
    }
}
