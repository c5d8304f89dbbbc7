//! Whether other users can decide what a path leads to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Component, Path, PathBuf};

use nix::unistd::{Gid, Group, Uid};

use crate::target::user::Identity;

/// Permission bits: the group and others may write.
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In a directory with this bit, only its owner and the owner of an entry can replace the entry.
const STICKY: u32 = 0o1000;
/// Maximum number of symbolic links on the way to a file, as in the kernel.
const MAX_LINKS: usize = 40;

/// Everything that the kernel passes on the way to a file, from `/`: directories, symbolic links,
/// and the file last.
#[derive(Debug, Default)]
pub(super) struct PathTrace {
    entries: Vec<(PathBuf, Metadata)>,
    /// What is left of the path.
    rest: VecDeque<OsString>,
    links: usize,
}

impl PathTrace {
    /// Follows a path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut trace = Self::default();
        let mut at = PathBuf::from("/");
        trace.enter(&at)?;
        trace.prepend(&path::absolute(path)?);
        while let Some(name) = trace.rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            if let Some(target) = trace.enter(&at)? {
                at.pop();
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                trace.prepend(&target);
            }
        }
        Ok(trace)
    }

    /// Adds what is at a path. Returns its target if it is a symbolic link.
    fn enter(&mut self, at: &Path) -> io::Result<Option<PathBuf>> {
        let metadata = fs::symlink_metadata(at)?;
        let is_link = metadata.is_symlink();
        self.entries.push((at.to_owned(), metadata));
        if !is_link {
            return Ok(None);
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        fs::read_link(at).map(Some)
    }

    fn prepend(&mut self, path: &Path) {
        for component in path.components().rev() {
            if let Component::Normal(_) | Component::ParentDir = component {
                self.rest.push_front(component.as_os_str().to_owned());
            }
        }
    }

    /// The path of the file, without symbolic links.
    pub fn file(&self) -> &Path {
        self.entries.last().map_or(Path::new("/"), |(path, _)| path)
    }

    /// Fails with the reason why other users than root and the caller can change what the path
    /// leads to.
    pub fn require_trusted(&self, caller: &Identity) -> Result<(), String> {
        for (path, metadata) in &self.entries {
            writer(caller, metadata).map_or(Ok(()), |who| Err(format!("{who} can change {}", path.display())))?;
        }
        Ok(())
    }
}

/// A user other than root and the caller that can change the file, the entries of the directory
/// that belong to others, or the link.
fn writer(caller: &Identity, metadata: &Metadata) -> Option<String> {
    let owner = Uid::from_raw(metadata.uid());
    if !owner.is_root() && owner != caller.uid {
        return Some(format!("its owner (uid {owner})"));
    }
    // Everyone may write a link, which has no effect.
    if metadata.is_symlink() || (metadata.is_dir() && metadata.mode() & STICKY != 0) {
        return None;
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Some("every user".into());
    }
    let group = Gid::from_raw(metadata.gid());
    let is_shared = metadata.mode() & GROUP_WRITE != 0 && group.as_raw() != 0 && !is_private_group(caller, group);
    is_shared.then(|| format!("its group (gid {group})"))
}

/// Whether the group belongs to the caller alone: many distributions give each user a group of the
/// same name, and let files be writable by it.
fn is_private_group(caller: &Identity, group: Gid) -> bool {
    let Ok(Some(group)) = Group::from_gid(group) else { return false };
    group.gid == caller.gid && group.name == caller.name && group.mem.iter().all(|member| *member == caller.name)
}
