//! The CPUs' fronts seen from user space: has them flushed into the table, and so knows that no program still holds an entry that it looked
//! up before.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netwatch_common::front::{Front, FrontHead, GROUPS};
use netwatch_common::stage::flushed;

use super::memory::{self, Region};
use super::sys;
use crate::error::{Error, Result};

/// How often a CPU that is counting a packet is asked again at once. Each takes under a microsecond, and a packet no longer.
const TRIES: u32 = 10_000;
/// And how often after a rest: with PREEMPT_RT other work may come first, for as long as it takes.
const PATIENT_TRIES: u32 = 10_000;
const REST: Duration = Duration::from_millis(1);

/// All fronts.
#[derive(Debug)]
pub(super) struct Fronts {
    /// Packets are counted in them.
    are_used: bool,
    program: OwnedFd,
    heads: Vec<Region<FrontHead>>,
}

impl Fronts {
    pub(super) fn new(are_used: bool, program: &OwnedFd, fronts: &OwnedFd, cpus: u32) -> Result<Self> {
        let program = program.try_clone().map_err(|cause| Error::os("duplicate", "a program's descriptor", cause))?;
        let head = |cpu: u32| Region::map_at(fronts, "FRONTS", 1, cpu as usize * size_of::<Front>());
        Ok(Self { are_used, program, heads: (0..cpus).map(head).collect::<Result<_>>()? })
    }

    /// Sets the clock that packets in the front are timed with.
    pub(super) fn set_tick(&self, tick_ns: u64, tick_base_ns: u64) {
        for head in self.heads.iter().map(|head| head.element(0)) {
            // SAFETY: in a region that we own; only this side writes them.
            unsafe {
                memory::store(&raw mut (*head).tick_base_ns, tick_base_ns);
                memory::store(&raw mut (*head).tick_ns, tick_ns);
            }
        }
    }

    /// Merges everything that the fronts hold into the table. When this returns, no program holds an entry that it had looked up when this was
    /// called, and fronts hold no entry that was retiring.
    pub(super) fn flush(&self) -> Result<()> {
        (0..self.heads.len() as u32).try_for_each(|cpu| self.flush_cpu(cpu))
    }

    /// [`Fronts::flush`] where there is something to merge.
    pub(super) fn merge(&self) -> Result<()> {
        if self.are_used { self.flush() } else { Ok(()) }
    }

    /// The first group is asked for always: that a CPU answers means that it is amid no packet. Only then the bitmap is looked at.
    fn flush_cpu(&self, cpu: u32) -> Result<()> {
        self.flush_group(cpu, 0)?;
        let installed = self.installed(cpu);
        for word in 0..GROUPS / 8 {
            // SAFETY: in a region that we own.
            let groups = unsafe { memory::load(installed.add(word)) }.to_ne_bytes();
            let taken = (word * 8..).zip(groups).filter(|&(group, bits)| group != 0 && bits != 0);
            taken.map(|(group, _)| group).try_for_each(|group| self.flush_group(cpu, group))?;
        }
        Ok(())
    }

    fn flush_group(&self, cpu: u32, group: usize) -> Result<()> {
        for attempt in 0..TRIES + PATIENT_TRIES {
            match self.ask(cpu, group)? {
                flushed::DONE | flushed::NO_CPU => return Ok(()),
                _ if attempt < TRIES => std::thread::yield_now(),
                _ => std::thread::sleep(REST),
            }
        }
        Err(Error::said("flush the front of", format!("CPU {cpu}"), "it does not stop counting a packet"))
    }

    fn installed(&self, cpu: u32) -> *mut u64 {
        let head = self.heads[cpu as usize].element(0);
        // SAFETY: in a region that we own; only the address is taken.
        unsafe { (&raw mut (*head).installed).cast() }
    }

    /// Of a CPU that is off nobody else uses the front: any CPU may flush it.
    fn ask(&self, cpu: u32, group: usize) -> Result<u32> {
        let arguments = [u64::from(cpu), group as u64];
        match sys::run_on_cpu(self.program.as_fd(), &arguments, Some(cpu)) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => {
                sys::run_on_cpu(self.program.as_fd(), &arguments, None)
            }
            answer => answer,
        }
        .map_err(|cause| Error::os("flush the front of", format!("CPU {cpu}"), cause))
    }
}
