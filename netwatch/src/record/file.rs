//! Opening a recording to read it, whatever state it was left in. Nothing is changed by reading.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Doing};
use super::regular;
use super::schema::Kind;
use crate::error::{Error, Result};

/// An open recording.
pub(super) struct Reading {
    pub db: Connection,
    /// Removed at the end, after the connection: fields are dropped in their order.
    _copy: Option<Copy>,
}

/// What belongs to a data base: itself, and what SQLite keeps beside it while it is open or was not closed.
pub(super) fn beside(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        name.into()
    })
}

/// Opens it. A run that was killed left a write-ahead log beside it, which is read with it and stays; where that needs a lock or a
/// writable folder that is not to be had, a copy is read.
pub(super) fn open(path: &Path) -> Result<Reading> {
    let failed = |error| fault::os(Doing::Read, path, error);
    let mut file = regular::read(path).map_err(failed)?;
    Kind::read(&mut file).map_err(failed)?.check_readable(path)?;
    drop(file);
    check_beside(path)?;
    let [log, ..] = beside(path);
    if !log.exists() {
        return open_finished(path).map(|db| Reading { db, _copy: None });
    }
    // What cannot be written SQLite opens to read, and then has no lock.
    if !is_writable(path) || !is_writable(&log) {
        return open_copy(path, &log);
    }
    match open_with_log(path) {
        Ok(db) => Ok(Reading { db, _copy: None }),
        Err((error, db)) => Err(fault::sqlite(Doing::Read, path, &error, db.as_ref())),
    }
}

fn is_writable(path: &Path) -> bool {
    regular::open(path, OpenOptions::new().append(true), 0).is_ok()
}

/// SQLite opens these by itself, and would wait for the other end of a FIFO.
fn check_beside(path: &Path) -> Result<()> {
    let is_strange = |beside: &PathBuf| fs::symlink_metadata(beside).is_ok_and(|data| !data.is_file());
    match beside(path).iter().find(|beside| is_strange(beside)) {
        Some(strange) => Err(fault::said(Doing::Read, path, format!("{} is not a file", strange.display()))),
        None => Ok(()),
    }
}

/// Nobody writes a file without a log: neither locks nor a writable folder are needed.
fn open_finished(path: &Path) -> Result<Connection> {
    let absolute = std::path::absolute(path).map_err(|error| fault::os(Doing::Read, path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(format!("file:{}?immutable=1", escaped(&absolute)), flags)
        .map_err(|error| fault::sqlite(Doing::Read, path, &error, None))?;
    harden(&db).map_err(|error| fault::sqlite(Doing::Read, path, &error, Some(&db)))?;
    Ok(db)
}

/// With its log, alone: a run that still writes has the lock.
fn open_with_log(path: &Path) -> std::result::Result<Connection, (rusqlite::Error, Option<Connection>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|error| (error, None))?;
    let set = || {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA busy_timeout = 0")?;
        harden(&db)?;
        db.query_row("SELECT count(*) FROM recording", (), |row| row.get::<_, i64>(0))
    };
    match set() {
        Ok(_) => Ok(db),
        Err(error) => Err((error, Some(db))),
    }
}

fn open_copy(path: &Path, log: &Path) -> Result<Reading> {
    let copy = Copy::make(path, log)?;
    match open_with_log(&copy.path()) {
        Ok(db) => Ok(Reading { db, _copy: Some(copy) }),
        Err((error, db)) => Err(fault::sqlite(Doing::Read, path, &error, db.as_ref())),
    }
}

/// A file from elsewhere may hold any schema: nothing in it is trusted to be harmless.
fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.execute_batch("PRAGMA query_only = ON; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY")
}

/// A path in a URI (https://sqlite.org/uri.html).
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(char::from(*byte)),
            other => text += &format!("%{other:02X}"),
        }
    }
    text
}

/// A copy in a folder that only we can enter.
struct Copy(PathBuf);

impl Copy {
    fn make(path: &Path, log: &Path) -> Result<Self> {
        let failed = |error| Error::os("copy recording", path.display().to_string(), error);
        let folder = mkdtemp(&std::env::temp_dir().join("netwatch-XXXXXX")).map_err(|errno| failed(errno.into()))?;
        let copy = Self(folder);
        fs::copy(path, copy.path()).map_err(failed)?;
        let [to, ..] = beside(&copy.path());
        fs::copy(log, to).map_err(failed)?;
        Ok(copy)
    }

    fn path(&self) -> PathBuf {
        self.0.join("recording")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
