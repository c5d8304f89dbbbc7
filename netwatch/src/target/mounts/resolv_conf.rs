//! The command's /etc/resolv.conf: a file of netwatch's over the host's, wherever the host's really lies.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::bind::{bind, same_file};
use super::{IfMissing, MountPlan, etc_netns, overlay};
use crate::error::{Error, Result};

pub(super) const PATH: &str = "/etc/resolv.conf";

/// The user's own file for this namespace goes before ours.
pub(super) fn source(plan: &MountPlan) -> PathBuf {
    let named = plan.netns.as_deref().map(|name| etc_netns::dir(name).join("resolv.conf"));
    named.filter(|path| path.is_file()).unwrap_or_else(|| plan.resolv_conf.clone())
}

/// `Some(true)`: mounted just now. `Some(false)`: it was there. `None`: there is no place for it, and none was to be made.
pub(super) fn ensure(plan: &MountPlan, if_missing: IfMissing) -> Result<Option<bool>> {
    let (source, target) = (source(plan), Path::new(PATH));
    if same_file(&source, target) {
        return Ok(Some(false));
    }
    match bind(&source, target) {
        Ok(()) => Ok(Some(true)),
        Err(errno) if !is_missing(errno) || !source.exists() => Err(failed(errno)),
        Err(_) if if_missing == IfMissing::Wait => Ok(None),
        Err(_) => {
            overlay::make_place(&plan.private)?;
            bind(&source, target).map_err(failed)?;
            Ok(Some(true))
        }
    }
}

/// No file, a dangling symbolic link, one that leads in a circle, or a directory.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR)
}

fn failed(errno: Errno) -> Error {
    Error::os("mount the command's own", PATH, errno)
}
