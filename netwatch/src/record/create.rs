//! Making a file to record to. What is there and is no recording stays as it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Doing};
use super::file::beside;
use super::schema::{self, Kind};
use crate::error::Result;

/// Bytes of memory that SQLite keeps pages in.
const CACHE_KIB: u32 = 1024;
const PAGE_BYTES: u64 = 4096;

/// Makes sure that the file can be recorded to, and that it is there. Whether it was made: then it goes again if nothing comes of the run.
///
/// A recording is replaced, as `-o` replaces a report, and an empty file is filled. Anything else is refused: it is somebody's data.
pub(super) fn prepare(path: &Path) -> Result<bool> {
    let failed = |error| fault::os(Doing::Write, path, error).hint("choose another file for --record");
    match open(path, OpenOptions::new().create_new(true)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path).map(|()| false),
        Err(error) => Err(failed(error)),
    }
}

fn check(path: &Path) -> Result<()> {
    let failed = |error| fault::os(Doing::Write, path, error).hint("choose another file for --record");
    let refused = |cause: &str| Err(fault::said(Doing::Write, path, cause).hint("choose another file for --record"));
    let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
    if kind.is_symlink() {
        return refused("it is a symbolic link");
    }
    if !kind.is_file() {
        return refused("it is not a file");
    }
    let mut file = open(path, &mut OpenOptions::new()).map_err(failed)?;
    match Kind::read(&mut file).map_err(failed)? {
        Kind::Empty => Ok(()),
        Kind::Recording(_) if is_locked(&file).map_err(failed)? => Err(fault::busy(Doing::Write, path)),
        Kind::Recording(_) => Ok(()),
        Kind::OtherDatabase | Kind::Other => refused("there is a file that is no recording of netwatch's"),
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
}

/// Whether a run that goes on has it: SQLite's lock is the kernel's, so a killed run has none.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Begins a recording in a file that [`prepare`] found good: empty, private, and ours alone until the connection is closed.
///
/// `limit_bytes` bounds the data base. Nothing is flushed to the disk: after a crash of the whole machine the file may be damaged and says
/// so, and in exchange no run waits for a disk. A killed netwatch loses nothing that was written, because the kernel has it.
pub(super) fn begin(path: &Path, limit_bytes: u64) -> Result<Connection> {
    empty(path).map_err(|error| fault::os(Doing::Write, path, error))?;
    // Its folder may have links in its path; SQLite refuses any, where only the last is dangerous.
    let direct = direct(path).map_err(|error| fault::os(Doing::Write, path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db =
        Connection::open_with_flags(direct, flags).map_err(|error| fault::sqlite(Doing::Write, path, &error, None))?;
    set_up(&db, limit_bytes).map_err(|error| fault::sqlite(Doing::Write, path, &error, Some(&db)))?;
    Ok(db)
}

fn empty(path: &Path) -> io::Result<()> {
    for left in beside(path) {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let file = open(path, &mut OpenOptions::new())?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)
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
