//! A mount by which the processes of a run are known, in whatever session, cgroup or further namespace they are: of use when netwatch and its
//! guardian, who know them by their parents, were killed together and there was no cgroup either.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::bind::bind;
use super::mountinfo;
use crate::error::{Error, Result};
use crate::pidfd;

/// How long killed processes may take to be gone: one in uninterruptible sleep takes its time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lays the run's private directory over itself. Every mount namespace that is made from the command's inherits that, and nobody who joins the
/// network namespace only has it.
pub(super) fn mark(private: &Path) -> Result<()> {
    bind(private, private).map_err(|errno| Error::os("mark", "the command's mount namespace", errno))
}

/// Ends, with SIGKILL, every process with that mark. Not one that has left for a root directory without it (chroot, pivot_root).
pub fn end_processes(private: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = marked(private);
        if found.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(Error::other(
                "end processes of",
                private.display().to_string(),
                "some are still there after 2 seconds",
            ));
        }
        for pid in found {
            pidfd::kill_if(pid, || is_marked(pid, private))
                .map_err(|error| Error::os("end process", pid.to_string(), error))?;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Those but the caller. What ends while we look is one less to find.
fn marked(private: &Path) -> Vec<i32> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Most processes share our mount namespace, and a link is read faster than a list of mounts.
    let elsewhere = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|link| Some(link) != own);
    let others = pids.filter(|pid| *pid != std::process::id().cast_signed());
    others.filter(elsewhere).filter(|pid| is_marked(*pid, private)).collect()
}

fn is_marked(pid: i32, private: &Path) -> bool {
    let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mountinfo::at(&mountinfo::parse(&mounts), private).is_some()
}
