//! /sys of the new network namespace: sysfs shows the interfaces of the namespace in which it was mounted, so it is mounted anew.

use std::path::Path;

use nix::mount::mount;

use super::mountinfo;
use crate::error::{Error, Result};

const SYS: &str = "/sys";

/// Mounts a new sysfs with the old one's flags over it; cgroup, bpf, debug, tracing and whatever else is mounted below stays. Where /sys is
/// no sysfs (a bare chroot), there is nothing to renew. Returns what could not stay.
pub(super) fn renew() -> Result<Vec<Error>> {
    let place = Path::new(SYS);
    let mounts = mountinfo::read()?;
    let Some(old) = mountinfo::at(&mounts, place).filter(|mount| mount.file_system == "sysfs") else {
        return Ok(Vec::new());
    };
    mountinfo::keeping_submounts(&mounts, place, || {
        mount(Some("sysfs"), place, Some("sysfs"), old.flags(), None::<&Path>)
            .map_err(|errno| Error::os("mount the namespace's own", SYS, errno))
    })
}
