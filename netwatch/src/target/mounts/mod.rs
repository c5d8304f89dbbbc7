//! The target's private view of the file system: its resolv.conf, its /sys, and no way for glibc to
//! resolve names outside the network namespace. All of this consists of mounts in the target's own
//! mount namespace, which the guardian creates; no file of the host is changed.

pub mod keep;
pub mod marker;
pub mod name_services;
mod path_steps;
mod resolv_conf;
mod submounts;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::error::{Error, Result};

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// The file that is mounted over /etc/resolv.conf, written by [`write_readable`]. It may be
    /// rewritten in place later.
    pub resolv_conf: PathBuf,
    /// A directory of the run for further files, which are created as needed. It is removed with
    /// the run.
    pub private: PathBuf,
    /// The name of the network namespace, if it has one: the files of /etc/netns/NAME are mounted
    /// over those of /etc, as with `ip netns exec`.
    pub netns: Option<String>,
}

impl MountPlan {
    /// The plan of the run with this directory.
    pub fn of_run(run_dir: &Path, netns: Option<String>) -> Self {
        Self { resolv_conf: run_dir.join("resolv.conf"), private: private_dir(run_dir), netns }
    }
}

/// The directory of a run for files that only its target uses.
pub fn private_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("private")
}

/// Makes all mounts. The calling process has to be root, in its new network namespace, and alone in
/// a new mount namespace.
///
/// Returns what the target will lack: files of /etc/netns that have no file of the same name in
/// /etc, and mounts below /sys that could not be kept. Any other failure is an error.
pub fn prepare(plan: &MountPlan) -> Result<Vec<Error>> {
    stop_propagation()?;
    marker::mark(&plan.private)?;
    let mut missed = plan.netns.as_deref().map_or_else(|| Ok(Vec::new()), resolv_conf::bind_etc_netns)?;
    ensure(plan, IfMissing::MakePlace)?;
    missed.extend(submounts::renew_sysfs()?);
    Ok(missed)
}

/// Later mounts of the host (a USB stick, an automounter) still appear in this namespace, but
/// mounts made in it never appear on the host.
fn stop_propagation() -> Result<()> {
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&Path>).map_err(|errno| {
        let error = Error::os("make the command's mounts private", "", errno);
        // `/` is not a mount point.
        if errno == Errno::EINVAL {
            error.hint("this is a plain chroot; use a container, or pivot_root(2)")
        } else {
            error
        }
    })
}

/// What to do when there is no /etc/resolv.conf to mount over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    /// Make a place for it, by an overlay.
    MakePlace,
    /// Do nothing: perhaps it is just being replaced.
    Wait,
}

/// What [`ensure`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ensured {
    /// Number of mounts that were made.
    mounted: usize,
    /// There is no resolv.conf, and none was made.
    is_missing: bool,
}

/// Makes every mount over a file that does not exist, or no longer exists.
fn ensure(plan: &MountPlan, if_missing: IfMissing) -> Result<Ensured> {
    let resolv_conf = resolv_conf::ensure(plan, if_missing)?;
    let nsswitch = name_services::cover_nsswitch(&plan.private)?;
    let sockets = name_services::hide_sockets()?;
    let mounted = usize::from(resolv_conf == Some(true)) + usize::from(nsswitch) + sockets;
    Ok(Ensured { mounted, is_missing: resolv_conf.is_none() })
}

/// Mounts `source` over the file that `target` leads to: mount(2) follows symbolic links, relative
/// ones and chains.
fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
}

/// Whether both paths lead to the same file, mounts included. False if one of them does not exist.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Writes a file that will be mounted over one of the host's. It is readable for every user,
/// regardless of the umask, because the user of the target may not be root. A file that already has
/// these contents is not touched, because a reader could find it half written.
pub fn write_readable(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(|error| Error::os("write", path.display().to_string(), error))
}
