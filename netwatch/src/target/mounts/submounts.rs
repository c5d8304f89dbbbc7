//! Mounts something over a directory and keeps what is mounted below it. Used for /sys of the new
//! network namespace, and for /etc ([`super::resolv_conf`]).

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::error::{Error, Result};
use crate::proc::mountinfo::{self, Mount};

const SYS: &str = "/sys";

/// Mounts a new sysfs over the old one, with the flags of the old one: sysfs shows the interfaces
/// of the network namespace in which it was mounted. Everything that is mounted below it (cgroup,
/// bpf, debug, tracing and others) stays. If /sys is not a sysfs (a bare chroot), nothing is
/// mounted. Returns the mounts that could not be kept.
pub(super) fn renew_sysfs() -> Result<Vec<Error>> {
    let point = Path::new(SYS);
    let mounts = mountinfo::read()?;
    let Some(old) = mountinfo::at(&mounts, point).filter(|mount| mount.file_system == "sysfs") else {
        return Ok(Vec::new());
    };
    keep_submounts(&mounts, point, || {
        mount(Some("sysfs"), point, Some("sysfs"), old.flags(), None::<&Path>)
            .map_err(|errno| Error::os("mount the namespace's own", SYS, errno))
    })
}

/// Calls `cover`, which mounts something at `point`, and moves the mounts below `point` onto the
/// new mount. Returns those that could not be moved.
pub(super) fn keep_submounts(mounts: &[Mount], point: &Path, cover: impl FnOnce() -> Result<()>) -> Result<Vec<Error>> {
    let below = topmost_below(mounts, point);
    let handles = below.iter().map(|point| open_handle(point)).collect::<Result<Vec<_>>>()?;
    cover()?;
    let moved = below.iter().zip(&handles).map(|(point, handle)| move_mount(handle, point));
    Ok(moved.filter_map(Result::err).collect())
}

/// The mount points below `point`, on the mount that is visible at `point`. Mounts below these move
/// with them, and mounts that another mount at the same point hides cannot be reached anyway.
fn topmost_below<'a>(mounts: &'a [Mount], point: &Path) -> Vec<&'a Path> {
    let around = mounts.iter().filter(|mount| point.starts_with(&mount.point));
    let Some(visible) = around.max_by_key(|mount| mount.point.components().count()) else { return Vec::new() };
    let points = mounts.iter().filter(|mount| mount.parent == visible.id).map(|mount| mount.point.as_path());
    points.filter(|below| *below != point && below.starts_with(point)).collect()
}

/// A descriptor of a mount that cannot be reached by its path after `cover`.
fn open_handle(point: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(point)
        .map_err(|error| Error::os("open", point.display().to_string(), error))
}

/// Moves the mount instead of copying it: no process can reach the old place, and a move keeps the
/// mounts below.
fn move_mount(handle: &File, point: &Path) -> Result<()> {
    let from = format!("/proc/thread-self/fd/{}", handle.as_raw_fd());
    mount(Some(from.as_str()), point, None::<&Path>, MsFlags::MS_MOVE, None::<&Path>)
        .map_err(|errno| Error::os("keep the mount at", point.display().to_string(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_topmost_mounts_below_a_directory() {
        let text = "\
24 1 0:22 / /sys rw shared:7 - sysfs sysfs rw
25 24 0:6 / /sys/kernel/security rw - securityfs securityfs rw
28 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs rw
29 28 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 24 0:27 / /sys/fs/cgroup-two rw - tmpfs tmpfs rw
";
        let mounts = mountinfo::parse(text.as_bytes());
        let expected = ["/sys/kernel/security", "/sys/fs/cgroup", "/sys/fs/cgroup-two"];
        assert_eq!(topmost_below(&mounts, Path::new("/sys")), expected.map(Path::new));
    }
}
