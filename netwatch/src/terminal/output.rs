//! The file of `-o`. It is opened before the command starts, with the rights of the caller of sudo,
//! and an incomplete report is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::write_buffered;
use crate::error::{Error, Result};
use crate::rights::{as_user, link_flags};

/// An open report file.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    /// Opens or creates the file with the rights of `owner`: netwatch writes nothing for the caller
    /// of sudo that they could not write themselves. An older report stays until the new one is
    /// written.
    ///
    /// Only its owner can read a new file, because command lines can contain secrets. An existing
    /// file keeps its mode.
    ///
    /// As root, a link in a directory that everybody may write is not followed: another user may
    /// have put it there.
    pub(crate) fn create(path: &Path, owner: (Uid, Gid)) -> Result<Self> {
        if path == Path::new("-") {
            let error = Error::other("write", "standard output", "it belongs to the command");
            return Err(error.hint("write to a file or a named pipe with -o"));
        }
        let file = as_user(owner, || open(path, link_flags(path, owner.0)));
        let file = file.map_err(|error| cannot_write(path, error).hint("choose another file for -o"))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// [`Self::create`] for a file in a directory, which is not a link that another user may have
    /// made either.
    pub(crate) fn create_in(directory: &Path, name: &str, owner: (Uid, Gid)) -> Result<Self> {
        let path = directory.join(name);
        let file = as_user(owner, || {
            let directory = open_directory(directory, owner.0)?;
            open(&in_directory(&directory, name), libc::O_NOFOLLOW)
        });
        let file = file.map_err(|error| cannot_write(&path, error))?;
        Ok(Self { file, path })
    }

    /// Removes a file that [`Self::create_in`] has made.
    pub(crate) fn remove_in(directory: &Path, name: &str, owner: (Uid, Gid)) -> Result<()> {
        let removed = as_user(owner, || {
            let directory = open_directory(directory, owner.0)?;
            fs::remove_file(in_directory(&directory, name))
        });
        removed.map_err(|error| Error::os("remove", directory.join(name).display().to_string(), error))
    }

    /// Renames a file that [`Self::create_in`] has made.
    pub(crate) fn rename_in(directory: &Path, from: &str, to: &str, owner: (Uid, Gid)) -> Result<()> {
        let renamed = as_user(owner, || {
            let directory = open_directory(directory, owner.0)?;
            fs::rename(in_directory(&directory, from), in_directory(&directory, to))
        });
        renamed.map_err(|error| cannot_write(&directory.join(to), error))
    }

    /// Replaces the contents with the text that `write` writes piece by piece, and flushes it to
    /// the disk: a full disk may cause an error only then.
    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let failed =
            |error| Error::os("write", self.path.display().to_string(), error).hint("the report is incomplete");
        match self.file.set_len(0) {
            // Pipes and devices cannot be truncated (EINVAL, ftruncate(2)).
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(failed(error)),
            _ => {}
        }
        write_buffered(&self.file, write).map_err(failed)?;
        match self.file.sync_data() {
            // Pipes and terminals have nothing to flush (EINVAL, EROFS, fsync(2)).
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS)) => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

pub(super) fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::os("write", path.display().to_string(), error)
}

fn open(path: &Path, link_flags: libc::c_int) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOCTTY | link_flags).open(path)
}

pub(super) fn open_directory(path: &Path, owner: Uid) -> io::Result<File> {
    // Without a slash at the end, which would make the kernel follow a link.
    let path: PathBuf = path.components().collect();
    let flags = libc::O_PATH | libc::O_DIRECTORY | link_flags(&path, owner);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The path of a file in an open directory, whatever has become of the directory's own path.
pub(super) fn in_directory(directory: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}/{name}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_full_disk_is_an_error() {
        let output = Output::create(Path::new("/dev/full"), (Uid::effective(), Gid::effective())).expect("opened");
        let error = output.write(|out| out.write_all(b"report")).expect_err("the device is full").to_string();
        assert!(error.contains("(ENOSPC)"), "{error}");
    }

    #[test]
    fn root_follows_no_link_where_everybody_may_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        let create = || Output::create(&link, (Uid::from_raw(0), Gid::from_raw(0)));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("the directory is ours");
        let error = create().expect_err("a link of anybody").to_string();
        assert!(error.contains("(ELOOP)") && !target.exists(), "{error}");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the directory is ours");
        create().expect("a link of the owner of the directory");
        assert!(target.exists());
    }

    #[test]
    fn root_writes_into_no_linked_directory_where_everybody_may_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).expect("created");
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        let own = (Uid::from_raw(0), Gid::from_raw(0));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("the directory is ours");
        for path in [link.clone(), link.join("")] {
            let error = Output::create_in(&path, "report", own).expect_err("a link of anybody").to_string();
            assert!(error.contains("link/report: ") && error.contains("(ENOTDIR)"), "{error}");
        }
        assert_eq!(fs::read_dir(&target).expect("a directory").count(), 0);
        Output::create_in(&target, "report", own).expect("a directory").write(|out| out.write_all(b"1")).expect("new");
        assert_eq!(fs::read(target.join("report")).expect("a file"), b"1");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the directory is ours");
        Output::create_in(&link, "report", own).expect("a link of the owner of the directory");
        Output::remove_in(&link, "report", own).expect("removed");
        assert!(!target.join("report").exists());
    }

    #[test]
    fn a_new_file_is_private_and_an_existing_file_keeps_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        File::create(&old).and_then(|file| file.set_permissions(Permissions::from_mode(0o644))).expect("created");
        for (path, mode) in [(new, 0o600), (old, 0o644)] {
            let output = Output::create(&path, (Uid::effective(), Gid::effective())).expect("opened");
            output.write(|out| out.write_all(b"report")).expect("written");
            assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, mode, "{}", path.display());
        }
    }

    #[test]
    fn refuses_a_file_that_the_owner_may_not_write() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to change the user");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let error = Output::create(&dir.path().join("x"), (Uid::from_raw(65534), Gid::from_raw(65534)))
            .expect_err("the directory belongs to root");
        assert_eq!(error.errno(), Some(nix::errno::Errno::EACCES));
    }
}
