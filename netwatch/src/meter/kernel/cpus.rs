//! The CPUs of the machine, by number, as the kernel lists them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// CPUs that the kernel may ever use: their numbers are below the size of its arrays.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
/// CPUs that are running. Changes by hotplug.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The lists of CPUs.
#[derive(Debug)]
pub(super) struct Cpus {
    /// The highest number of a possible CPU plus one.
    count: u32,
    online: Option<File>,
}

impl Cpus {
    pub(super) fn of_this_machine() -> Result<Self> {
        let text = fs::read_to_string(POSSIBLE).map_err(|cause| Error::os("read", POSSIBLE, cause))?;
        let possible = parse_list(&text).ok_or_else(|| Error::other("read", POSSIBLE, "not a list of CPUs"))?;
        let count = possible.last().map_or(1, |last| last + 1);
        Ok(Self { count, online: File::open(ONLINE).ok() })
    }

    /// The CPUs of a machine that has this many possible ones.
    #[cfg(test)]
    pub(super) fn with_possible(count: u32) -> Self {
        Self { count, ..Self::of_this_machine().expect("readable") }
    }

    /// The highest number of a possible CPU plus one.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The CPUs that are online, in ascending order: all that process packets now. A CPU that is
    /// missing here was started after the call began. If the list is not available, every CPU may
    /// be online.
    pub(super) fn online(&self) -> Vec<u32> {
        let read = |file: &File| {
            // Enough for 8192 CPUs of which every second one is online.
            let mut text = vec![0; 64 << 10];
            let length = file.read_at(&mut text, 0).ok()?;
            parse_list(std::str::from_utf8(&text[..length]).ok()?)
        };
        self.online.as_ref().and_then(read).unwrap_or_else(|| (0..self.count).collect())
    }
}

/// Parses a list such as `0-3,8`: ranges in ascending order.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in text.trim_end().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > u32::from(u16::MAX) || cpus.last().is_some_and(|before| *before >= first) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_parsed() {
        for (text, expected) in [
            ("0\n", Some(vec![0])),
            ("0-3\n", Some(vec![0, 1, 2, 3])),
            ("0,2-3,8-9\n", Some(vec![0, 2, 3, 8, 9])),
            ("", None),
            ("\n", None),
            ("3-1", None),
            ("0,0", None),
            ("0-", None),
            ("all", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(parse_list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn online_cpus_are_possible_ones() {
        let cpus = Cpus::of_this_machine().expect("readable");
        let online = cpus.online();
        assert!(!online.is_empty() && online.iter().all(|cpu| *cpu < cpus.count()), "{online:?} of {}", cpus.count());
        let unknown = Cpus { count: 3, online: None };
        assert_eq!(unknown.online(), [0, 1, 2], "without the list, every CPU may be online");
    }
}
