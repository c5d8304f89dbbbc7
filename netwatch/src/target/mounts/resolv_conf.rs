//! The target's /etc/resolv.conf, mounted over the file that the host's path leads to; and other
//! files of /etc that the user keeps for a named namespace.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::submounts::keep_submounts;
use super::{IfMissing, MountPlan, bind, is_same_file, write_readable};
use crate::error::{Error, Result};
use crate::proc::mountinfo;

pub(super) const PATH: &str = "/etc/resolv.conf";
const ETC: &str = "/etc";

/// The file to mount: the user's own for this namespace, if there is one, otherwise netwatch's.
fn source(plan: &MountPlan) -> PathBuf {
    let named = plan.netns.as_deref().map(|name| etc_netns(name).join("resolv.conf"));
    named.filter(|path| path.is_file()).unwrap_or_else(|| plan.resolv_conf.clone())
}

/// `Some(true)`: this call mounted it. `Some(false)`: it was already mounted. `None`: there is no
/// file to mount over, and `if_missing` is to wait.
pub(super) fn ensure(plan: &MountPlan, if_missing: IfMissing) -> Result<Option<bool>> {
    let (source, target) = (source(plan), Path::new(PATH));
    if is_same_file(&source, target) {
        return Ok(Some(false));
    }
    let failed = |errno| Error::os("mount the command's own", PATH, errno);
    match bind(&source, target) {
        Ok(()) => Ok(Some(true)),
        Err(errno) if !is_missing(errno) || !source.exists() => Err(failed(errno)),
        Err(_) if if_missing == IfMissing::Wait => Ok(None),
        Err(_) => {
            make_place(&plan.private)?;
            bind(&source, target).map_err(failed)?;
            Ok(Some(true))
        }
    }
}

/// No file, a dangling symbolic link, a circular one, or a directory.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR)
}

/// Makes a place for a resolv.conf if the host has none: mounts /etc again as an overlay with an
/// empty resolv.conf in it, which hides a dangling link of that name. The mounts below /etc stay.
/// Other hosts get no overlay, because the target cannot write to /etc below one.
///
/// The overlay has two lower layers and no writable one: with a writable layer in memory, what a
/// command run as root writes to /etc would be lost silently; without one, the write fails with
/// EROFS. A tmpfs full of bind mounts would not do: if the host replaced a file by rename (passwd,
/// shadow), the target would have an empty one. The file is in /etc and not at the target of a
/// dangling link, because the directory of that target may not exist.
fn make_place(private: &Path) -> Result<()> {
    let layer = private.join("etc");
    make_layer(&layer)?;
    write_readable(&layer.join("resolv.conf"), b"")?;
    let options = format!("lowerdir={}:{ETC}", escape(&layer));
    let lost = keep_submounts(&mountinfo::read()?, Path::new(ETC), || {
        mount(Some("netwatch"), ETC, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|errno| {
            Error::os("make a place for resolv.conf in", ETC, errno)
                .hint("create an empty /etc/resolv.conf on the host")
        })
    })?;
    lost.into_iter().next().map_or(Ok(()), Err)
}

/// /etc has the attributes of this layer, the topmost one.
fn make_layer(layer: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(layer)
        .and_then(|()| fs::set_permissions(layer, fs::Permissions::from_mode(0o755)))
        .map_err(|error| Error::os("create", layer.display().to_string(), error))
}

/// overlayfs splits at colons, mount options at commas.
fn escape(path: &Path) -> String {
    path.display().to_string().replace('\\', r"\\").replace(':', r"\:").replace(',', r"\,")
}

/// /etc/netns/NAME: files that the user keeps for a named namespace.
fn etc_netns(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

/// Mounts the files of /etc/netns/NAME over the files of the same names in /etc, as `ip netns exec`
/// does, except resolv.conf, which [`ensure`] mounts. Returns an error for each file that /etc
/// lacks.
pub(super) fn bind_etc_netns(name: &str) -> Result<Vec<Error>> {
    let dir = etc_netns(name);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::os("read", dir.display().to_string(), error)),
    };
    let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| *name != "resolv.conf");
    let bound = names.map(|name| {
        let (source, target) = (dir.join(&name), Path::new(ETC).join(&name));
        bind(&source, &target).map_err(|errno| {
            Error::os("use", source.display().to_string(), errno).hint(format!("create {}", target.display()))
        })
    });
    Ok(bound.filter_map(Result::err).collect())
}
