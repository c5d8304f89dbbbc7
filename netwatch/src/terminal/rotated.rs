//! A log file of bounded size, for runs of weeks: when it is long enough, it becomes `NAME.1`, an
//! older one `NAME.2`, and so on; the oldest is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::output::{cannot_write, in_directory, open_directory};
use crate::error::{Error, Result};
use crate::rights::as_user;
use crate::settings::LogRotation;

/// The file that is written. New lines follow what it contains already.
#[derive(Debug)]
pub(crate) struct RotatedFile {
    /// Stays the same directory, also if it is renamed.
    directory: File,
    name: String,
    owner: (Uid, Gid),
    rotation: LogRotation,
    file: File,
    bytes: u64,
}

impl RotatedFile {
    /// Opens or creates the file with the rights of `owner`. Only they can read a new one. It may
    /// not be a link, a device or a pipe, which cannot be renamed.
    pub(crate) fn open(path: &Path, owner: (Uid, Gid), rotation: LogRotation) -> Result<Self> {
        let failed = |error| cannot_write(path, error).hint("choose another file for --events-file");
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::other("write", path.display().to_string(), "it has no file name"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = as_user(owner, || open_directory(parent, owner.0)).map_err(failed)?;
        let file = as_user(owner, || open(&in_directory(&directory, name))).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let error = Error::other("write", path.display().to_string(), "it is not a regular file");
            return Err(error.hint("--events without --events-file writes to standard error"));
        }
        Ok(Self { directory, name: name.to_owned(), owner, rotation, file, bytes: metadata.size() })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Self { directory, name, rotation, .. } = self;
        let path = |number| {
            let name = if number == 0 { name.clone() } else { format!("{name}.{number}") };
            in_directory(directory, &name)
        };
        self.file = as_user(self.owner, || {
            // The last one is replaced, or removed if it is the only one.
            for number in (1..rotation.max_files).rev() {
                rename(path(number - 1), path(number))?;
            }
            if rotation.max_files == 1 {
                fs::remove_file(path(0))?;
            }
            open(&path(0))
        })?;
        self.bytes = self.file.metadata()?.size();
        Ok(())
    }
}

/// Also if there is no such file: a user may remove old ones.
fn rename(from: PathBuf, to: PathBuf) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line is never divided between two files.
        let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let written = self.file.write(&bytes[..lines])?;
        self.bytes += written as u64;
        if self.bytes >= self.rotation.max_bytes && bytes[..written].ends_with(b"\n") {
            self.rotate()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: fn() -> (Uid, Gid) = || (Uid::effective(), Gid::effective());

    fn contents(directory: &Path) -> Vec<(String, String)> {
        let files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file"));
        let read = |path: PathBuf| fs::read_to_string(path).expect("text");
        let mut files: Vec<_> =
            files.map(|file| (file.file_name().into_string().expect("a name"), read(file.path()))).collect();
        files.sort();
        files
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_oldest_file_is_removed_and_no_line_is_divided() {
        let dir = tempfile::tempdir().expect("a directory");
        let rotation = LogRotation { max_bytes: 6, max_files: 3 };
        let mut log = RotatedFile::open(&dir.path().join("log"), OWN(), rotation).expect("opened");
        for text in ["one\n", "two\n", "thr", "ee\nfo", "ur\n", "five and six\n", "seven\n", "8\n"] {
            log.write_all(text.as_bytes()).expect("written");
        }
        let expected = [("log", "8\n"), ("log.1", "seven\n"), ("log.2", "four\nfive and six\n")];
        assert_eq!(contents(dir.path()), pairs(&expected));
    }

    #[test]
    fn a_file_that_exists_is_continued_and_one_file_is_enough() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        fs::write(&path, "one\n").expect("written");
        let rotation = LogRotation { max_bytes: 8, max_files: 1 };
        let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
        log.write_all(b"2\n").expect("written");
        assert_eq!(contents(dir.path()), pairs(&[("log", "one\n2\n")]));
        log.write_all(b"3\n4\n").expect("written");
        assert_eq!(contents(dir.path()), pairs(&[("log", "")]));
    }

    #[test]
    fn a_link_and_a_pipe_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
        std::os::unix::fs::symlink(dir.path().join("target"), &link).expect("a link");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let rotation = LogRotation { max_bytes: 8, max_files: 1 };
        for (path, cause) in [(link, "(ELOOP)"), (pipe, "(ENXIO)"), (dir.path().join(".."), "no file name")] {
            let error = RotatedFile::open(&path, OWN(), rotation).expect_err("refused").to_string();
            assert!(error.contains(cause), "{error}");
        }
        assert!(!dir.path().join("target").exists());
    }
}
