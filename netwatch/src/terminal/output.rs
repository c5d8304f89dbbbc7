//! The file of `-o`: opened before the command starts, with the rights of who called, and complete or an error.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use crate::error::{Error, Result};
use crate::rights::as_user;

/// What is written at a time.
pub(crate) const BUFFER: usize = 64 * 1024;

/// An open report file.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    /// Opens or creates the file as `owner` would; an older report stays until there is a new one: what sudo's caller may not write, netwatch does not write for them.
    /// A new one is for its owner alone, because command lines can hold secrets; one that is there keeps its mode.
    pub(crate) fn create(path: &Path, owner: (Uid, Gid)) -> Result<Self> {
        let file = as_user(owner, || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOCTTY)
                .open(path)
        })
        .map_err(|error| Error::os("write", path.display().to_string(), error).hint("choose another file for -o"))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes the whole report as `fill` makes it, so that a large one is never in memory as text, and makes sure that it arrived: a full disk
    /// may only show when the data is flushed.
    pub(crate) fn write(self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let failed =
            |error| Error::os("write", self.path.display().to_string(), error).hint("the report is incomplete");
        match self.file.set_len(0) {
            // Pipes and devices have no length (ftruncate(2)).
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(failed(error)),
            _ => {}
        }
        let mut buffered = BufWriter::with_capacity(BUFFER, &self.file);
        fill(&mut buffered).and_then(|()| buffered.flush()).map_err(failed)?;
        match self.file.sync_data() {
            // Pipes and terminals have nothing to flush (fsync(2): EINVAL, EROFS).
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS)) => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_full_disk_is_an_error() {
        let output = Output::create(Path::new("/dev/full"), (Uid::effective(), Gid::effective())).expect("it opens");
        let error = output.write(|out| out.write_all(b"report")).expect_err("it is full").to_string();
        assert!(error.contains("(ENOSPC)"), "{error}");
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_an_older_one_keeps_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        File::create(&old).and_then(|file| file.set_permissions(Permissions::from_mode(0o644))).expect("made");
        for (path, mode) in [(new, 0o600), (old, 0o644)] {
            let output = Output::create(&path, (Uid::effective(), Gid::effective())).expect("it opens");
            output.write(|out| out.write_all(b"report")).expect("written");
            assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, mode, "{}", path.display());
        }
    }

    #[test]
    fn what_the_caller_may_not_write_is_refused() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to become somebody else");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let error = Output::create(&dir.path().join("x"), (Uid::from_raw(65534), Gid::from_raw(65534)))
            .expect_err("not theirs");
        assert_eq!(error.errno(), Some(nix::errno::Errno::EACCES));
    }
}
