//! How `tail` and `top` find a run in progress: by the sockets in the run directories.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::undo::{RunDir, RunId};

/// Connects to the only run in progress whose id begins with this text. `socket` is the path of its
/// socket in the run directory.
pub(super) fn connect(prefix: &str, socket: impl Fn(&Path) -> PathBuf) -> Result<(RunId, UnixStream)> {
    let mut refused = false;
    let mut live = Vec::new();
    for id in RunDir::ids_beginning_with(prefix) {
        match UnixStream::connect(socket(&RunDir::path_of(&id))) {
            Ok(stream) => live.push((id, stream)),
            // Killed runs have a directory too, until they are undone.
            Err(error) => refused |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if live.len() > 1 {
        let ids: Vec<&str> = live.iter().map(|(id, _)| id.as_str()).collect();
        let cause = format!("{} runs are in progress: {}", live.len(), ids.join(", "));
        return Err(Error::other("find", "the run", cause).hint("name one of them"));
    }
    live.pop().ok_or_else(|| match refused {
        true => Error::other("attach to", "the run", "it belongs to another user").hint("run with sudo"),
        false => Error::other("find", "the run", "no run in progress has this id")
            .hint("`sudo netwatch list` lists the runs in progress"),
    })
}
