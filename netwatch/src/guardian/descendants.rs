//! Finds and signals the descendants of a process, including orphans. A signal only reaches a
//! process that is a descendant while its pidfd is held, because another process may reuse the pid
//! of one that has exited.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use crate::host::cgroup;
use crate::pidfd;
use crate::proc::stat::ProcStat;

/// Pause between two rounds of SIGKILL.
const KILL_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum number of searches for processes to stop in one round of SIGKILL. Each finds those that
/// were forked during the one before; the next round continues.
const MAX_STOP_SEARCHES: usize = 16;

/// All descendants of `ancestor`, by the parent field of /proc/PID/stat. Orphans of a subreaper's
/// descendants are its children.
fn descendants_of(ancestor: Pid) -> Vec<Pid> {
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

/// Whether the process is a descendant now. Each parent is read again after its own parent: if it
/// is still the parent then, it existed meanwhile, so its pid was not reused.
fn is_descendant(pid: Pid, ancestor: Pid, parent_of: impl Fn(i32) -> Option<i32>) -> bool {
    let mut child = pid.as_raw();
    let Some(mut parent) = parent_of(child) else { return false };
    loop {
        if parent == ancestor.as_raw() {
            return true;
        }
        let Some(grandparent) = parent_of(parent).filter(|pid| *pid > 0) else { return false };
        match parent_of(child) {
            Some(still) if still == parent => (child, parent) = (parent, grandparent),
            // It became an orphan meanwhile.
            Some(adopter) => parent = adopter,
            None => return false,
        }
    }
}

fn parent(pid: i32) -> Option<i32> {
    Some(ProcStat::of(pid.cast_unsigned())?.parent.cast_signed())
}

/// Sends `signal` to every descendant of `ancestor`; returns their number.
pub(super) fn signal_all(ancestor: Pid, signal: Signal) -> usize {
    let found = descendants_of(ancestor);
    found.iter().for_each(|pid| send(*pid, ancestor, signal));
    found.len()
}

fn send(pid: Pid, ancestor: Pid, signal: Signal) {
    // A process that cannot be signalled is found again by the next round.
    let _ = pidfd::signal_if(pid.as_raw(), signal as i32, || is_descendant(pid, ancestor, parent));
}

/// One round of SIGKILL: the whole cgroup of the run at once, if it has one, and every descendant
/// of `ancestor` wherever it is. Returns the number of descendants that were found.
pub(super) fn kill_round(ancestor: Pid, cgroup: Option<&Path>) -> usize {
    // Without cgroup.kill (Linux 5.14), and outside the cgroup, the others are stopped first.
    if cgroup.is_some_and(|path| cgroup::kill_once(path).is_err()) || cgroup.is_none() {
        stop_all(ancestor);
    }
    signal_all(ancestor, Signal::SIGKILL)
}

/// Stops every descendant before any is killed: processes that fork faster than they are killed one
/// by one would never be gone.
fn stop_all(ancestor: Pid) {
    let mut stopped = HashSet::new();
    for _ in 0..MAX_STOP_SEARCHES {
        let new: Vec<Pid> = descendants_of(ancestor).into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        new.iter().for_each(|pid| send(*pid, ancestor, Signal::SIGSTOP));
    }
}

/// Kills all descendants of this process until there are none. netwatch itself uses it when its
/// guardian was killed.
pub fn kill_descendants_of(ancestor: Pid, cgroup: Option<&Path>) {
    while kill_round(ancestor, cgroup) > 0 {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some()) {}
        thread::sleep(KILL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    /// The answers to successive questions for the parents of these pids.
    fn descends(pid: i32, ancestor: i32, answers: &[(i32, Option<i32>)]) -> bool {
        let next = Cell::new(0);
        is_descendant(Pid::from_raw(pid), Pid::from_raw(ancestor), |asked| {
            let (of, answer) = answers[next.replace(next.get() + 1)];
            assert_eq!(asked, of, "question {}", next.get());
            answer
        })
    }

    #[test]
    fn follows_the_parents() {
        assert!(descends(5, 2, &[(5, Some(2))]));
        assert!(descends(5, 2, &[(5, Some(4)), (4, Some(2)), (5, Some(4))]));
        assert!(!descends(5, 2, &[(5, Some(1)), (1, Some(0))]));
        assert!(!descends(5, 2, &[(5, None)]));
    }

    #[test]
    fn a_reused_pid_among_the_parents_does_not_matter() {
        // 5 is a stranger. Its parent 4 exits, and a child of 2 gets the pid 4.
        assert!(!descends(5, 2, &[(5, Some(4)), (4, Some(2)), (5, Some(1)), (1, Some(0))]));
        // 5 is ours. Its parent 4 exits, and a stranger gets the pid 4.
        assert!(descends(5, 2, &[(5, Some(4)), (4, Some(1)), (5, Some(2))]));
    }

    #[test]
    fn signals_descendants_and_no_other_process() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let mut child = Command::new("sh").args(["-c", "sleep 60 & echo; wait"]).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        while descendants_of(pid).is_empty() {
            thread::yield_now();
        }
        send(Pid::from_raw(stranger.id() as i32), pid, Signal::SIGKILL);
        assert_eq!(signal_all(pid, Signal::SIGKILL), 1);
        assert!(child.wait().unwrap().success(), "not a descendant of itself");
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
