//! The fronts: memory for each CPU in use, and flushing them into the flow table. After a flush, no
//! program holds an entry that it looked up before.
//!
//! A machine may have few CPUs and many possible ones (hotplug), so fronts exist only for CPUs in
//! use: the first ones that are online get theirs at once, others when a packet on them found none.
//! Until then the packets of a CPU take the long path.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya_obj::generated::bpf_map_type;
use netwatch_common::front::{Front, FrontHead, GROUPS};
use netwatch_common::stage::flushed;

use super::cpus::Cpus;
use super::growth::{GrowthThread, MemorySource, OwnMemory};
use super::memory::{self, Region};
use super::sys::{self, MMAPABLE, MapShape};
use crate::error::{Error, Result};

/// Maximum number of immediate retries on a CPU that is counting a packet. A try takes under a
/// microsecond, and so does a packet.
pub(super) const MAX_TRIES: u32 = 10_000;
/// Maximum number of further retries with a pause: with PREEMPT_RT, other work may preempt the
/// packet for a long time.
const MAX_TRIES_WITH_PAUSE: u32 = 10_000;
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// Maximum number of fronts from the start: 4 MiB.
pub(super) const MAX_INITIAL_FRONTS: usize = 8;

/// The memory of all fronts.
#[derive(Debug)]
pub(super) struct FrontMemory {
    outer: OwnedFd,
    /// [`Front::installed`] of each front that the classifier may use, in words, by CPU.
    created: Mutex<BTreeMap<u32, Region<u64>>>,
}

/// Creates the array of a front; all have the same shape.
pub fn create() -> Result<OwnedFd> {
    let shape = MapShape {
        map_type: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        key_size: 4,
        value_size: size_of::<Front>() as u32,
        max_entries: 1,
        flags: MMAPABLE,
    };
    sys::map_create("FRONT", shape, None).map_err(|cause| Error::os("create BPF map", "FRONT", cause))
}

/// Maximum number of fronts: one more than the highest number of a CPU.
pub fn max_count() -> Result<u32> {
    Cpus::of_this_machine().map(|cpus| cpus.count())
}

impl FrontMemory {
    /// Adds fronts for these CPUs. `template` is the first: the kernel has verified the programs
    /// against it.
    pub(super) fn new(outer: OwnedFd, template: OwnedFd, cpus: &[u32]) -> Result<Self> {
        let memory = Self { outer, created: Mutex::default() };
        let mut template = Some(template);
        let arrays = cpus.iter().map(|&cpu| Ok((cpu, template.take().map_or_else(create, Ok)?)));
        memory.add(arrays.collect::<Result<_>>()?)?;
        Ok(memory)
    }

    fn created(&self) -> MutexGuard<'_, BTreeMap<u32, Region<u64>>> {
        // Nothing can panic while the lock is held.
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives fronts to CPUs. Each is recorded before the classifier can use it, so that a flush
    /// that waits for the packets of a CPU finds its front afterwards.
    fn add(&self, arrays: Vec<(u32, OwnedFd)>) -> Result<()> {
        if arrays.is_empty() {
            return Ok(());
        }
        for (cpu, array) in &arrays {
            let installed = Region::map(array, "FRONT", GROUPS / 8)?;
            self.created().insert(*cpu, installed);
        }
        let (cpus, arrays): (Vec<u32>, Vec<OwnedFd>) = arrays.into_iter().unzip();
        sys::map_update_batch(self.outer.as_fd(), &cpus, &arrays).map_err(|cause| Error::os("add", "fronts", cause))
    }

    /// Groups of a CPU's front that may hold a flow.
    fn taken_groups(&self, cpu: u32) -> Vec<usize> {
        let created = self.created();
        let Some(installed) = created.get(&cpu) else { return Vec::new() };
        let mut taken = Vec::new();
        for word in 0..installed.len() {
            // SAFETY: in a mapped region.
            let groups = unsafe { memory::load(installed.element(word)) }.to_ne_bytes();
            taken.extend((word * 8..).zip(groups).filter(|(_, bits)| *bits != 0).map(|(group, _)| group));
        }
        taken
    }
}

/// All fronts.
#[derive(Debug)]
pub(super) struct Fronts {
    /// Whether packets are counted in the fronts.
    are_used: bool,
    cpus: Cpus,
    program: OwnedFd,
    heads: Region<FrontHead>,
    memory: Arc<FrontMemory>,
    source: Arc<dyn MemorySource>,
    growth: GrowthThread,
    #[cfg(test)]
    tries: std::sync::atomic::AtomicU32,
}

impl Fronts {
    pub(super) fn new(
        are_used: bool,
        cpus: Cpus,
        memory: FrontMemory,
        program: &OwnedFd,
        heads: &OwnedFd,
    ) -> Result<Self> {
        let program = program.try_clone().map_err(|cause| Error::os("duplicate", "a file descriptor", cause))?;
        let heads = Region::map(heads, "HEADS", cpus.count() as usize)?;
        let (memory, source) = (Arc::new(memory), Arc::new(OwnMemory));
        Ok(Self {
            are_used,
            cpus,
            program,
            heads,
            memory,
            source,
            growth: GrowthThread::of("the fronts"),
            #[cfg(test)]
            tries: std::sync::atomic::AtomicU32::new(0),
        })
    }

    /// Lets another source create further fronts from now on.
    pub(super) fn grow_by(&mut self, source: Arc<dyn MemorySource>) {
        self.source = source;
    }

    /// Sets the parameters of the clock for packets in the front.
    pub(super) fn set_tick(&self, tick_ns: u64, tick_base_ns: u64) {
        for head in (0..self.heads.len()).map(|cpu| self.heads.element(cpu)) {
            // SAFETY: in a mapped region; only this side writes these words.
            unsafe {
                memory::store(&raw mut (*head).tick_base_ns, tick_base_ns);
                memory::store(&raw mut (*head).tick_ns, tick_ns);
            }
        }
    }

    /// Starts to add fronts for CPUs on which packets found none.
    pub(super) fn grow(&mut self) -> Result<()> {
        if !self.growth.is_due()? {
            return Ok(());
        }
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let (memory, source) = (Arc::clone(&self.memory), Arc::clone(&self.source));
        self.growth.start(move || {
            memory.add(missing.into_iter().map(|cpu| Ok((cpu, source.front(cpu)?))).collect::<Result<_>>()?)
        })
    }

    /// CPUs on which packets found no front.
    fn missing(&self) -> Vec<u32> {
        let created = self.memory.created();
        let is_missing = |cpu: &u32| {
            let head = self.heads.element(*cpu as usize);
            // SAFETY: in a mapped region; a word that the classifier only sets.
            unsafe { (&raw const (*head).is_front_missing).read_volatile() != 0 && !created.contains_key(cpu) }
        };
        (0..self.cpus.count()).filter(is_missing).collect()
    }

    /// Merges all counts of the fronts into the table. When this returns, no program holds an entry
    /// that it looked up before the call, and no front refers to an entry that was retiring.
    ///
    /// Every CPU that is online answers. One that came online during the call looked up nothing
    /// before it.
    pub(super) fn flush(&self) -> Result<()> {
        let online = self.cpus.online();
        online.iter().try_for_each(|cpu| self.flush_cpu(*cpu))?;
        let offline: Vec<u32> = self.memory.created().keys().copied().filter(|cpu| !online.contains(cpu)).collect();
        offline.into_iter().try_for_each(|cpu| self.flush_cpu(cpu))
    }

    /// As [`Fronts::flush`], if the fronts are used.
    pub(super) fn merge(&self) -> Result<()> {
        if self.are_used { self.flush() } else { Ok(()) }
    }

    /// Always flushes the first group: if that succeeds, the CPU is not counting a packet. Only
    /// then reads the bitmap.
    fn flush_cpu(&self, cpu: u32) -> Result<()> {
        self.flush_group(cpu, 0)?;
        let taken = self.memory.taken_groups(cpu);
        taken.into_iter().filter(|group| *group != 0).try_for_each(|group| self.flush_group(cpu, group))
    }

    fn flush_group(&self, cpu: u32, group: usize) -> Result<()> {
        for attempt in 0..MAX_TRIES + MAX_TRIES_WITH_PAUSE {
            match self.run_flush(cpu, group)? {
                flushed::DONE | flushed::NO_CPU => return Ok(()),
                _ if attempt < MAX_TRIES => std::thread::yield_now(),
                _ => std::thread::sleep(RETRY_PAUSE),
            }
        }
        Err(Error::other("flush the front of", format!("CPU {cpu}"), "timed out while the CPU counts a packet"))
    }

    /// Runs `flush` on the CPU. The front of an offline CPU is not used by anything else, so any
    /// CPU may flush it.
    fn run_flush(&self, cpu: u32, group: usize) -> Result<u32> {
        #[cfg(test)]
        self.tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let arguments = [u64::from(cpu), group as u64];
        match sys::run_on_cpu(self.program.as_fd(), &arguments, Some(cpu)) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => {
                sys::run_on_cpu(self.program.as_fd(), &arguments, None)
            }
            answer => answer,
        }
        .map_err(|cause| Error::os("flush the front of", format!("CPU {cpu}"), cause))
    }

    /// Kernel memory of the fronts, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory.created().len() as u64 * size_of::<Front>() as u64
    }

    /// CPUs that have a front, and the number of groups of its slots in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> Vec<(u32, usize)> {
        let cpus: Vec<u32> = self.memory.created().keys().copied().collect();
        cpus.into_iter().map(|cpu| (cpu, self.memory.taken_groups(cpu).len())).collect()
    }

    /// How often `flush` was run.
    #[cfg(test)]
    pub(super) fn tries(&self) -> u32 {
        self.tries.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether fronts are being added.
    #[cfg(test)]
    pub(super) fn is_growing(&self) -> bool {
        self.growth.is_running()
    }
}

impl Drop for Fronts {
    fn drop(&mut self) {
        if self.growth.is_running() {
            self.source.close();
        }
    }
}

/// Whether the running kernel is built with PREEMPT_RT, according to its version. Older real-time
/// kernels have a file instead, which mainline (Linux 6.12 and later) does not have.
pub fn is_realtime() -> bool {
    let file = std::fs::read_to_string("/sys/kernel/realtime");
    let version = nix::sys::utsname::uname();
    file.is_ok_and(|text| text.trim() == "1")
        || version.is_ok_and(|name| names_preempt_rt(&name.version().to_string_lossy()))
}

/// Whether a version, such as `#1 SMP PREEMPT_RT Debian …`, has the word that the kernel's build
/// writes (init/Makefile).
fn names_preempt_rt(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

#[cfg(test)]
mod tests {
    use super::names_preempt_rt;

    #[test]
    fn real_time_kernels_are_detected_by_their_version() {
        for (version, expected) in [
            ("#1 SMP PREEMPT_RT Debian 6.12.117-1~deb12u1 (2026-11-01)", true),
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-01)", false),
            ("#1 SMP PREEMPT @0", false),
            ("#1-NO_PREEMPT_RT SMP", false),
            ("", false),
        ] {
            assert_eq!(names_preempt_rt(version), expected, "{version}");
        }
    }
}
