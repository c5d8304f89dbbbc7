//! Creates the file of a recording. An existing file that is not a recording is never changed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::fault::{self, RecordingOperation};
use super::file::beside;
use super::regular;
use super::schema::{self, FileKind};
use crate::error::{Error, Result};
use crate::rights::file_lock::{self, Taken};

/// Memory that SQLite uses for pages, in KiB.
const CACHE_KIB: u32 = 1024;
const PAGE_BYTES: u64 = 4096;

/// The hint for a file that cannot be used.
const OTHER_FILE_HINT: &str = "choose another file for --record";

/// A file that is reserved for a recording: no other run uses it after `prepare`.
///
/// It must outlive SQLite's connection: closing a file releases all locks of the process on it,
/// SQLite's included (fcntl(2)).
#[derive(Debug)]
pub struct Claim {
    file: File,
    /// It was created for this run, and is removed if nothing is recorded.
    pub made: bool,
    /// It holds an older recording.
    replaces: bool,
}

/// Reserves the file: verifies that it can be written, creates it if needed, and locks it against
/// other runs.
///
/// A recording is replaced, as `-o` replaces a report, and an empty file is used. Any other file is
/// refused, because it holds other data.
pub(super) fn prepare(path: &Path) -> Result<Claim> {
    let failed = |error| fault::os(RecordingOperation::Write, path, error).hint(OTHER_FILE_HINT);
    match open(path, OpenOptions::new().create_new(true)) {
        Ok(file) => Claim { file, made: true, replaces: false }.checked(path).inspect_err(|_| {
            // If removing fails, an empty file remains.
            let _ = fs::remove_file(path);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(path),
        Err(error) => Err(failed(error)),
    }
}

impl Claim {
    /// Locks the file and verifies that no unrelated files are beside it.
    fn checked(mut self, path: &Path) -> Result<Self> {
        let failed = |error| fault::os(RecordingOperation::Write, path, error).hint(OTHER_FILE_HINT);
        // Without support for such locks, SQLite's remain.
        file_lock::lock(&self.file).map_err(|Taken| fault::busy(RecordingOperation::Write, path))?;
        // From here on no other run writes the file.
        self.replaces = match FileKind::read(&mut self.file).map_err(failed)? {
            FileKind::Empty => false,
            FileKind::Recording(_) => true,
            FileKind::OtherDatabase | FileKind::Other => {
                return Err(refused(path, "the file exists and is not a netwatch recording"));
            }
        };
        if file_lock::is_locked(&self.file).map_err(failed)? {
            return Err(fault::busy(RecordingOperation::Write, path));
        }
        match beside(path).iter().find(|beside| !self.replaces && fs::symlink_metadata(beside).is_ok()) {
            Some(other) => Err(refused(path, &format!("{} exists and would be removed", other.display()))),
            None => Ok(self),
        }
    }

    /// Empties the file. Files beside a recording belong to SQLite and are removed.
    fn empty(&self, path: &Path) -> io::Result<()> {
        let (ours, there) = (self.file.metadata()?, fs::symlink_metadata(path)?);
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(io::Error::other("another file replaced it"));
        }
        for left in beside(path).into_iter().filter(|_| self.replaces) {
            match fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file.set_permissions(Permissions::from_mode(0o600))?;
        self.file.set_len(0)
    }
}

fn refused(path: &Path, cause: &str) -> Error {
    fault::other(RecordingOperation::Write, path, cause).hint(OTHER_FILE_HINT)
}

fn existing(path: &Path) -> Result<Claim> {
    let failed = |error| fault::os(RecordingOperation::Write, path, error).hint(OTHER_FILE_HINT);
    let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
    if kind.is_symlink() {
        return Err(refused(path, "it is a symbolic link"));
    }
    if !kind.is_file() {
        return Err(refused(path, "it is not a file"));
    }
    let file = open(path, &mut OpenOptions::new()).map_err(failed)?;
    Claim { file, made: false, replaces: false }.checked(path)
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    regular::open(path, options.read(true).write(true).mode(0o600), libc::O_NOFOLLOW)
}

/// Begins a recording in a file that `prepare` reserved: empty, private, and locked until the
/// connection is closed.
///
/// `limit_bytes` bounds the database. Nothing is flushed to the disk, so that no run waits for a
/// disk: after a crash of the whole machine the file may be damaged, which readers report. If
/// netwatch is killed, nothing is lost, because the kernel holds what was written.
pub(super) fn begin(path: &Path, claim: &Claim, limit_bytes: u64) -> Result<Connection> {
    claim.empty(path).map_err(|error| fault::os(RecordingOperation::Write, path, error))?;
    // SQLite refuses every symbolic link in a path, but only one in its last component is
    // dangerous: resolve the others.
    let direct = direct(path).map_err(|error| fault::os(RecordingOperation::Write, path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(direct, flags)
        .map_err(|error| fault::sqlite(RecordingOperation::Write, path, &error, None))?;
    set_up(&db, limit_bytes).map_err(|error| fault::sqlite(RecordingOperation::Write, path, &error, Some(&db)))?;
    // From here on SQLite's lock marks the run as in progress. netwatch's lock would survive it in
    // forked processes.
    file_lock::unlock(&claim.file);
    Ok(db)
}

fn direct(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(name))
}

/// With an exclusive lock SQLite needs no shared memory in a file, which its owner could truncate,
/// and works on network file systems.
fn set_up(db: &Connection, limit_bytes: u64) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES};
         PRAGMA max_page_count = {};
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA temp_store = MEMORY;
         PRAGMA synchronous = OFF;
         PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = MEMORY;",
        limit_bytes.div_ceil(PAGE_BYTES).max(1)
    ))?;
    schema::create(db)?;
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 0;")
}

/// Merges the log into the file, so that a finished recording can be read where nothing can be
/// written.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA journal_mode = DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{check, is_live, summary};

    #[test]
    fn a_file_is_reserved_for_one_run_from_the_beginning() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        let busy = || prepare(&path).expect_err("reserved by another run").to_string();
        // A new file, and then an older recording: a second run gets an error at once, and changes
        // nothing.
        for made in [true, false] {
            let claim = prepare(&path).expect("it is free");
            assert_eq!(claim.made, made);
            assert!(busy().contains("a run that has not ended writes it; choose another file"), "{}", busy());
            assert!(is_live(&path));
            let db = begin(&path, &claim, 1 << 20).expect("begun");
            finish(&db).expect("finished");
            drop(db);
            drop(claim);
            assert!(!is_live(&path));
        }
        assert!(summary(&path).expect_err("nothing of a run").to_string().contains("nothing was written"));
    }

    #[test]
    fn a_file_that_replaced_the_reserved_one_stays() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        let claim = prepare(&path).expect("it is free");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "other data").expect("written");
        let error = begin(&path, &claim, 1 << 20).expect_err("refused").to_string();
        assert!(error.contains("another file replaced it"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "other data");
    }

    #[test]
    fn refuses_a_file_with_unrelated_files_beside_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        for (suffix, exists) in [("-wal", false), ("-shm", true), ("-journal", false)] {
            let other = folder.path().join(format!("x{suffix}"));
            fs::write(&other, "other data").expect("written");
            if exists {
                fs::write(&path, "").expect("written");
            }
            let error = prepare(&path).expect_err("refused").to_string();
            assert!(error.contains(&format!("x{suffix} exists")) && error.contains(OTHER_FILE_HINT), "{error}");
            assert_eq!(path.exists(), exists, "a file that was created is removed");
            assert_eq!(fs::read_to_string(&other).expect("there"), "other data");
            fs::remove_file(&other).expect("removed");
            let _ = fs::remove_file(&path);
        }
        // Beside a recording of a killed run the file belongs to SQLite.
        let claim = prepare(&path).expect("free");
        drop(begin(&path, &claim, 1 << 20).expect("begun"));
        drop(claim);
        let log = folder.path().join("x-wal");
        fs::write(&log, "left").expect("written");
        let claim = prepare(&path).expect("a recording");
        drop(begin(&path, &claim, 1 << 20).expect("begun"));
        assert!(!fs::read(&log).is_ok_and(|text| text == b"left"));
    }

    #[test]
    fn an_empty_file_is_not_taken_for_a_recording() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(check(file.path()).expect_err("anybody's").to_string().contains("empty"));
    }
}
