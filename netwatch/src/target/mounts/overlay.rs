//! A place for a resolv.conf where the host has none: /etc with one more file, by overlayfs. Only for such hosts, because it costs the command
//! the right to write in /etc.
//!
//! Why an overlay with two lower layers and nothing writable: with a writable layer in memory, what a command run as root writes to /etc
//! would go nowhere without a word; without one it fails, with EROFS. Why not a tmpfs full of bind mounts: a file of /etc that the
//! host then replaces by rename (passwd, shadow: their usual way) would turn into an empty one. Why the file goes into /etc and
//! not to where a dangling link points: that directory may not exist either.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::mountinfo;
use super::write_readable;
use crate::error::{Error, Result};

const ETC: &str = "/etc";

/// Mounts /etc anew, with an empty resolv.conf in it that hides a dangling link of that name. What is mounted below /etc stays.
pub(super) fn make_place(private: &Path) -> Result<()> {
    let layer = private.join("etc");
    make_layer(&layer)?;
    write_readable(&layer.join("resolv.conf"), b"")?;
    let options = format!("lowerdir={}:{ETC}", escaped(&layer));
    let lost = mountinfo::keeping_submounts(&mountinfo::read()?, Path::new(ETC), || {
        mount(Some("netwatch"), ETC, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|errno| {
            Error::os("make a place for resolv.conf in", ETC, errno)
                .hint("create an empty /etc/resolv.conf on the host")
        })
    })?;
    lost.into_iter().next().map_or(Ok(()), Err)
}

/// Its attributes become those of /etc.
fn make_layer(layer: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(layer)
        .and_then(|()| fs::set_permissions(layer, fs::Permissions::from_mode(0o755)))
        .map_err(|error| Error::os("create", layer.display().to_string(), error))
}

/// overlayfs splits at colons, mount options at commas.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', r"\\").replace(':', r"\:").replace(',', r"\,")
}
