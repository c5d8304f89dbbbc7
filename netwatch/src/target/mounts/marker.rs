//! A mount that marks the processes of a run, whatever session, cgroup or namespace they move to.
//! It is needed if the run had no cgroup, and netwatch and its guardian, which find processes by
//! their parents, were both killed.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::bind;
use crate::error::{Error, Result};
use crate::pidfd;
use crate::proc::mountinfo;

/// How long killed processes may take to exit: one in uninterruptible sleep exits only after it
/// wakes.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Mounts the run's private directory on itself. Every mount namespace that is made from the
/// target's inherits that mount; a process that joins only the network namespace does not have it.
pub(super) fn mark(private: &Path) -> Result<()> {
    bind(private, private).map_err(|errno| Error::os("mark", "the command's mount namespace", errno))
}

/// Kills every marked process. Does not find a process that changed its root directory (chroot,
/// pivot_root) to one without the mark.
pub fn end_processes(private: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = marked(private);
        if found.is_empty() {
            return Ok(());
        }
        if started.elapsed() > KILL_TIMEOUT {
            return Err(Error::other(
                "end processes of",
                private.display().to_string(),
                "some are still alive after 2 seconds",
            ));
        }
        for pid in found {
            pidfd::kill_if(pid, || is_marked(pid, private))
                .map_err(|error| Error::os("end process", pid.to_string(), error))?;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The marked processes except the caller. A process that exits meanwhile may be missing.
fn marked(private: &Path) -> Vec<i32> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Most processes share the caller's mount namespace, and reading a link is faster than reading
    // a list of mounts.
    let elsewhere = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|link| Some(link) != own);
    let others = pids.filter(|pid| *pid != std::process::id().cast_signed());
    others.filter(elsewhere).filter(|pid| is_marked(*pid, private)).collect()
}

fn is_marked(pid: i32, private: &Path) -> bool {
    let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mountinfo::at(&mountinfo::parse(&mounts), private).is_some()
}
