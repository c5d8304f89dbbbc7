//! Finds and ends the descendants of a process, those that are nobody's children any more included.

use std::collections::HashMap;
use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use crate::target::environment::parent_in_stat;

/// All descendants of `ancestor`, by the parent field of /proc/PID/stat. A subreaper is the ancestor of its orphans too.
pub(super) fn of(ancestor: Pid) -> Vec<Pid> {
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

/// Whether this process has a child, dead ones included that it has not waited for. A subreaper without one has no descendant: spares reading
/// the whole of /proc at the end of nearly every run.
fn has_child() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

fn children_by_parent() -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that ends while we look is one less to find.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_in_stat(&stat) {
            children.entry(parent as i32).or_default().push(pid);
        }
    }
    children
}

/// Sends `signal` to every descendant of `ancestor`; returns how many there were.
pub(super) fn signal_all(ancestor: Pid, signal: Signal) -> usize {
    let found = of(ancestor);
    for pid in &found {
        // ESRCH: it has just ended.
        let _ = kill(*pid, signal);
    }
    found.len()
}

/// Kills all descendants of this process until there are none. For netwatch itself, should its guardian have been killed.
pub fn kill_all_of(ancestor: Pid) {
    while signal_all(ancestor, Signal::SIGKILL) > 0 {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some()) {}
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
