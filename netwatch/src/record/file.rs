//! Opening a recording to read it, whatever state it was left in. Nothing is changed by reading.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::cell::Wrong;
use super::fault::{self, Doing};
use super::regular;
use super::schema::{self, Kind};
use super::store;
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

/// How large it is, with its log.
pub(super) fn bytes(db: &Connection) -> u64 {
    let Some(path) = db.path().map(Path::new) else { return 0 };
    let [log, ..] = beside(path);
    [path, &log].iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

/// Opens it. A run that was killed left a write-ahead log beside it, which is read with it and stays; where that needs a lock or a
/// writable folder that is not to be had, a copy is read. So it is of an older version: the copy becomes one of this version.
pub(super) fn open(path: &Path) -> Result<Reading> {
    open_by(path, &schema::STEPS)
}

fn open_by(path: &Path, all: &[&str]) -> Result<Reading> {
    let failed = |error| fault::os(Doing::Read, path, error);
    let mut file = regular::read(path).map_err(failed)?;
    let steps = Kind::read(&mut file).map_err(failed)?.steps(path, all)?;
    drop(file);
    check_beside(path)?;
    let [log, ..] = beside(path);
    if !steps.is_empty() {
        return open_copy(path, &log, steps);
    }
    if !log.exists() {
        return open_finished(path).map(|db| Reading { db, _copy: None });
    }
    // What cannot be written SQLite opens to read, and then has no lock.
    if !is_writable(path) || !is_writable(&log) {
        return open_copy(path, &log, steps);
    }
    match open_with_log(path, steps) {
        Ok(db) => Ok(Reading { db, _copy: None }),
        Err((wrong, db)) => Err(fault::wrong(path, &wrong, db.as_ref())),
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
    let mut db = Connection::open_with_flags(format!("file:{}?immutable=1", escaped(&absolute)), flags)
        .map_err(|error| fault::sqlite(Doing::Read, path, &error, None))?;
    harden(&mut db, &[]).map_err(|wrong| fault::wrong(path, &wrong, Some(&db)))?;
    Ok(db)
}

/// With its log, alone: a run that still writes has the lock.
fn open_with_log(path: &Path, steps: &[&str]) -> std::result::Result<Connection, (Wrong, Option<Connection>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(|error| (error.into(), None))?;
    let mut set = || {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA busy_timeout = 0")?;
        harden(&mut db, steps)?;
        Ok(db.query_row("SELECT count(*) FROM recording", (), |row| row.get::<_, i64>(0)).map(drop)?)
    };
    match set() {
        Ok(()) => Ok(db),
        Err(wrong) => Err((wrong, Some(db))),
    }
}

fn open_copy(path: &Path, log: &Path, steps: &[&str]) -> Result<Reading> {
    // Nobody writes the copy, so its lock says nothing.
    if store::is_live(path) {
        return Err(fault::busy(Doing::Read, path));
    }
    let copy = Copy::make(path, log)?;
    match open_with_log(&copy.path(), steps) {
        Ok(db) => Ok(Reading { db, _copy: Some(copy) }),
        Err((wrong, db)) => Err(fault::wrong(path, &wrong, db.as_ref())),
    }
}

/// Bytes that a value or a row may have. The longest is a command as JSON: its arguments are 6 MiB at most (execve(2)), and each byte of them at most six.
const LONGEST: i32 = 64 << 20;

/// A file from elsewhere may hold any schema: nothing in it is trusted to be harmless, and a view in place of a table could have rows without end.
fn harden(db: &mut Connection, steps: &[&str]) -> std::result::Result<(), Wrong> {
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST)?;
    limit_work(db)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY")?;
    refuse_unstored(db)?;
    steps.iter().try_for_each(|step| db.execute_batch(step))?;
    Ok(db.execute_batch("PRAGMA query_only = ON")?)
}

/// Ends what takes more of SQLite's instructions than reading all of the file does: in a damaged one a page may be many places of many tables, and what
/// is sorted is in memory before its first row is seen. Recordings of thirty thousand flows were read within two for each byte.
fn limit_work(db: &mut Connection) -> rusqlite::Result<()> {
    const EACH: i32 = 1 << 16;
    let mut left = (1 << 20) + 8 * bytes(db);
    let is_over = move || {
        left = left.saturating_sub(EACH as u64);
        left == 0
    };
    db.progress_handler(EACH, Some(is_over))
}

/// What a column computes, what stands for one that a row lacks, and what a virtual table's module makes up can be any number of times as large as
/// the file. No recording has any of these. Views are refused when they are read.
fn refuse_unstored(db: &Connection) -> std::result::Result<(), Wrong> {
    const UNSTORED: &str = "
        SELECT name, 'is a virtual table' FROM pragma_table_list
        WHERE schema = 'main' AND type NOT IN ('table', 'view', 'shadow')
        UNION ALL
        SELECT t.name, iif(c.hidden <> 0, 'has computed columns', 'has default values')
        FROM pragma_table_list AS t JOIN pragma_table_xinfo(t.name, 'main') AS c
        WHERE t.schema = 'main' AND t.type = 'table' AND (c.hidden <> 0 OR c.dflt_value IS NOT NULL)";
    let mut statement = db.prepare(UNSTORED)?;
    let mut rows = statement.query(())?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (table, what): (String, String) = (row.get(0)?, row.get(1)?);
    Err(Wrong::Value(format!("its tables are not a recording's: '{}' {what}", table.escape_default())))
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

/// Not its mode: what may only be read has to be written as a copy.
fn copy_bytes(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut regular::read(from)?, &mut File::create_new(to)?).map(drop)
}

/// A copy in a folder that only we can enter.
pub(super) struct Copy(PathBuf);

impl Copy {
    fn make(path: &Path, log: &Path) -> Result<Self> {
        let failed = |error| Error::os("copy recording", path.display().to_string(), error);
        let folder = mkdtemp(&std::env::temp_dir().join("netwatch-XXXXXX")).map_err(|errno| failed(errno.into()))?;
        let copy = Self(folder);
        copy_bytes(path, &copy.path()).map_err(failed)?;
        let [to, ..] = beside(&copy.path());
        if log.exists() {
            copy_bytes(log, &to).map_err(failed)?;
        }
        Ok(copy)
    }

    /// A recording that was received from another process.
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self> {
        let failed = |error| Error::os("write", "a snapshot", error);
        let folder = mkdtemp(&std::env::temp_dir().join("netwatch-XXXXXX")).map_err(|errno| failed(errno.into()))?;
        let copy = Self(folder);
        fs::write(copy.path(), bytes).map_err(failed)?;
        Ok(copy)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.join("recording")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{create, store};

    /// As of a netwatch that has seen three versions: `note` got a column, and then every one in it was made anew.
    const MADE_UP: [&str; 2] =
        ["ALTER TABLE note ADD COLUMN lines INTEGER NOT NULL DEFAULT 7", "UPDATE note SET lines = lines * 6"];

    /// A file of this version, with one note.
    fn recording(folder: &Path) -> PathBuf {
        let path = folder.join("run.netwatch");
        let claim = create::prepare(&path).expect("free");
        let db = create::begin(&path, &claim, 1 << 20).expect("begun");
        db.execute("INSERT INTO recording VALUES ('running', 1, 0)", ()).expect("written");
        db.execute("INSERT INTO note VALUES (0, 'a note')", ()).expect("written");
        create::finish(&db).expect("finished");
        drop(db);
        as_version(&path, 1);
        path
    }

    fn as_version(path: &Path, version: u32) {
        Connection::open(path).expect("opened").pragma_update(None, "user_version", version).expect("written");
    }

    fn lines(reading: &Reading) -> i64 {
        reading.db.query_row("SELECT lines FROM note", (), |row| row.get(0)).expect("a number")
    }

    /// Every file there, as it is.
    fn content(folder: &Path) -> Vec<(OsString, Vec<u8>)> {
        let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a file"))).collect();
        files.sort();
        files
    }

    #[test]
    fn an_older_version_is_read_by_the_steps_that_it_lacks_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("changed");
        let before = content(folder.path());
        let reading = open_by(&path, &MADE_UP).expect("an older one");
        assert_eq!(lines(&reading), 42);
        assert!(reading.db.execute("UPDATE note SET lines = 1", ()).is_err(), "nobody changes it");
        let copy = reading._copy.as_ref().expect("a copy").path();
        drop(reading);
        assert!(!copy.exists());
        assert_eq!(content(folder.path()), before);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("changed");
        // As its schema.sql would have made it.
        let newer = "DROP TABLE note; CREATE TABLE note (position INTEGER PRIMARY KEY, text TEXT NOT NULL, lines INTEGER NOT NULL);
                     INSERT INTO note VALUES (0, 'a note', 7)";
        Connection::open(&path).expect("opened").execute_batch(newer).expect("changed");
        as_version(&path, 2);
        assert_eq!(lines(&open_by(&path, &MADE_UP).expect("of the second version")), 42);
        as_version(&path, 3);
        assert_eq!(lines(&open_by(&path, &MADE_UP).expect("of the newest version")), 7);
    }

    #[test]
    fn an_older_version_is_read_with_the_log_of_a_run_that_was_killed() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        let (killed, [log, ..]) = (folder.path().join("killed"), beside(&path));
        let db = Connection::open(&path).expect("opened");
        db.execute_batch("PRAGMA journal_mode = WAL; UPDATE note SET text = 'later'").expect("written");
        fs::create_dir(&killed).expect("a directory");
        let killed = killed.join("run.netwatch");
        fs::copy(&path, &killed).expect("copied");
        fs::copy(&log, &beside(&killed)[0]).expect("copied");
        drop(db);
        let before = content(killed.parent().expect("a folder"));
        let reading = open_by(&killed, &MADE_UP).expect("an older one");
        let text: String = reading.db.query_row("SELECT text FROM note", (), |row| row.get(0)).expect("a text");
        assert_eq!((lines(&reading), text.as_str()), (42, "later"));
        drop(reading);
        assert_eq!(content(killed.parent().expect("a folder")), before);
        store::remove(&killed).expect("removed");
    }

    #[test]
    fn an_older_version_that_a_run_still_writes_is_not_copied() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        // As a run has it that begins: SQLite's own lock would not keep off its own process.
        let claim = create::prepare(&path).expect("free");
        let error = open_by(&path, &MADE_UP).err().expect("busy").to_string();
        assert!(error.contains("a run that still goes on writes it"), "{error}");
        drop(claim);
        assert_eq!(lines(&open_by(&path, &MADE_UP).expect("of a run that is over")), 42);
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        let reading = open(&path).expect("a recording");
        let rows = "WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row LIMIT 100000000) SELECT count(*) FROM row";
        let error = reading.db.query_row(rows, (), |_| Ok(())).expect_err("too many");
        let error = fault::sqlite(Doing::Read, &path, &error, Some(&reading.db)).to_string();
        assert!(error.contains("the file is damaged: there is more to read than it has bytes"), "{error}");
    }

    #[test]
    fn versions_that_nobody_knows_are_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        for (version, why) in [
            (0, "it has the mark of a recording, but no version: no netwatch wrote it"),
            (4, "a newer netwatch wrote it (schema 4, this one reads up to 3); use that netwatch"),
            (u32::MAX >> 1, "a newer netwatch wrote it (schema 2147483647, this one reads up to 3)"),
        ] {
            as_version(&path, version);
            let error = open_by(&path, &MADE_UP).err().expect("refused").to_string();
            assert!(error.contains(why), "{version}: {error}");
        }
    }
}
