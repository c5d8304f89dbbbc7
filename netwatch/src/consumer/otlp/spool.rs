//! Requests on disk that a receiver has not accepted yet. Each is a file; a later run with the same
//! spool sends those that are left. The folder belongs to one run at a time.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::receiver::OtlpTarget;
use crate::error::{Error, Result};
use crate::rights::{as_user, file_lock};

/// Log records in a request. One has about 800 bytes, and receivers refuse requests of more than a
/// few megabytes.
pub(super) const MAX_REQUEST: usize = 1000;
/// The highest number of a request that is listed. More are never written.
const MAX_NUMBER: u64 = u64::MAX / 2;
/// A file of netwatch is neither a link nor a pipe, for whose reader it would wait.
const OWN_FILE: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

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
    /// Records of requests that could not be removed, and why.
    not_removed: Option<(u64, io::Error)>,
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
    /// `None` for a file with another name, such as the lock. Fails if it is no request of
    /// netwatch: one that is ignored would be lost without a report.
    fn of(entry: &fs::DirEntry, owner: Uid, max_bytes: u64) -> Option<io::Result<Self>> {
        let name = entry.file_name().into_string().ok()?;
        let (number, records) = name.split_once('-')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(number) || !is_number(records) {
            return None;
        }
        let (number, records) = (number.parse().unwrap_or(u64::MAX), records.parse().unwrap_or(u64::MAX));
        let is_own = number <= MAX_NUMBER && records <= MAX_REQUEST as u64 && name == file_name(number, records);
        // Of a link, not of its target.
        let metadata = entry.metadata();
        Some(metadata.and_then(|metadata| match metadata.len() {
            _ if !is_own || !is_request(&metadata, owner) => Err(not_a_request()),
            bytes if bytes > max_bytes => Err(io::Error::other("it is larger than the spool may be")),
            bytes => Ok(Self { name, number, records, bytes }),
        }))
    }

    /// The contents, if the file has not changed.
    fn read(&self, folder: &Path, owner: Uid) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(OWN_FILE).open(folder.join(&self.name))?;
        let metadata = file.metadata()?;
        // After a crash of the machine, a file may be empty.
        if !is_request(&metadata, owner) || metadata.len() != self.bytes || self.bytes == 0 {
            return Err(not_a_request());
        }
        let mut body = Vec::new();
        file.take(self.bytes).read_to_end(&mut body)?;
        Ok(body)
    }
}

/// `00000000000000000007-1000`.
fn file_name(number: u64, records: u64) -> String {
    format!("{number:020}-{records}")
}

/// Another kind of file could block or have no end, and another user could have put it there.
fn is_request(metadata: &Metadata, owner: Uid) -> bool {
    metadata.is_file() && metadata.uid() == owner.as_raw()
}

fn not_a_request() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a request of netwatch")
}

impl OtlpSpool {
    /// Opens the folder of a receiver, which is created if there is none, with the rights of its
    /// owner. Fails if another run uses it, if it belongs to another user, and if it has files with
    /// names of requests that are none.
    pub(super) fn open(options: &SpoolOptions, target: &OtlpTarget, owner: (Uid, Gid)) -> Result<Self> {
        let folder = options.folder.join(folder_name(&target.to_string()));
        let max_bytes = options.max_bytes;
        let (lock, mut files) = as_user(owner, || open_folder(&folder, owner.0, max_bytes))?;
        files.sort_by_key(|file| file.number);
        let next = files.last().map_or(0, |file| file.number + 1);
        let bytes = files.iter().map(|file| file.bytes).sum();
        Ok(Self { folder, owner, max_bytes, files: files.into(), bytes, next, not_removed: None, lock })
    }

    /// Whether a request with so many bytes fits, if need be without older ones.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes as u64 <= self.max_bytes
    }

    /// Adds a request that [fits](Self::fits), with this number of records. Returns how many older
    /// records were removed for it: none if it could not be written.
    pub(super) fn push(&mut self, body: &[u8], records: u64) -> io::Result<u64> {
        let (bytes, number) = (body.len() as u64, self.next);
        let name = file_name(number, records);
        as_user(self.owner, || write(&self.folder, &name, body))?;
        self.next += 1;
        self.bytes += bytes;
        self.files.push_back(SpooledFile { name, number, records, bytes });
        let mut removed = 0;
        while self.bytes > self.max_bytes && self.files.len() > 1 {
            removed += self.remove_oldest();
        }
        Ok(removed)
    }

    /// Whether no request is left.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The oldest request and the number of its records. `None` if there is none.
    pub(super) fn oldest(&self) -> Option<(io::Result<Vec<u8>>, u64)> {
        let oldest = self.files.front()?;
        Some((as_user(self.owner, || oldest.read(&self.folder, self.owner.0)), oldest.records))
    }

    /// Removes the oldest request. Returns the number of its records; none if its file could not be
    /// removed, which [`Self::not_removed`] reports.
    pub(super) fn remove_oldest(&mut self) -> u64 {
        let Some(oldest) = self.files.pop_front() else { return 0 };
        self.bytes -= oldest.bytes;
        let path = self.folder.join(&oldest.name);
        match as_user(self.owner, || fs::remove_file(path)) {
            // Another program may have removed it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let earlier = self.not_removed.take().map_or(0, |(records, _)| records);
                self.not_removed = Some((earlier + oldest.records, error));
                0
            }
            _ => oldest.records,
        }
    }

    /// An error about requests that could not be removed, so that a later run sends them.
    pub(super) fn not_removed(&mut self) -> Option<Error> {
        let (records, cause) = self.not_removed.take()?;
        let error = Error::os("remove requests from spool", self.folder.display().to_string(), cause);
        Some(error.hint(format!("a later run sends their {records} connections, also if the receiver has them")))
    }

    /// The descriptor of the lock.
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.lock.as_raw_fd()
    }
}

/// The name of the folder of a receiver, which no other receiver has: other symbols than letters,
/// digits, dots and hyphens as their hexadecimal bytes, `http%3A%2F%2Fcollector.example%3A4318`.
fn folder_name(url: &str) -> String {
    let escape = |byte: u8| match byte {
        b'.' | b'-' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    url.bytes().map(escape).collect()
}

/// Locks the folder and lists its requests.
fn open_folder(folder: &Path, owner: Uid, max_bytes: u64) -> Result<(File, Vec<SpooledFile>)> {
    let name = folder.display().to_string();
    let failed = |cause| Error::os("open spool", name.clone(), cause);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let metadata = fs::symlink_metadata(folder).map_err(failed)?;
    // Another user could replace the files in it.
    if !metadata.is_dir() || metadata.uid() != owner.as_raw() {
        let error = Error::other("open spool", name, "it is a link, or belongs to another user");
        return Err(error.hint("name a folder of your own with --otlp-spool"));
    }
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OWN_FILE);
    let lock = options.open(folder.join("lock")).map_err(failed)?;
    if file_lock::lock(&lock).is_err() {
        let error = Error::other("open spool", name, "another run of netwatch uses it");
        return Err(error.hint("give each run a folder of its own"));
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
    let request = |entry: &fs::DirEntry| {
        let failed = |cause| {
            let error = Error::os("read spooled request", entry.path().display().to_string(), cause);
            error.hint("move the file to another folder, or raise --otlp-spool-size if it is too large")
        };
        SpooledFile::of(entry, owner, max_bytes).map(|file| file.map_err(failed))
    };
    let files = entries.iter().filter_map(request).collect::<Result<_>>()?;
    Ok((lock, files))
}

/// Writes a file that is complete when it has its name.
fn write(folder: &Path, name: &str, body: &[u8]) -> io::Result<()> {
    let unfinished = folder.join("unfinished");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(OWN_FILE);
    let written = options.open(&unfinished).and_then(|mut file| file.write_all(body));
    let named = written.and_then(|()| fs::rename(&unfinished, folder.join(name)));
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
        assert!(first.fits(10) && !first.fits(11));
        for (body, removed) in [(&b"aaaa"[..], 0), (b"bbbb", 0), (b"cccc", 2), (b"", 0)] {
            assert_eq!(first.push(body, 2).expect("written"), removed, "{body:?}");
        }
        let error = spool(folder.path(), 10).expect_err("locked").to_string();
        assert!(error.contains("http%3A%2F%2F127.0.0.1%3A1%2Fa: another run of netwatch uses it"), "{error}");
        drop(first);
        let mut again = spool(folder.path(), 10).expect("opened");
        let mut bodies = Vec::new();
        while let Some((body, records)) = again.oldest() {
            bodies.push(body.ok());
            assert_eq!((records, again.remove_oldest()), (2, 2));
        }
        // An empty file is what a crash of the machine leaves.
        assert_eq!(bodies, [Some(b"bbbb".to_vec()), Some(b"cccc".to_vec()), None]);
        assert_eq!(fs::read_dir(&again.folder).expect("listed").count(), 1, "the lock");
        assert!(again.not_removed().is_none());
    }

    /// What another program put into the folder is neither read nor counted.
    #[test]
    fn files_that_are_no_requests_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = spool(folder.path(), 10).expect("opened").folder.clone();
        let names = ["1-1", "18446744073709551615-1", "00000000000000000001-1001", "00000000000000000001-1"];
        for (at, name) in names.iter().enumerate() {
            let path = inside.join(name);
            let body = if at == names.len() - 1 { "longer than ten" } else { "x" };
            fs::write(&path, body).expect("written");
            let error = spool(folder.path(), 10).expect_err(name).to_string();
            assert!(error.contains(&format!("cannot read spooled request {}: it is ", path.display())), "{error}");
            fs::remove_file(path).expect("removed");
        }
        let path = inside.join(file_name(1, 1));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        spool(folder.path(), 10).expect_err("a pipe");
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        spool(folder.path(), 10).expect_err("a link");
        fs::remove_file(&path).expect("removed");
        // Put there after the start, in place of a request.
        let mut open = spool(folder.path(), 10).expect("opened");
        open.push(b"body", 3).expect("written");
        let path = inside.join(file_name(0, 3));
        fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let (body, records) = open.oldest().expect("a request");
        assert!(body.is_err() && records == 3, "{body:?}");
    }

    /// A folder in place of a file cannot be removed, and one in place of the unfinished file
    /// cannot be written.
    #[test]
    fn what_cannot_be_written_or_removed_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = spool(folder.path(), 10).expect("opened");
        spool.push(b"aaaaaaaa", 3).expect("written");
        let unfinished = spool.folder.join("unfinished");
        fs::create_dir(&unfinished).expect("a folder");
        spool.push(b"bbbbbbbb", 2).expect_err("not written");
        assert_eq!(spool.oldest().expect("not removed").1, 3);
        fs::remove_dir(&unfinished).expect("removed");
        let path = spool.folder.join(file_name(0, 3));
        fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("a folder");
        assert_eq!(spool.push(b"bbbbbbbb", 2).expect("written"), 0);
        let error = spool.not_removed().expect("an error").to_string();
        assert!(error.contains("a later run sends their 3 connections"), "{error}");
    }

    #[test]
    fn no_two_receivers_have_the_same_folder() {
        assert_ne!(folder_name("http://a:1/b/c"), folder_name("http://a:1/b_c"));
        assert_ne!(folder_name("http://a:1/%2F"), folder_name("http://a:1//"));
    }
}
