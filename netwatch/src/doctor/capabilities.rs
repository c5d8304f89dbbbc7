//! The effective capabilities, by name.

use super::Finding;

struct Needed {
    number: u32,
    name: &'static str,
    /// One that includes it.
    or: Option<u32>,
}

const SYS_ADMIN: u32 = 21;

const NEEDED: [Needed; 7] = [
    Needed { number: 39, name: "CAP_BPF", or: Some(SYS_ADMIN) },
    Needed { number: 38, name: "CAP_PERFMON", or: Some(SYS_ADMIN) },
    Needed { number: 12, name: "CAP_NET_ADMIN", or: None },
    Needed { number: SYS_ADMIN, name: "CAP_SYS_ADMIN", or: None },
    Needed { number: 7, name: "CAP_SETUID", or: None },
    Needed { number: 6, name: "CAP_SETGID", or: None },
    Needed { number: 5, name: "CAP_KILL", or: None },
];

pub(super) fn effective() -> Finding {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => judge(&status),
        Err(error) => Finding::warn("capabilities", format!("cannot read /proc/self/status: {error}"), "mount /proc"),
    }
}

fn judge(status: &str) -> Finding {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let Some(mask) = mask else {
        return Finding::warn("capabilities", "/proc/self/status does not say", "nothing to do");
    };
    let has = |number: u32| mask & (1 << number) != 0;
    let missing = |needed: &&Needed| !has(needed.number) && !needed.or.is_some_and(has);
    let names: Vec<_> = NEEDED.iter().filter(missing).map(|needed| needed.name).collect();
    match names.as_slice() {
        [] => Finding::ok("capabilities", NEEDED.map(|needed| needed.name).join(", ")),
        _ => Finding::fail(
            "capabilities",
            format!("missing: {}", names.join(", ")),
            "run with sudo; in a container, with these capabilities added",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn names_what_is_missing() {
        assert_eq!(judge("Name:\tx\nCapEff:\t000001fffeffffff\n").level, Level::Ok);
        let none = judge("CapEff:\t0000000000000000\n");
        assert!(none.detail.contains("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN"), "{none}");
        // A container's usual set.
        assert_eq!(
            judge("CapEff:\t00000000a80425fb\n").detail,
            "missing: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN"
        );
        let old_admin = (1u64 << 21) | (1 << 12) | (1 << 7) | (1 << 6) | (1 << 5);
        assert_eq!(judge(&format!("CapEff:\t{old_admin:016x}\n")).level, Level::Ok, "CAP_SYS_ADMIN includes CAP_BPF");
    }
}
