//! The command's private view of the file system: its resolv.conf, its /sys, and the ways around its network namespace closed. Only
//! mounts in a mount namespace of the command's own; no file of the host is changed. Not: creating that namespace.

mod bind;
mod etc_netns;
pub mod keep;
pub mod marker;
pub mod mountinfo;
pub mod nsswitch;
mod overlay;
mod resolv_conf;
mod side_doors;
mod steps;
mod sysfs;

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

pub use bind::write_readable;

use crate::error::{Error, Result};

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// The file that stands in for /etc/resolv.conf: see [`write_readable`]. It may be rewritten in place later.
    pub resolv_conf: PathBuf,
    /// A directory of the run's own, where further files are made as needed. It goes with the run.
    pub private: PathBuf,
    /// The namespace's name, if it has one: then the files of /etc/netns/NAME lie over those of /etc, as with `ip netns exec`.
    pub netns: Option<String>,
}

impl MountPlan {
    /// The plan of the run with this directory.
    pub fn of_run(run_dir: &Path, netns: Option<String>) -> Self {
        Self { resolv_conf: run_dir.join("resolv.conf"), private: private_dir(run_dir), netns }
    }
}

/// Where a run keeps files that are private to its command.
pub fn private_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("private")
}

/// Mounts it all, for the calling process, which is alone in a new mount namespace, in its new network namespace, and still root.
///
/// Returns what the command will miss: files of /etc/netns without a namesake in /etc, mounts below /sys that would not move. Everything
/// else that fails is an error.
pub fn prepare(plan: &MountPlan) -> Result<Vec<Error>> {
    receive_only()?;
    marker::mark(&plan.private)?;
    let mut missed = plan.netns.as_deref().map_or_else(|| Ok(Vec::new()), etc_netns::bind_files)?;
    ensure(plan, IfMissing::MakePlace)?;
    missed.extend(sysfs::renew()?);
    Ok(missed)
}

/// The host's later mounts still show up here (a USB stick, an automounter), ours never there.
fn receive_only() -> Result<()> {
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&Path>)
        .map_err(|errno| Error::os("make the command's mounts private", "", errno))
}

/// What to do when there is no /etc/resolv.conf to mount over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    /// Make a place for it, see [`overlay`].
    MakePlace,
    /// Leave it: perhaps it is just being replaced.
    Wait,
}

/// What [`ensure`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ensured {
    /// So many mounts were made.
    mounted: usize,
    /// There is no resolv.conf, and none was made.
    missing: bool,
}

/// Puts every covering file in its place that is not there, or not any more.
fn ensure(plan: &MountPlan, if_missing: IfMissing) -> Result<Ensured> {
    let resolv_conf = resolv_conf::ensure(plan, if_missing)?;
    let nsswitch = nsswitch::ensure(&plan.private)?;
    let doors = side_doors::ensure()?;
    let missing = resolv_conf.is_none();
    Ok(Ensured { mounted: usize::from(resolv_conf == Some(true)) + usize::from(nsswitch) + doors, missing })
}

#[cfg(test)]
mod tests;
