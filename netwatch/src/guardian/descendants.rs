//! Finds and kills the descendants of a process, including orphans.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use crate::proc::stat::ProcStat;

/// Pause between two rounds of SIGKILL.
const KILL_INTERVAL: Duration = Duration::from_millis(1);

/// All descendants of `ancestor`, by the parent field of /proc/PID/stat. Orphans of a subreaper's
/// descendants are its children.
fn of(ancestor: Pid) -> Vec<Pid> {
    if ancestor == getpid() && !has_child() {
        return Vec::new();
    }
    let children = children_by_parent();
    let mut found = Vec::new();
    let mut open = vec![ancestor.as_raw()];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            found.push(Pid::from_raw(*child));
            open.push(*child);
        }
    }
    found
}

/// Whether this process has a child, zombies included. A subreaper without one has no descendant,
/// which spares reading the whole of /proc at the end of nearly every run.
fn has_child() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

fn children_by_parent() -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that exits meanwhile need not be found.
        if let Some(stat) = ProcStat::of(pid.cast_unsigned()) {
            children.entry(stat.parent.cast_signed()).or_default().push(pid);
        }
    }
    children
}

/// Sends `signal` to every descendant of `ancestor`; returns their number.
pub(super) fn signal_all(ancestor: Pid, signal: Signal) -> usize {
    let found = of(ancestor);
    for pid in &found {
        // ESRCH: it has just exited.
        let _ = kill(*pid, signal);
    }
    found.len()
}

/// Kills all descendants of this process until there are none. netwatch itself uses it when its
/// guardian was killed.
pub fn kill_descendants_of(ancestor: Pid) {
    while signal_all(ancestor, Signal::SIGKILL) > 0 {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some()) {}
        thread::sleep(KILL_INTERVAL);
    }
}
