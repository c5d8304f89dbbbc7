//! Requests on disk that a receiver has not accepted yet. Each is a file; a later run with the same
//! spool sends those that are left. The folder belongs to one run at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::receiver::OtlpTarget;
use crate::error::{Error, Result};
use crate::rights::{as_user, file_lock};

/// Where requests wait on disk, and how many bytes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The folder. Each receiver has a folder in it.
    pub folder: PathBuf,
    /// Maximum size of the requests for one receiver in bytes.
    pub max_bytes: u64,
}

/// The requests for one receiver, oldest first.
#[derive(Debug)]
pub(super) struct OtlpSpool {
    folder: PathBuf,
    owner: (Uid, Gid),
    max_bytes: u64,
    files: VecDeque<SpooledFile>,
    bytes: u64,
    /// The number of the next file.
    next: u64,
    /// Locked against other runs.
    lock: File,
}

/// A request on disk. Its name has its number and that of its records: `00000000000000000007-1000`.
#[derive(Debug)]
struct SpooledFile {
    name: String,
    number: u64,
    records: u64,
    bytes: u64,
}

impl SpooledFile {
    /// `None` for a file of another kind, such as the lock.
    fn of(entry: &fs::DirEntry) -> Option<Self> {
        let name = entry.file_name().into_string().ok()?;
        let (number, records) = name.split_once('-')?;
        let (number, records) = (number.parse().ok()?, records.parse().ok()?);
        Some(Self { number, records, bytes: entry.metadata().ok()?.len(), name })
    }
}

impl OtlpSpool {
    /// Opens the folder of a receiver, which is created if there is none, with the rights of its
    /// owner. Fails if another run uses it.
    pub(super) fn open(options: &SpoolOptions, target: &OtlpTarget, owner: (Uid, Gid)) -> Result<Self> {
        let plain = |symbol: char| if symbol.is_ascii_alphanumeric() || symbol == '.' { symbol } else { '_' };
        let folder = options.folder.join(target.to_string().chars().map(plain).collect::<String>());
        let failed = |cause| Error::os("open spool", folder.display().to_string(), cause);
        let (lock, mut files) = as_user(owner, || open_folder(&folder)).map_err(failed)?;
        if file_lock::lock(&lock).is_err() {
            let cause = "another run of netwatch uses it";
            return Err(Error::other("open spool", folder.display().to_string(), cause)
                .hint("give each run a folder of its own"));
        }
        files.sort_by_key(|file| file.number);
        let next = files.last().map_or(0, |file| file.number + 1);
        let (files, bytes) = (VecDeque::from(files), 0);
        let mut spool = Self { folder, owner, max_bytes: options.max_bytes, files, bytes, next, lock };
        spool.bytes = spool.files.iter().map(|file| file.bytes).sum();
        Ok(spool)
    }

    /// Adds a request with this number of records. Returns how many older ones had to be removed
    /// for it.
    pub(super) fn push(&mut self, body: &[u8], records: u64) -> io::Result<u64> {
        let (bytes, mut removed) = (body.len() as u64, 0);
        if bytes > self.max_bytes {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        while self.bytes + bytes > self.max_bytes {
            removed += self.remove_oldest();
        }
        let number = self.next;
        let name = format!("{number:020}-{records}");
        as_user(self.owner, || write(&self.folder, &name, body))?;
        self.next += 1;
        self.bytes += bytes;
        self.files.push_back(SpooledFile { name, number, records, bytes });
        Ok(removed)
    }

    /// The oldest request and the number of its records. `None` if there is none.
    pub(super) fn oldest(&self) -> Option<(io::Result<Vec<u8>>, u64)> {
        let oldest = self.files.front()?;
        let path = self.folder.join(&oldest.name);
        Some((as_user(self.owner, || fs::read(path)), oldest.records))
    }

    /// Removes the oldest request. Returns the number of its records.
    pub(super) fn remove_oldest(&mut self) -> u64 {
        let Some(oldest) = self.files.pop_front() else { return 0 };
        self.bytes -= oldest.bytes;
        let path = self.folder.join(&oldest.name);
        // Another program may have removed it.
        let _ = as_user(self.owner, || fs::remove_file(path));
        oldest.records
    }

    /// The descriptor of the lock.
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.lock.as_raw_fd()
    }
}

/// Opens the file of the lock, and lists the requests.
fn open_folder(folder: &Path) -> io::Result<(File, Vec<SpooledFile>)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let lock = options.open(folder.join("lock"))?;
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok((lock, entries.iter().filter_map(SpooledFile::of).collect()))
}

/// Writes a file that is complete when it has its name.
fn write(folder: &Path, name: &str, body: &[u8]) -> io::Result<()> {
    let unfinished = folder.join("unfinished");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let written = options.open(&unfinished).and_then(|mut file| file.write_all(body));
    let named = written.and_then(|()| fs::rename(&unfinished, folder.join(OsString::from(name))));
    if named.is_err() {
        // A full disk: its part is of no use.
        let _ = fs::remove_file(&unfinished);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: &Path, max_bytes: u64) -> Result<OtlpSpool> {
        let options = SpoolOptions { folder: folder.to_owned(), max_bytes };
        let target = OtlpTarget::parse("http://127.0.0.1:1/a").expect("a URL");
        OtlpSpool::open(&options, &target, (Uid::effective(), Gid::effective()))
    }

    #[test]
    fn requests_are_kept_in_order_until_the_size_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = spool(folder.path(), 10).expect("opened");
        for (body, removed) in [(&b"aaaa"[..], 0), (b"bbbb", 0), (b"cccc", 2), (b"", 0)] {
            assert_eq!(first.push(body, 2).expect("written"), removed, "{body:?}");
        }
        assert_eq!(first.push(&[0; 11], 1).expect_err("too long").raw_os_error(), Some(libc::EFBIG));
        let error = spool(folder.path(), 10).expect_err("locked").to_string();
        assert!(error.contains("http___127.0.0.1_1_a: another run of netwatch uses it"), "{error}");
        drop(first);
        let mut again = spool(folder.path(), 10).expect("opened");
        let mut bodies = Vec::new();
        while let Some((body, records)) = again.oldest() {
            bodies.push(body.expect("read"));
            assert_eq!((records, again.remove_oldest()), (2, 2));
        }
        assert_eq!(bodies, [&b"bbbb"[..], b"cccc", b""]);
        assert_eq!(fs::read_dir(&again.folder).expect("listed").count(), 1, "the lock");
    }
}
