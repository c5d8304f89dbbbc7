//! Continues a stopped process that holds the lock of all runs. No process can block SIGSTOP, and
//! every other run would wait for this one. After it has released the lock, it is stopped again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::pidfd;
use crate::proc::stat::ProcStat;

/// A process that was continued.
#[derive(Debug)]
pub(super) struct ContinuedHolder {
    pid: i32,
    start_ticks: u64,
}

impl ContinuedHolder {
    /// Stops the process again. The caller holds the lock by now.
    pub(super) fn stop_again(&self) {
        let is_same = || stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks);
        // After a failure it keeps running, which blocks no other run.
        let _ = pidfd::signal_if(self.pid, libc::SIGSTOP, is_same);
    }
}

/// Continues the process that holds the lock on this file, if a signal has stopped it.
pub(super) fn continue_stopped(lock: &File) -> Option<ContinuedHolder> {
    let pid = holder(lock)?;
    let start_ticks = stat(pid)?.start_ticks;
    let is_stopped = || {
        let is_stopped = stat(pid).is_some_and(|stat| stat.state == 'T' && stat.start_ticks == start_ticks);
        is_stopped && holder(lock) == Some(pid)
    };
    let is_continued = pidfd::signal_if(pid, libc::SIGCONT, is_stopped).ok()?;
    is_continued.then_some(ContinuedHolder { pid, start_ticks })
}

fn stat(pid: i32) -> Option<ProcStat> {
    ProcStat::of(pid.cast_unsigned())
}

/// The process that holds the lock on this file, from /proc/locks.
fn holder(lock: &File) -> Option<i32> {
    let data = lock.metadata().ok()?;
    let (major, minor) = (nix::sys::stat::major(data.dev()), nix::sys::stat::minor(data.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", data.ino());
    fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| pid_of(line, &file))
}

/// The process in a line of /proc/locks (proc(5)), if it holds a lock of flock(2) on this file:
/// `1: FLOCK ADVISORY WRITE 1234 00:1a:5678 0 EOF`. A process that waits for one has `->` in its
/// second column.
fn pid_of(line: &str, file: &str) -> Option<i32> {
    match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
        [_, "FLOCK", _, "WRITE", pid, of, ..] if *of == file => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    #[test]
    fn parses_the_holder_and_not_those_that_wait() {
        let file = "00:1a:5678";
        assert_eq!(pid_of("1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF", file), Some(1234));
        assert_eq!(pid_of("1: -> FLOCK  ADVISORY  WRITE 1235 00:1a:5678 0 EOF", file), None);
        assert_eq!(pid_of("2: FLOCK  ADVISORY  WRITE 1236 00:1a:56 0 EOF", file), None);
        assert_eq!(pid_of("3: POSIX  ADVISORY  WRITE 1237 00:1a:5678 0 EOF", file), None);
        assert_eq!(pid_of("4: FLOCK  ADVISORY  WRITE 0 00:1a:5678 0 EOF", file), None, "in another pid namespace");
    }

    fn is_stopped(pid: i32) -> bool {
        stat(pid).is_some_and(|stat| stat.state == 'T')
    }

    #[test]
    fn continues_a_stopped_holder_and_stops_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = File::create(&path).unwrap();
        let mut command = Command::new("flock");
        command.arg(&path).args(["sh", "-c", "echo locked; read -r _"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = holder(&lock).unwrap();
        assert_eq!(pid, child.id() as i32);
        assert!(continue_stopped(&lock).is_none(), "it runs");
        pidfd::signal_if(pid, libc::SIGSTOP, || true).unwrap();
        while !is_stopped(pid) {
            thread::yield_now();
        }
        let continued = continue_stopped(&lock).expect("it was stopped");
        while is_stopped(pid) {
            thread::yield_now();
        }
        continued.stop_again();
        while !is_stopped(pid) {
            thread::yield_now();
        }
        pidfd::signal_if(pid, libc::SIGCONT, || true).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(holder(&lock).is_none());
    }
}
