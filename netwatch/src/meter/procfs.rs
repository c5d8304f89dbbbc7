//! Reads details of processes and local sockets from /proc, if an event does not contain them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Seek};

use nix::unistd::{SysconfVar, sysconf};

use super::clock::{self, Clock};
use super::local_path;
use crate::proc::stat::ProcStat;
use crate::process::{Image, LiveProcess, Origin, SystemView};

/// Reads /proc.
#[derive(Debug, Default)]
pub(super) struct ProcFs {
    /// Whether to read the arguments of processes.
    pub cmdline: bool,
    /// /proc/net/unix of the namespace. Opened at the start, because a process that requested a
    /// socket may have ended when its event is read.
    pub unix: Option<File>,
    /// Local sockets that were looked up since the last poll.
    pub looked_up: LocalSockets,
}

#[derive(Debug, Default)]
pub(super) struct LocalSockets {
    /// The abstract names that exist.
    names: Option<HashSet<String>>,
    /// Whether a path of a process leads to a socket.
    paths: HashMap<(u32, String), Option<bool>>,
}

impl ProcFs {
    /// Looks local sockets up again, each at most once until the next poll.
    pub fn begin_poll(&mut self) {
        self.looked_up = LocalSockets::default();
    }
}

impl SystemView for ProcFs {
    fn process(&mut self, pid: u32) -> Option<LiveProcess> {
        let folder = format!("/proc/{pid}");
        let ProcStat { comm, parent, start_ticks, .. } = ProcStat::of(pid)?;
        let origin = Origin { start_ns: unix_ns(start_ticks)?, ppid: parent, maker: 0 };
        let exe = fs::read_link(format!("{folder}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
        let arguments = self.cmdline.then(|| fs::read(format!("{folder}/cmdline")).ok()).flatten();
        let is_unreadable = exe.is_none() || self.cmdline && arguments.is_none();
        let (cmdline, cmdline_cut) = arguments.map_or((None, false), |bytes| arguments_of(&bytes));
        Some(LiveProcess { origin, image: Image { comm, exe, cmdline, cmdline_cut, is_unreadable } })
    }

    fn is_bound(&mut self, name: &str) -> Option<bool> {
        if self.looked_up.names.is_none() {
            let file = self.unix.as_mut()?;
            let mut table = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut table)).ok()?;
            self.looked_up.names = Some(abstract_names(&table).collect());
        }
        // Names may end in zero bytes, which the kernel displays as `@`.
        self.looked_up.names.as_ref().map(|names| names.contains(name.trim_end_matches('@')))
    }

    fn has_socket(&mut self, pid: u32, path: &str) -> Option<bool> {
        let key = (pid, path.to_owned());
        *self.looked_up.paths.entry(key).or_insert_with(|| local_path::has_socket(pid, path))
    }
}

/// The abstract names in /proc/net/unix (proc(5)): the rest of a line after seven columns and a
/// space. A name may contain spaces, and bytes that are not UTF-8, which events replace in the same
/// way.
fn abstract_names(table: &[u8]) -> impl Iterator<Item = String> {
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let mut rest = line;
        for _ in 0..7 {
            let column = rest.trim_ascii_start();
            rest = &column[column.iter().position(|byte| *byte == b' ')?..];
        }
        let name = rest.strip_prefix(b" ").filter(|name| name.starts_with(b"@"))?;
        Some(String::from_utf8_lossy(name).trim_end_matches('@').to_owned())
    })
}

/// Splits the arguments, of which it keeps as many bytes as an exec event contains. Returns whether
/// they were cut.
fn arguments_of(bytes: &[u8]) -> (Option<Vec<String>>, bool) {
    const MAX_BYTES: usize = 1024;
    let kept = &bytes[..bytes.len().min(MAX_BYTES)];
    let words = kept.strip_suffix(&[0]).unwrap_or(kept).split(|byte| *byte == 0);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    ((!kept.is_empty()).then_some(words), bytes.len() > MAX_BYTES)
}

/// Converts clock ticks since boot to nanoseconds since the Unix epoch.
fn unix_ns(ticks: u64) -> Option<u64> {
    let ticks_per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot_ns = clock::kernel_ns_of_proc(ticks * (1_000_000_000 / ticks_per_second));
    Some(Clock::of_process().unix_ns(boot_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_live_process_is_found_and_a_dead_one_is_not() {
        let mut proc_fs = ProcFs { cmdline: true, ..ProcFs::default() };
        let found = proc_fs.process(std::process::id()).expect("alive");
        assert_eq!(found.image.cmdline, Some(std::env::args().collect()));
        assert_eq!(found.origin.ppid, std::os::unix::process::parent_id());
        assert_eq!(found.image.exe.map(Into::into), std::env::current_exe().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        assert!(found.origin.start_ns < now && found.origin.start_ns > now - 3_600_000_000_000);
        assert_eq!(proc_fs.process(u32::MAX), None);
    }

    #[test]
    fn looks_up_abstract_names_in_the_namespace() {
        let mut proc_fs = ProcFs { unix: File::open("/proc/self/net/unix").ok(), ..ProcFs::default() };
        let mut name = format!("netwatch-test {} ", std::process::id()).into_bytes();
        name.extend([0xff, b'x', 0, 0]);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("bound");
        // As in an event.
        let expected = format!("@{}", String::from_utf8_lossy(&name).trim_end_matches('\0'));
        assert_eq!(proc_fs.is_bound(&expected), Some(true));
        drop(listener);
        assert_eq!(proc_fs.is_bound(&expected), Some(true), "the names are read once");
        proc_fs.begin_poll();
        assert_eq!(proc_fs.is_bound(&expected), Some(false));
    }

    #[test]
    fn a_path_is_looked_up_once_per_poll() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock").to_str().expect("text").to_owned();
        let _listener = UnixListener::bind(&path).expect("bound");
        let (mut proc_fs, own) = (ProcFs::default(), std::process::id());
        assert_eq!(proc_fs.has_socket(own, &path), Some(true));
        fs::remove_file(&path).expect("removed");
        // As a process that connects, which caches that there is nothing.
        assert!(fs::metadata(&path).is_err());
        assert_eq!(proc_fs.has_socket(own, &path), Some(true), "it is kept");
        proc_fs.begin_poll();
        assert_eq!(proc_fs.has_socket(own, &path), Some(false));
    }
}
