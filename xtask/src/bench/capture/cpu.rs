//! CPU time of processes and of the whole machine.

use std::fs;

/// Clock ticks per second in /proc (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Seconds of CPU time until now.
#[derive(Debug, Clone, Copy)]
pub struct CpuSeconds {
    /// Of the processes of the capture.
    pub own: f64,
    /// Of everything, interrupts included.
    pub all: f64,
}

impl CpuSeconds {
    /// Reads both.
    pub fn read(processes: &[i32]) -> Self {
        Self { own: processes.iter().filter_map(|pid| of_process(*pid)).sum(), all: of_machine().unwrap_or(f64::NAN) }
    }

    /// The time since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self { own: self.own - earlier.own, all: self.all - earlier.all }
    }
}

/// Time of all threads of a process, as the scheduler measures it. The times in /proc/PID/stat
/// count ticks, which miss a process that runs shortly and often.
fn of_process(pid: i32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<f64>() / 1e9)
}

/// Time in which the CPUs were not idle.
fn of_machine() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq (proc_stat(5)).
    Some([0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum::<f64>() / TICKS)
}
