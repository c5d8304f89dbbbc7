//! Making a file to record to. What is there and is no recording stays as it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Doing};
use super::file::beside;
use super::regular;
use super::schema::{self, Kind};
use crate::error::{Error, Result};

/// Bytes of memory that SQLite keeps pages in.
const CACHE_KIB: u32 = 1024;
const PAGE_BYTES: u64 = 4096;

/// What to do about a file that cannot be recorded to.
const ELSEWHERE: &str = "choose another file for --record";

/// A file that is ours to record to: no other run takes it from `prepare` on.
///
/// It has to live longer than SQLite's connection: closing a file gives back all locks that the process has on it, SQLite's too (fcntl(2)).
#[derive(Debug)]
pub struct Claim {
    file: File,
    /// It was made for the run: then it goes again if nothing comes of it.
    pub made: bool,
    /// There is an older recording in it.
    replaces: bool,
}

/// Makes sure that the file can be recorded to, that it is there, and that no other run has it.
///
/// A recording is replaced, as `-o` replaces a report, and an empty file is filled. Anything else is refused: it is somebody's data.
pub(super) fn prepare(path: &Path) -> Result<Claim> {
    let failed = |error| fault::os(Doing::Write, path, error).hint(ELSEWHERE);
    match open(path, OpenOptions::new().create_new(true)) {
        Ok(file) => Claim { file, made: true, replaces: false }.checked(path).inspect_err(|_| {
            // What cannot be removed is an empty file.
            let _ = fs::remove_file(path);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(path),
        Err(error) => Err(failed(error)),
    }
}

impl Claim {
    /// Locked, and without files beside it that are somebody else's.
    fn checked(mut self, path: &Path) -> Result<Self> {
        let failed = |error| fault::os(Doing::Write, path, error).hint(ELSEWHERE);
        // A kernel or a file system without such locks (EINVAL, ENOLCK) leaves SQLite's own.
        match lock(&self.file, libc::F_WRLCK) {
            Err(error) if is_taken(&error) => return Err(fault::busy(Doing::Write, path)),
            _ => {}
        }
        // Only now nobody else writes it.
        self.replaces = match Kind::read(&mut self.file).map_err(failed)? {
            Kind::Empty => false,
            Kind::Recording(_) => true,
            Kind::OtherDatabase | Kind::Other => {
                return Err(refused(path, "there is a file that is no recording of netwatch's"));
            }
        };
        if is_locked(&self.file).map_err(failed)? {
            return Err(fault::busy(Doing::Write, path));
        }
        match beside(path).iter().find(|beside| !self.replaces && fs::symlink_metadata(beside).is_ok()) {
            Some(other) => Err(refused(path, &format!("{} is there, and would be removed", other.display()))),
            None => Ok(self),
        }
    }

    /// Empties it. What is beside a recording is SQLite's, and goes.
    fn empty(&self, path: &Path) -> io::Result<()> {
        let (ours, there) = (self.file.metadata()?, fs::symlink_metadata(path)?);
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(io::Error::other("another file has been put there"));
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

/// A byte that SQLite locks none of (https://sqlite.org/src/file/src/os.h): its own locks, which are the process's, would be refused beside ours, which
/// is the open file's (fcntl(2), "Open file description locks").
const OURS: libc::off_t = 1 << 62;

fn lock(file: &File, kind: libc::c_int) -> io::Result<()> {
    let ours = libc::flock { l_start: OURS, l_len: 1, ..whole(kind) };
    fcntl(file, FcntlArg::F_OFD_SETLK(&ours))?;
    Ok(())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

fn refused(path: &Path, cause: &str) -> Error {
    fault::said(Doing::Write, path, cause).hint(ELSEWHERE)
}

fn existing(path: &Path) -> Result<Claim> {
    let failed = |error| fault::os(Doing::Write, path, error).hint(ELSEWHERE);
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

/// Whether a run that goes on has it by another opening of the file: locks are the kernel's, so a killed run has none.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// A lock of the whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Begins a recording in a file that `prepare` found good: empty, private, and ours alone until the connection is closed.
///
/// `limit_bytes` bounds the data base. Nothing is flushed to the disk: after a crash of the whole machine the file may be damaged and says
/// so, and in exchange no run waits for a disk. A killed netwatch loses nothing that was written, because the kernel has it.
pub(super) fn begin(path: &Path, claim: &Claim, limit_bytes: u64) -> Result<Connection> {
    claim.empty(path).map_err(|error| fault::os(Doing::Write, path, error))?;
    // Its folder may have links in its path; SQLite refuses any, where only the last is dangerous.
    let direct = direct(path).map_err(|error| fault::os(Doing::Write, path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db =
        Connection::open_with_flags(direct, flags).map_err(|error| fault::sqlite(Doing::Write, path, &error, None))?;
    set_up(&db, limit_bytes).map_err(|error| fault::sqlite(Doing::Write, path, &error, Some(&db)))?;
    // From here on SQLite's lock says that the run goes on; ours would outlive netwatch in what it has forked.
    let _ = lock(&claim.file, libc::F_UNLCK);
    Ok(db)
}

fn direct(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(name))
}

/// Locked exclusively, SQLite needs no shared memory in a file: nobody can cut it off under us, and it works on network file systems.
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

/// Puts everything into the one file: what is finished can be read anywhere, also from where nothing can be written.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA journal_mode = DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{check, is_live, summary};

    #[test]
    fn a_file_is_one_run_s_from_the_beginning() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        let busy = || prepare(&path).expect_err("another run has it").to_string();
        // New, and then an older recording: whoever comes second gets an error at once, and harms nothing.
        for made in [true, false] {
            let claim = prepare(&path).expect("it is free");
            assert_eq!(claim.made, made);
            assert!(busy().contains("a run that still goes on writes it"), "{}", busy());
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
    fn a_file_that_was_exchanged_stays() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        let claim = prepare(&path).expect("it is free");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "somebody's").expect("written");
        let error = begin(&path, &claim, 1 << 20).expect_err("not ours").to_string();
        assert!(error.contains("another file has been put there"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "somebody's");
    }

    #[test]
    fn what_is_beside_no_recording_is_somebody_s() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("x");
        for (suffix, exists) in [("-wal", false), ("-shm", true), ("-journal", false)] {
            let other = folder.path().join(format!("x{suffix}"));
            fs::write(&other, "somebody's").expect("written");
            if exists {
                fs::write(&path, "").expect("written");
            }
            let error = prepare(&path).expect_err("not ours").to_string();
            assert!(error.contains(&format!("x{suffix} is there")) && error.contains(ELSEWHERE), "{error}");
            assert_eq!(path.exists(), exists, "what was made goes again");
            assert_eq!(fs::read_to_string(&other).expect("there"), "somebody's");
            fs::remove_file(&other).expect("removed");
            let _ = fs::remove_file(&path);
        }
        // Beside a recording it is SQLite's, of a run that was killed.
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
