//! The CPU that a thread runs on, and its CPU time.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Result;

/// The calling thread.
const ME: Pid = Pid::from_raw(0);

/// CPUs this process may use, in ascending order.
pub fn available() -> Result<Vec<usize>> {
    let all = sched_getaffinity(ME).map_err(failed)?;
    Ok((0..CpuSet::count()).filter(|cpu| all.is_set(*cpu) == Ok(true)).collect())
}

/// Keeps the calling thread on these CPUs.
pub fn stay_on(cpus: &[usize]) -> Result {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu)).map_err(failed)?;
    sched_setaffinity(ME, &set).map_err(failed)
}

/// Runs `work` on the last CPU, which has the fewest interrupts, and permits all CPUs again.
pub fn pinned(work: impl FnOnce() -> Result) -> Result {
    let all = available()?;
    stay_on(all.last().map_or(&[][..], std::slice::from_ref))?;
    let done = work();
    stay_on(&all)?;
    done
}

/// CPU time of the calling thread, which stops while other processes use the CPU.
pub fn time() -> Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|error| format!("cannot read the clock: {error}"))?;
    Ok(Duration::new(time.tv_sec().unsigned_abs(), time.tv_nsec() as u32))
}

fn failed(error: nix::Error) -> String {
    format!("cannot choose a CPU: {error}")
}
