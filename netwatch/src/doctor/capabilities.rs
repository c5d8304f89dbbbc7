//! The capabilities that `run` requires.

use nix::errno::Errno;

use super::Check;
use crate::error::{self, Error, Result};

const STATUS: &str = "/proc/self/status";
const SYS_ADMIN: u32 = 21;

/// A required capability.
struct RequiredCapability {
    /// The bit number in linux/capability.h.
    number: u32,
    name: &'static str,
    /// A capability that includes this one (capabilities(7)).
    included_in: Option<u32>,
}

const fn required(number: u32, name: &'static str, included_in: Option<u32>) -> RequiredCapability {
    RequiredCapability { number, name, included_in }
}

const REQUIRED: [RequiredCapability; 10] = [
    // The classifier.
    required(39, "CAP_BPF", Some(SYS_ADMIN)),
    required(38, "CAP_PERFMON", Some(SYS_ADMIN)),
    required(12, "CAP_NET_ADMIN", None),
    // Namespaces, and entering the command's mount namespace.
    required(SYS_ADMIN, "CAP_SYS_ADMIN", None),
    required(18, "CAP_SYS_CHROOT", None),
    // DNS on port 53 of the gateway.
    required(10, "CAP_NET_BIND_SERVICE", None),
    // Becoming the command's user, ending its processes and accessing its files.
    required(7, "CAP_SETUID", None),
    required(6, "CAP_SETGID", None),
    required(5, "CAP_KILL", None),
    required(1, "CAP_DAC_OVERRIDE", None),
];

/// Fails with the names of the capabilities that this process lacks.
pub fn require_capabilities() -> Result<()> {
    match missing()? {
        names if names.is_empty() && is_in_user_namespace() => {
            Err(Error::os("set up a run", "", Errno::EPERM).hint(format!("{USER_NAMESPACE}; {USER_NAMESPACE_ADVICE}")))
        }
        names if names.is_empty() => Ok(()),
        names => Err(Error::os("set up a run", "", Errno::EPERM).hint(error::needs(&names.join(", ")))),
    }
}

const USER_NAMESPACE: &str = "netwatch runs in a user namespace, whose capabilities do not permit eBPF programs";
const USER_NAMESPACE_ADVICE: &str = "run it as root of the machine, or in a container that is not rootless";

/// Whether this process is in a user namespace other than the initial one, which maps every uid to
/// itself.
fn is_in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_initial(&map))
}

fn is_initial(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn effective() -> Check {
    match missing() {
        Ok(names) if names.is_empty() && is_in_user_namespace() => {
            Check::fail("capabilities", USER_NAMESPACE, USER_NAMESPACE_ADVICE)
        }
        Ok(names) => check(&names),
        Err(error) => Check::warn("capabilities", error.to_string(), "mount /proc"),
    }
}

fn check(missing: &[&str]) -> Check {
    match missing {
        [] => Check::ok("capabilities", REQUIRED.map(|capability| capability.name).join(", ")),
        _ => Check::fail(
            "capabilities",
            format!("missing: {}", missing.join(", ")),
            "run with sudo; in a container, add these capabilities",
        ),
    }
}

fn missing() -> Result<Vec<&'static str>> {
    let status = std::fs::read_to_string(STATUS).map_err(|error| Error::os("read", STATUS, error))?;
    missing_in(&status).ok_or_else(|| Error::other("read", STATUS, "there is no valid CapEff line"))
}

fn missing_in(status: &str) -> Option<Vec<&'static str>> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(digits.trim(), 16).ok()?;
    let has = |number: u32| effective & (1 << number) != 0;
    let is_missing =
        |capability: &&RequiredCapability| !has(capability.number) && !capability.included_in.is_some_and(has);
    Some(REQUIRED.iter().filter(is_missing).map(|capability| capability.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus;

    #[test]
    fn recognizes_a_user_namespace() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n") && !is_initial(""));
    }

    #[test]
    fn names_missing_capabilities() {
        let missing = |digits: &str| missing_in(&format!("Name:\tx\nCapEff:\t{digits}\n")).unwrap();
        assert!(missing("000001fffeffffff").is_empty());
        assert_eq!(missing("000001ffffffefff"), ["CAP_NET_ADMIN"]);
        assert_eq!(missing("0000000000000000").len(), REQUIRED.len());
        // The default set in a container.
        assert_eq!(missing("00000000a80425fb"), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert!(missing("000000ffffffffff").is_empty(), "CAP_SYS_ADMIN includes CAP_BPF");
        assert_eq!(missing_in("Name:\tx\n"), None);
        assert_eq!((check(&[]).status, check(&["CAP_BPF"]).status), (CheckStatus::Ok, CheckStatus::Fail));
    }
}
