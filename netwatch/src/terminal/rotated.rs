//! A log file of bounded size, for runs of weeks: when it is long enough, it becomes `NAME.1`, an
//! older one `NAME.2`, and so on; the oldest is removed. One run at a time writes it.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid};

use super::output::{cannot_write, in_directory, open_directory};
use crate::error::{Error, Result};
use crate::rights::{as_user, file_lock};
use crate::settings::LogRotation;

/// Time between two comparisons of the path with the open file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a file is opened that other programs replace before it is locked.
const MAX_TRIES: usize = 100;
const TAKEN: &str = "a run that has not ended writes it";

/// The file that is written. New lines follow what it contains already.
#[derive(Debug)]
pub(crate) struct RotatedFile {
    place: LogPlace,
    rotation: LogRotation,
    file: File,
    bytes: u64,
    /// The part of a line whose end is not known yet, and of lines that could not be written.
    pending: Vec<u8>,
    next_check: Instant,
}

/// Where the file is.
#[derive(Debug)]
struct LogPlace {
    /// Stays the same directory, also if it is renamed.
    directory: File,
    name: String,
    owner: (Uid, Gid),
}

impl RotatedFile {
    /// Opens or creates the file with the rights of `owner`, and locks it. Only they can read a new
    /// one. It may not be a link, a device or a pipe, which cannot be renamed.
    pub(crate) fn open(path: &Path, owner: (Uid, Gid), rotation: LogRotation) -> Result<Self> {
        let failed = |error| cannot_write(path, error).hint("choose another file for --events-file");
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::other("write", path.display().to_string(), "it has no file name"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = as_user(owner, || open_directory(parent, owner.0)).map_err(failed)?;
        let place = LogPlace { directory, name: name.to_owned(), owner };
        let opened = as_user(owner, || place.open()).map_err(failed)?;
        let refused = |cause| Error::other("write", path.display().to_string(), cause);
        let file = match opened {
            OpenedLog::Ours(file) => file,
            OpenedLog::Taken => return Err(refused(TAKEN).hint("choose another file for --events-file")),
            OpenedLog::Special => {
                let hint = "--events without --events-file writes to standard error";
                return Err(refused("it is not a regular file").hint(hint));
            }
        };
        let bytes = file.metadata().map_err(failed)?.size();
        let next_check = Instant::now() + CHECK_INTERVAL;
        Ok(Self { place, rotation, file, bytes, pending: Vec::new(), next_check })
    }

    /// Continues in the file of the path if the open one was removed or renamed, for example by
    /// logrotate.
    fn follow(&mut self) -> io::Result<()> {
        self.next_check = Instant::now() + CHECK_INTERVAL;
        let place = &self.place;
        let opened = as_user(place.owner, || match place.is_at_path(&self.file)? {
            true => Ok(None),
            false => place.open().map(Some),
        })?;
        match opened {
            None => Ok(()),
            Some(OpenedLog::Ours(file)) => self.replace(file),
            Some(OpenedLog::Taken) => Err(io::Error::other(TAKEN)),
            Some(OpenedLog::Special) => Err(io::Error::other("it is not a regular file")),
        }
    }

    fn replace(&mut self, file: File) -> io::Result<()> {
        self.bytes = file.metadata()?.size();
        file_lock::unlock(&std::mem::replace(&mut self.file, file));
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.follow()?;
        if self.bytes < self.rotation.max_bytes {
            return Ok(());
        }
        let (place, max_files) = (&self.place, self.rotation.max_files);
        let file = as_user(place.owner, || place.rotate(max_files))?;
        self.replace(file)
    }

    /// Writes what is pending.
    fn write_pending(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let written = match self.file.write(&self.pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written?,
            };
            self.pending.drain(..written);
            self.bytes += written as u64;
        }
        Ok(())
    }
}

/// A file that was opened to be written.
enum OpenedLog {
    /// It is locked.
    Ours(File),
    /// Another run writes it.
    Taken,
    /// It is not a regular file.
    Special,
}

/// All of it needs the rights of the owner.
impl LogPlace {
    fn path(&self, name: &str) -> PathBuf {
        in_directory(&self.directory, name)
    }

    fn numbered(&self, number: u32) -> PathBuf {
        self.path(&format!("{}.{number}", self.name))
    }

    /// Opens and locks the file. A run that rotates it may replace it before it is locked.
    fn open(&self) -> io::Result<OpenedLog> {
        for _ in 0..MAX_TRIES {
            let file = open(&self.path(&self.name))?;
            if !file.metadata()?.is_file() {
                return Ok(OpenedLog::Special);
            }
            if file_lock::lock(&file).is_err() {
                return Ok(OpenedLog::Taken);
            }
            if self.is_at_path(&file)? {
                return Ok(OpenedLog::Ours(file));
            }
        }
        Err(io::Error::other("another program replaces it again and again"))
    }

    fn is_at_path(&self, file: &File) -> io::Result<bool> {
        is_at(file, &self.path(&self.name))
    }

    /// Puts a new file, which is locked already, in the place of the file: at no time can another
    /// run take it.
    fn rotate(&self, max_files: u32) -> io::Result<File> {
        // Without the name, which may be as long as names can be: a run has one log.
        let new = format!(".netwatch-log-{}", std::process::id());
        // That of a killed run.
        if let Err(error) = fs::remove_file(self.path(&new))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = open_with(&self.path(&new), OpenOptions::new().create_new(true))?;
        // No other run opens a file of this name.
        let _ = file_lock::lock(&file);
        match self.exchange_all(&new, max_files) {
            Ok(true) => Ok(file),
            Ok(false) => self.rotate_without_exchange(&new, max_files),
            Err(error) => {
                // If that fails, an empty file remains. The name may be that of the old file.
                if is_at(&file, &self.path(&new)).unwrap_or(false) {
                    let _ = fs::remove_file(self.path(&new));
                }
                Err(error)
            }
        }
    }

    /// Returns false if two files cannot be exchanged here.
    fn exchange_all(&self, new: &str, max_files: u32) -> io::Result<bool> {
        for number in (2..max_files).rev() {
            rename(self.numbered(number - 1), self.numbered(number))?;
        }
        if !self.exchange(new)? {
            return Ok(false);
        }
        if let Err(error) = self.put_away(new, max_files) {
            // The old file is written on.
            self.exchange(new)?;
            return Err(error);
        }
        Ok(true)
    }

    fn rotate_without_exchange(&self, new: &str, max_files: u32) -> io::Result<File> {
        fs::remove_file(self.path(new))?;
        self.put_away(&self.name, max_files)?;
        match self.open()? {
            OpenedLog::Ours(file) => Ok(file),
            OpenedLog::Taken | OpenedLog::Special => Err(io::Error::other(TAKEN)),
        }
    }

    /// The old file becomes the newest of the older ones, or is removed if only one is kept.
    fn put_away(&self, old: &str, max_files: u32) -> io::Result<()> {
        if max_files == 1 { fs::remove_file(self.path(old)) } else { rename(self.path(old), self.numbered(1)) }
    }

    /// Exchanges the file and the new one. Returns false where that is not possible (renameat2(2)).
    fn exchange(&self, new: &str) -> io::Result<bool> {
        let names = [new, &self.name].map(CString::new);
        let [Ok(new), Ok(name)] = names else { return Err(io::ErrorKind::InvalidInput.into()) };
        let directory = self.directory.as_raw_fd();
        // SAFETY: the descriptor is open, and the names end with a zero and live longer than the
        // call. Not every C library has a function for it.
        let result = unsafe {
            libc::syscall(libc::SYS_renameat2, directory, new.as_ptr(), directory, name.as_ptr(), libc::RENAME_EXCHANGE)
        };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(false),
            _ => Err(error),
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
    open_with(path, OpenOptions::new().create(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
    options.append(true).mode(0o600).custom_flags(flags).open(path)
}

/// Whole lines only are written, so that no line is divided between two files. After an error, what
/// was not written of `bytes` is not taken over.
impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(lines) = bytes.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1) else {
            self.pending.extend(bytes);
            return Ok(bytes.len());
        };
        // Before anything is written: after an error, the caller writes all of it again.
        if self.bytes >= self.rotation.max_bytes {
            self.rotate()?;
        } else if Instant::now() >= self.next_check {
            self.follow()?;
        }
        let before = self.pending.len();
        self.pending.extend(&bytes[..lines]);
        let Err(error) = self.write_pending() else {
            self.pending.extend(&bytes[lines..]);
            return Ok(bytes.len());
        };
        let written = before + lines - self.pending.len();
        self.pending.truncate(before.saturating_sub(written));
        match written.saturating_sub(before) {
            0 => Err(error),
            of_these => Ok(of_these),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Forked processes share the open file, and another run may begin before they have ended.
impl Drop for RotatedFile {
    fn drop(&mut self) {
        file_lock::unlock(&self.file);
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
        log.write_all(b"5\n").expect("written");
        assert_eq!(contents(dir.path()), pairs(&[("log", "5\n")]));
    }

    #[test]
    fn a_log_with_a_long_name_is_rotated() {
        let dir = tempfile::tempdir().expect("a directory");
        let (name, first) = ("x".repeat(253), format!("{}.1", "x".repeat(253)));
        let rotation = LogRotation { max_bytes: 4, max_files: 2 };
        let mut log = RotatedFile::open(&dir.path().join(&name), OWN(), rotation).expect("opened");
        log.write_all(b"one\n").and_then(|()| log.write_all(b"two\n")).expect("written");
        assert_eq!(contents(dir.path()), pairs(&[(&name, "two\n"), (&first, "one\n")]));
    }

    #[test]
    fn one_run_at_a_time_writes_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let rotation = LogRotation { max_bytes: 4, max_files: 2 };
        let open = || RotatedFile::open(&path, OWN(), rotation);
        let mut first = open().expect("opened");
        for text in ["one\n", "two\n", "three\n"] {
            let error = open().expect_err("another run writes it").to_string();
            assert!(error.contains("a run that has not ended writes it; choose another file"), "{error}");
            first.write_all(text.as_bytes()).expect("written");
        }
        // A forked process shares the open file.
        let shared = first.file.try_clone().expect("a descriptor");
        drop(first);
        open().expect("it is free").write_all(b"4\n").expect("written");
        drop(shared);
        assert_eq!(contents(dir.path()), pairs(&[("log", "4\n"), ("log.1", "three\n")]));
    }

    #[test]
    fn a_file_that_is_removed_or_renamed_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let rotation = LogRotation { max_bytes: 100, max_files: 2 };
        let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
        let mut write = |text: &str| {
            log.next_check = Instant::now();
            log.write_all(text.as_bytes()).expect("written");
        };
        write("one\ntw");
        fs::remove_file(&path).expect("removed");
        write("o\n");
        fs::rename(&path, dir.path().join("log-old")).expect("renamed");
        write("three\n");
        assert_eq!(contents(dir.path()), pairs(&[("log", "three\n"), ("log-old", "two\n")]));
        assert!(RotatedFile::open(&path, OWN(), rotation).is_err(), "the new one is locked, too");
    }

    #[test]
    fn a_rotation_that_fails_repeats_no_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let rotation = LogRotation { max_bytes: 8, max_files: 2 };
        let log = RotatedFile::open(&dir.path().join("log"), OWN(), rotation).expect("opened");
        let mut out = io::BufWriter::new(log);
        out.write_all(b"one\ntwo\n").and_then(|()| out.flush()).expect("written");
        let obstacle = dir.path().join("log.1");
        fs::create_dir(&obstacle).expect("a directory");
        for _ in 0..2 {
            let error = out.write_all(b"x\n").and_then(|()| out.flush()).expect_err("log.1 is a directory");
            assert_eq!(error.raw_os_error(), Some(libc::EISDIR), "{error}");
        }
        fs::remove_dir(&obstacle).expect("removed");
        out.flush().expect("written");
        assert_eq!(contents(dir.path()), pairs(&[("log", "x\nx\n"), ("log.1", "one\ntwo\n")]));
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
