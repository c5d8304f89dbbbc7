//! One file laid over another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::error::{Error, Result};

/// Lays `source` over what `target` leads to: mount(2) follows symbolic links, relative ones and chains.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
}

/// Are these the same file, seen through whatever is mounted there? Not if one of them is missing.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Writes a file that will lie over one of the host's, in place and readable for everybody: the command's user is not root, and
/// netwatch's umask may be anything. Not touched if it says that already: a reader could find it half written.
pub fn write_readable(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(|error| Error::os("write", path.display().to_string(), error))
}
