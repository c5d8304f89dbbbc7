//! The sockets by which glibc would have a daemon of the host resolve names, past the namespace: nscd's and systemd-resolved's.

use std::path::Path;

use nix::errno::Errno;

use super::bind::{bind, same_file};
use crate::error::{Error, Result};

/// glibc asks nscd by the path in /var/run; where that is no link to /run, there are two. Resolved's are nss-resolve's way to it; nsswitch.conf
/// is changed as well, because an older nss-resolve comes by D-Bus, which the command needs for other things.
pub(super) const DOORS: [&str; 4] = [
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
];

/// What lies over them. connect(2) to something that is no socket is ECONNREFUSED, as if the daemon did not run, which every client knows how to take;
/// and unlike a socket file of our own, everybody may write to it, or it would be EACCES.
const NOBODY: &str = "/dev/null";

/// Closes those that are there; returns how many were open.
pub(super) fn ensure() -> Result<usize> {
    let mut closed = 0;
    for door in DOORS.map(Path::new) {
        match close(door) {
            Ok(done) => closed += usize::from(done),
            Err(errno) => return Err(Error::os("hide", door.display().to_string(), errno)),
        }
    }
    Ok(closed)
}

fn close(door: &Path) -> Result<bool, Errno> {
    if !door.exists() || same_file(door, Path::new(NOBODY)) {
        return Ok(false);
    }
    match bind(Path::new(NOBODY), door) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}
