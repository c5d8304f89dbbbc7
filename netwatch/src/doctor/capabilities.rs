//! The capabilities that a run needs, by name.

use super::Finding;
use crate::error::{Error, Result};

const STATUS: &str = "/proc/self/status";
const SYS_ADMIN: u32 = 21;

/// A bit number of capability.h, with what it is needed for.
struct Needed {
    number: u32,
    name: &'static str,
    /// One that includes it (capabilities(7)).
    or: Option<u32>,
}

const fn needed(number: u32, name: &'static str, or: Option<u32>) -> Needed {
    Needed { number, name, or }
}

const NEEDED: [Needed; 10] = [
    // The classifier.
    needed(39, "CAP_BPF", Some(SYS_ADMIN)),
    needed(38, "CAP_PERFMON", Some(SYS_ADMIN)),
    needed(12, "CAP_NET_ADMIN", None),
    // Namespaces, and into the command's mount namespace.
    needed(SYS_ADMIN, "CAP_SYS_ADMIN", None),
    needed(18, "CAP_SYS_CHROOT", None),
    // DNS on the gateway's port 53.
    needed(10, "CAP_NET_BIND_SERVICE", None),
    // The command's user, and the end of its processes and files.
    needed(7, "CAP_SETUID", None),
    needed(6, "CAP_SETGID", None),
    needed(5, "CAP_KILL", None),
    needed(1, "CAP_DAC_OVERRIDE", None),
];

pub(super) fn effective() -> Finding {
    match missing() {
        Ok(names) => judge(&names),
        Err(error) => Finding::warn("capabilities", error.to_string(), "mount /proc"),
    }
}

fn judge(missing: &[&str]) -> Finding {
    match missing {
        [] => Finding::ok("capabilities", NEEDED.map(|needed| needed.name).join(", ")),
        _ => Finding::fail(
            "capabilities",
            format!("missing: {}", missing.join(", ")),
            "run with sudo; in a container, with these capabilities added",
        ),
    }
}

/// Those that this process lacks.
pub fn missing() -> Result<Vec<&'static str>> {
    let status = std::fs::read_to_string(STATUS).map_err(|error| Error::os("read", STATUS, error))?;
    missing_in(&status).ok_or_else(|| Error::said("find", format!("CapEff in {STATUS}"), "the kernel does not say"))
}

fn missing_in(status: &str) -> Option<Vec<&'static str>> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(digits.trim(), 16).ok()?;
    let has = |number: u32| effective & (1 << number) != 0;
    let lacks = |needed: &&Needed| !has(needed.number) && !needed.or.is_some_and(has);
    Some(NEEDED.iter().filter(lacks).map(|needed| needed.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn names_what_is_missing() {
        let missing = |digits: &str| missing_in(&format!("Name:\tx\nCapEff:\t{digits}\n")).unwrap();
        assert!(missing("000001fffeffffff").is_empty());
        assert_eq!(missing("000001ffffffefff"), ["CAP_NET_ADMIN"]);
        assert_eq!(missing("0000000000000000").len(), NEEDED.len());
        // A container's usual set.
        assert_eq!(missing("00000000a80425fb"), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert!(missing("000000ffffffffff").is_empty(), "CAP_SYS_ADMIN includes CAP_BPF");
        assert_eq!(missing_in("Name:\tx\n"), None);
        assert_eq!((judge(&[]).level, judge(&["CAP_BPF"]).level), (Level::Ok, Level::Fail));
    }
}
