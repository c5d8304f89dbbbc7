//! The capabilities that a run needs, checked before anything is touched.

use std::fs;

use crate::error::{Error, Result};

/// Bit numbers of capability.h, with what each is for.
const NEEDED: [(u8, &str); 7] = [
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];

/// Refuses with the names of the capabilities that are missing.
pub(super) fn check() -> Result<()> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|error| Error::os("read", path, error))?;
    match missing(&status) {
        names if names.is_empty() => Ok(()),
        names => Err(Error::os("set up a run", "", std::io::Error::from_raw_os_error(libc::EPERM))
            .hint(format!("needs {}; run with sudo", names.join(", ")))),
    }
}

fn missing(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        assert!(missing("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing("CapEff:\t000001ffffffefff\n"), ["CAP_NET_ADMIN"]);
        assert_eq!(missing("CapEff:\t0000000000000000\n").len(), NEEDED.len());
    }
}
