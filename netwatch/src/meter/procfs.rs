//! What /proc shows of processes and local sockets, for events that do not carry it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::process::{Image, LiveProcess, Origin, SystemView};

/// Reads /proc.
#[derive(Debug, Default)]
pub(super) struct ProcFs {
    /// Whether arguments are wanted.
    pub cmdline: bool,
    /// The namespace's unix sockets: a process that asked for one may be gone when its event is
    /// heard of.
    pub unix: Option<File>,
    /// The abstract names that are there, once they were asked for: read at most once for all
    /// events of one fetch.
    pub names: Option<HashSet<String>>,
}

impl SystemView for ProcFs {
    fn process(&mut self, pid: u32) -> Option<LiveProcess> {
        let folder = format!("/proc/{pid}");
        let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
        let (name, fields) = stat.rsplit_once(')')?;
        let comm = name.split_once('(')?.1.to_owned();
        // The first of these is the third of all (proc(5)).
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let origin = Origin { start_ns: unix_ns(field(22)?)?, ppid: u32::try_from(field(4)?).ok()?, maker: 0 };
        let exe = fs::read_link(format!("{folder}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
        let arguments = self.cmdline.then(|| fs::read(format!("{folder}/cmdline")).ok()).flatten();
        let is_unreadable = exe.is_none() || self.cmdline && arguments.is_none();
        let (cmdline, cmdline_cut) = arguments.map_or((None, false), |bytes| arguments_of(&bytes));
        Some(LiveProcess { origin, image: Image { comm, exe, cmdline, cmdline_cut, is_unreadable } })
    }

    fn is_bound(&mut self, name: &str) -> Option<bool> {
        if self.names.is_none() {
            let file = self.unix.as_mut()?;
            let mut table = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut table)).ok()?;
            self.names = Some(abstract_names(&table).collect());
        }
        // Names may end in zeros, which the kernel shows as `@`.
        self.names.as_ref().map(|names| names.contains(name.trim_end_matches('@')))
    }
}

/// The abstract names in /proc/net/unix (proc(5)): what follows seven columns and a space, to the
/// end of the line. A name may hold spaces, and bytes that are no text, which events replace in the
/// same way.
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

/// As many bytes as an exec tells.
fn arguments_of(bytes: &[u8]) -> (Option<Vec<String>>, bool) {
    const KEPT: usize = 1024;
    let kept = &bytes[..bytes.len().min(KEPT)];
    let words = kept.strip_suffix(&[0]).unwrap_or(kept).split(|byte| *byte == 0);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    ((!kept.is_empty()).then_some(words), bytes.len() > KEPT)
}

/// Clock ticks since the machine started, in nanoseconds since the Unix epoch.
fn unix_ns(ticks: u64) -> Option<u64> {
    let read = |clock: ClockId| clock_gettime(clock).ok().map(|time| Duration::from(time).as_nanos() as u64);
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot = read(ClockId::CLOCK_REALTIME)? - read(ClockId::CLOCK_BOOTTIME)?;
    Some(boot + ticks * (1_000_000_000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_living_process_is_found_and_a_dead_one_is_not() {
        let mut look = ProcFs { cmdline: true, ..ProcFs::default() };
        let found = look.process(std::process::id()).expect("alive");
        assert_eq!(found.image.cmdline, Some(std::env::args().collect()));
        assert_eq!(found.origin.ppid, std::os::unix::process::parent_id());
        assert_eq!(found.image.exe.map(Into::into), std::env::current_exe().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        assert!(found.origin.start_ns < now && found.origin.start_ns > now - 3_600_000_000_000);
        assert_eq!(look.process(u32::MAX), None);
    }

    #[test]
    fn abstract_names_are_looked_up_in_the_namespace() {
        let mut look = ProcFs { unix: File::open("/proc/self/net/unix").ok(), ..ProcFs::default() };
        let mut name = format!("netwatch-test {} ", std::process::id()).into_bytes();
        name.extend([0xff, b'x', 0, 0]);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("bound");
        // As an event tells it.
        let told = format!("@{}", String::from_utf8_lossy(&name).trim_end_matches('\0'));
        assert_eq!(look.is_bound(&told), Some(true));
        drop(listener);
        assert_eq!(look.is_bound(&told), Some(true), "read once");
        look.names = None;
        assert_eq!(look.is_bound(&told), Some(false));
    }
}
