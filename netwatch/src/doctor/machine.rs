//! Kernel version, memory, cgroups, namespaces and `/run`.

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access};

use super::Check;
use crate::host::cgroup::{self, OwnCgroup};
use crate::host::namespace;
use crate::meter;

/// The oldest kernel that has everything `run` requires: ring buffers and CAP_BPF came with 5.8.
const OLDEST_KERNEL: (u32, u32) = (5, 8);
/// The oldest kernel that netwatch is tested on.
const OLDEST_TESTED_KERNEL: (u32, u32) = (6, 1);

const MIB: u64 = 1 << 20;
/// Maximum resident memory of netwatch while it meters a command with little traffic, in bytes.
const RESIDENT_BYTES: u64 = 20 * MIB;

pub(super) fn kernel() -> Check {
    match nix::sys::utsname::uname() {
        Ok(name) => note_realtime(check_kernel(&name.release().to_string_lossy()), meter::is_realtime()),
        Err(errno) => Check::warn("kernel", format!("cannot read its version: {errno}"), "nothing to do"),
    }
}

/// Metering on a PREEMPT_RT kernel is exact but slower, so this does not change the status.
fn note_realtime(mut check: Check, is_realtime: bool) -> Check {
    if is_realtime {
        check.detail.push_str(" with PREEMPT_RT: packets are counted in the shared table only, at a higher cost each");
    }
    check
}

fn check_kernel(release: &str) -> Check {
    let at_least = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    match parse_version(release) {
        Some(version) if version < OLDEST_KERNEL => {
            Check::fail("kernel", release, format!("use Linux {} or later", at_least(OLDEST_KERNEL)))
        }
        Some(version) if version < OLDEST_TESTED_KERNEL => Check::warn(
            "kernel",
            release,
            format!("netwatch is tested on Linux {} and later", at_least(OLDEST_TESTED_KERNEL)),
        ),
        Some(_) => Check::ok("kernel", release),
        None => Check::warn("kernel", format!("unknown version format: {release}"), "nothing to do"),
    }
}

/// Major and minor number: (6, 18) for `6.18.44-fc`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `kernel_maps_bytes` is the kernel memory of the classifier's maps with default settings.
pub(super) fn memory(kernel_maps_bytes: Option<u64>) -> Check {
    let resident = read_kib("/proc/self/status", "VmRSS:");
    let available = read_kib("/proc/meminfo", "MemAvailable:");
    check_memory(resident, kernel_maps_bytes, available)
}

fn check_memory(resident: Option<u64>, maps: Option<u64>, available: Option<u64>) -> Check {
    let mib =
        |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes.div_ceil(MIB)));
    let detail = format!("{} resident, {} of kernel maps, {} available", mib(resident), mib(maps), mib(available));
    let needed = RESIDENT_BYTES.max(resident.unwrap_or(0)) + maps.unwrap_or(0);
    match available {
        Some(available) if available < needed => {
            Check::warn("memory", detail, "the kernel may refuse to create the maps: free some memory")
        }
        _ => Check::ok("memory", detail),
    }
}

/// A value in one of these files, converted to bytes.
fn read_kib(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())?;
    Some(kib * 1024)
}

pub(super) fn cgroup() -> Check {
    let advice = "run works, but finds processes by their parents, which takes longer when the command exits";
    match cgroup::own() {
        Ok(OwnCgroup { path, in_hierarchy }) => match access(&path, AccessFlags::W_OK) {
            Ok(()) if in_hierarchy.is_some() => {
                Check::ok("cgroup", "v2 is not visible here; netwatch mounts it for itself")
            }
            Ok(()) => Check::ok("cgroup", format!("v2 at {}", path.display())),
            Err(errno) => Check::warn("cgroup", format!("{} is not writable: {errno}", path.display()), advice),
        },
        Err(cause) => Check::warn("cgroup", cause, advice),
    }
}

pub(super) fn namespaces() -> Check {
    let failed = |cause: String| {
        Check::fail(
            "namespaces",
            cause,
            "run with sudo; in a container, add CAP_SYS_ADMIN and use a seccomp profile that allows unshare(2)",
        )
    };
    match namespace::in_new(|| unshare(CloneFlags::CLONE_NEWNS)) {
        Ok(Ok(())) => Check::ok("namespaces", "network and mount namespaces can be created"),
        Ok(Err(errno)) => failed(format!("cannot create a mount namespace: {errno}")),
        Err(error) => failed(error.to_string()),
    }
}

pub(super) fn run_directory() -> Check {
    match access("/run", AccessFlags::W_OK) {
        Ok(()) => Check::ok("/run", "writable"),
        Err(errno) => Check::fail(
            "/run",
            format!("not writable: {errno}"),
            "run with sudo; if it is read-only, mount a tmpfs on it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus;

    #[test]
    fn checks_major_and_minor_version() {
        let statuses = ["5.4.0-150-generic", "5.15.0", "6.1.0-9-amd64", "6.18.44", "7.0-rc1", "unknown"]
            .map(|release| check_kernel(release).status);
        use CheckStatus::{Fail, Ok, Warn};
        assert_eq!(statuses, [Fail, Warn, Ok, Ok, Ok, Warn]);
    }

    #[test]
    fn the_kernel_check_reports_preempt_rt() {
        let detail = |is_realtime| note_realtime(check_kernel("6.1.0-56-rt-amd64"), is_realtime).detail;
        assert_eq!(detail(false), "6.1.0-56-rt-amd64");
        assert!(detail(true).starts_with("6.1.0-56-rt-amd64 with PREEMPT_RT: "));
    }

    #[test]
    fn warns_if_the_maps_do_not_fit() {
        let enough = check_memory(Some(7 * MIB), Some(48 * MIB), Some(900 * MIB));
        assert_eq!(enough.to_string(), "ok    memory: 7 MiB resident, 48 MiB of kernel maps, 900 MiB available");
        assert_eq!(check_memory(Some(7 * MIB), Some(48 * MIB), Some(40 * MIB)).status, CheckStatus::Warn);
        assert_eq!(check_memory(None, None, None).status, CheckStatus::Ok);
    }

    #[test]
    fn reads_memory_from_proc() {
        assert!(read_kib("/proc/self/status", "VmRSS:").is_some_and(|bytes| bytes > MIB));
    }
}
