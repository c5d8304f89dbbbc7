//! /proc/PID/stat (proc(5)): the one parser of it.

use std::fs;
use std::path::Path;

/// `PF_EXITING` (linux/sched.h).
const EXITING: u64 = 4;

/// The fields that netwatch uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStat {
    /// Field 2, the name, with bytes that are not UTF-8 replaced.
    pub comm: String,
    /// Field 3, the state: `T` if the process is stopped by a signal, `t` by a debugger, `Z` if it
    /// has exited and its parent has not waited for it.
    pub state: char,
    /// Field 4, the process id of the parent.
    pub parent: u32,
    /// Whether it has begun to exit: a flag in field 9.
    pub is_exiting: bool,
    /// Field 22, start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcStat {
    /// Of this process; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    /// Of the process or thread with this file; `None` if there is none.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read(path).ok()?)
    }

    /// The name may hold any byte, also spaces and brackets, so it ends at the last closing
    /// bracket.
    fn parse(stat: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(stat);
        let (head, fields) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        // The first of these is field 3.
        let state = fields.trim_ascii_start().chars().next()?;
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let is_exiting = field(9)? & EXITING != 0;
        Some(Self { comm, state, parent: u32::try_from(field(4)?).ok()?, is_exiting, start_ticks: field(22)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_fields_behind_a_hostile_name() {
        let stat = b"77 (a) \xff(b) S 42 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1234 5 6\n";
        let expected =
            ProcStat { comm: "a) \u{fffd}(b".into(), state: 'S', parent: 42, is_exiting: false, start_ticks: 1234 };
        assert_eq!(ProcStat::parse(stat), Some(expected));
        assert_eq!(ProcStat::parse(b"nonsense"), None);
    }

    #[test]
    fn finds_this_process_and_no_dead_one() {
        assert_eq!(ProcStat::of(std::process::id()).map(|stat| stat.parent), Some(std::os::unix::process::parent_id()));
        assert_eq!(ProcStat::of(u32::MAX), None);
    }
}
