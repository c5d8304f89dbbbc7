//! The fronts: memory for each CPU in use, and flushing them into the flow table. After a flush, no
//! program holds an entry that it looked up before.
//!
//! A machine may have few CPUs and many possible ones (hotplug), so fronts exist only for CPUs up
//! to the highest that is online at the load. The packets of another CPU take the long path.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use netwatch_common::front::{FrontHead, GROUPS};
use netwatch_common::stage::flushed;

use super::cpus::Cpus;
use super::memory::{self, Region};
use super::object::Loaded;
use super::sys;
use crate::error::{Error, Result};

/// Maximum number of immediate retries on a CPU that is counting a packet. A try takes under a
/// microsecond, and so does a packet.
pub(super) const MAX_TRIES: u32 = 10_000;
/// Maximum number of further retries with a pause: with PREEMPT_RT, other work may preempt the
/// packet for a long time.
const MAX_TRIES_WITH_PAUSE: u32 = 10_000;
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// A group of slots in the front of a CPU.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FrontGroup {
    cpu: u32,
    group: usize,
}

/// All fronts.
#[derive(Debug)]
pub(super) struct Fronts {
    /// Whether packets are counted in the fronts.
    are_used: bool,
    cpus: Cpus,
    program: OwnedFd,
    heads: Region<FrontHead>,
    /// The elements of the INSTALLED map, in words.
    installed: Region<u64>,
    #[cfg(test)]
    tries: std::sync::atomic::AtomicU32,
}

/// Words of one element of the INSTALLED map.
const INSTALLED_WORDS: usize = GROUPS / 8;

impl Fronts {
    /// The maps are those of the classifier, with `count` fronts.
    pub(super) fn new(are_used: bool, cpus: Cpus, count: u32, loaded: &Loaded) -> Result<Self> {
        let program = loaded.program("flush").try_clone();
        Ok(Self {
            are_used,
            program: program.map_err(|cause| Error::os("duplicate", "a file descriptor", cause))?,
            heads: Region::map(loaded.map("HEADS"), "HEADS", cpus.count() as usize)?,
            installed: Region::map(loaded.map("INSTALLED"), "INSTALLED", count as usize * INSTALLED_WORDS)?,
            cpus,
            #[cfg(test)]
            tries: std::sync::atomic::AtomicU32::new(0),
        })
    }

    /// Number of fronts: the CPUs below this number have one.
    fn count(&self) -> u32 {
        (self.installed.len() / INSTALLED_WORDS) as u32
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

    /// Merges all counts of the fronts into the table. When this returns, no program holds an entry
    /// that it looked up before the call, and no front refers to an entry that was retiring.
    ///
    /// Every CPU that is online answers. One that came online during the call looked up nothing
    /// before it.
    pub(super) fn flush(&self) -> Result<()> {
        let online = self.cpus.online();
        online.iter().try_for_each(|cpu| self.flush_cpu(*cpu))?;
        (0..self.count()).filter(|cpu| !online.contains(cpu)).try_for_each(|cpu| self.flush_cpu(cpu))
    }

    /// As [`Fronts::flush`], if the fronts are used.
    pub(super) fn merge(&self) -> Result<()> {
        if self.are_used { self.flush() } else { Ok(()) }
    }

    /// Merges groups of the fronts into the table, from `from` on, until `deadline`, but at least
    /// one. Returns where to continue.
    pub(super) fn merge_part(&self, from: FrontGroup, deadline: Instant) -> Result<Option<FrontGroup>> {
        let cpus = if self.are_used { from.cpu..self.count() } else { 0..0 };
        for cpu in cpus {
            let first = if cpu == from.cpu { from.group } else { 0 };
            for group in self.taken_groups(cpu).into_iter().filter(|group| *group >= first) {
                self.flush_group(cpu, group)?;
                if Instant::now() >= deadline {
                    return Ok(Some(FrontGroup { cpu, group: group + 1 }));
                }
            }
        }
        Ok(None)
    }

    /// Always flushes the first group: if that succeeds, the CPU is not counting a packet. Only
    /// then reads the bitmap.
    fn flush_cpu(&self, cpu: u32) -> Result<()> {
        self.flush_group(cpu, 0)?;
        let taken = self.taken_groups(cpu);
        taken.into_iter().filter(|group| *group != 0).try_for_each(|group| self.flush_group(cpu, group))
    }

    /// Groups of a CPU's front that may hold a flow.
    fn taken_groups(&self, cpu: u32) -> Vec<usize> {
        let mut taken = Vec::new();
        let words = if cpu < self.count() { INSTALLED_WORDS } else { 0 };
        for word in 0..words {
            // SAFETY: in a mapped region.
            let groups = unsafe { memory::load(self.installed.element(cpu as usize * words + word)) }.to_ne_bytes();
            taken.extend((word * 8..).zip(groups).filter(|(_, bits)| *bits != 0).map(|(group, _)| group));
        }
        taken
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

    /// The number of groups in use of each front.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> Vec<usize> {
        (0..self.count()).map(|cpu| self.taken_groups(cpu).len()).collect()
    }

    /// How often `flush` was run.
    #[cfg(test)]
    pub(super) fn tries(&self) -> u32 {
        self.tries.load(std::sync::atomic::Ordering::Relaxed)
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
