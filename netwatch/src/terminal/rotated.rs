//! A log file of bounded size, for runs of weeks: when it is long enough, it becomes `NAME.1`, an
//! older one `NAME.2`, and so on; the oldest is removed. One run at a time writes it.

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
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

    /// Writes lines. Returns how many bytes of them are in the file, also after an error: half a
    /// line is taken back.
    fn write_lines(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let (mut written, result) = self.write_bytes(lines);
        let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < written && take_back(&self.file, written - whole) {
            written = whole;
        }
        self.bytes += written as u64;
        (written, result)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
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

    /// Opens and locks the file. A run that rotates it may replace it before it is locked. Half a
    /// line at its end, as a killed run leaves it, becomes a line of its own.
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
                end_line(&file)?;
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

/// Ends the last line of the file. One that the owner may not read is taken to end with a line.
fn end_line(mut file: &File) -> io::Result<()> {
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.size().checked_sub(1) {
        let read = File::open(format!("/proc/thread-self/fd/{}", file.as_raw_fd()));
        let _ = read.and_then(|read| read.read_at(&mut last, at));
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

/// Removes the last `bytes` of the file. Returns false where that is not possible.
fn take_back(file: &File, bytes: usize) -> bool {
    let end = file.metadata().ok().and_then(|about| about.size().checked_sub(bytes as u64));
    end.is_some_and(|end| file.set_len(end).is_ok())
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
        let mut all = std::mem::take(&mut self.pending);
        let before = all.len();
        all.extend(&bytes[..lines]);
        let (written, result) = self.write_lines(&all);
        let Err(error) = result else {
            self.pending.extend(&bytes[lines..]);
            return Ok(bytes.len());
        };
        self.pending.extend(all[..before].get(written..).unwrap_or_default());
        match written.saturating_sub(before) {
            0 => Err(error),
            of_these => Ok(of_these),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl AsRawFd for RotatedFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Forked processes share the open file, and another run may begin before they have ended.
impl Drop for RotatedFile {
    fn drop(&mut self) {
        file_lock::unlock(&self.file);
    }
}
