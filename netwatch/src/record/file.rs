//! Opens a recording to read it, in whatever state it was left. Reading changes nothing.

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
use super::fault::{self, RecordingOperation};
use super::regular;
use super::schema::{self, FileKind};
use super::store;
use crate::error::{Error, Result};

/// The files that SQLite creates beside a database while it is open, and leaves if it is not
/// closed.
pub(super) fn beside(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        name.into()
    })
}

/// Size that an open recording had with its log, in bytes.
pub(super) fn size(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT bytes FROM temp.opened", (), |row| row.get(0).map(i64::cast_unsigned))
}

/// Keeps the size for [`size`]: the file of a copy has no name any more when it is read.
pub(super) fn keep_size(db: &Connection, size: u64) -> rusqlite::Result<()> {
    db.execute_batch(&format!("CREATE TEMP TABLE opened AS SELECT {size} AS bytes"))
}

/// Size of the database with its log, in bytes.
fn bytes(db: &Connection) -> u64 {
    let Some(path) = db.path().map(Path::new) else { return 0 };
    let [log, ..] = beside(path);
    [path, &log].iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

/// Opens a recording. The write-ahead log that a killed run left beside it is read too and stays.
/// If files that this needs cannot be written, a copy is read. A recording of an older version is
/// upgraded in a copy.
pub(super) fn open(path: &Path) -> Result<Connection> {
    open_by(path, &schema::STEPS)
}

fn open_by(path: &Path, all: &[&str]) -> Result<Connection> {
    let failed = |error| fault::os(RecordingOperation::Read, path, error);
    let mut file = regular::read(path).map_err(failed)?;
    let steps = FileKind::read(&mut file).map_err(failed)?.steps(path, all)?;
    drop(file);
    check_beside(path)?;
    let [log, ..] = beside(path);
    if !steps.is_empty() {
        return open_copy(path, &log, steps);
    }
    if !log.exists() {
        return open_finished(path);
    }
    // SQLite needs both for writing to read the log.
    if !is_writable(path) || !is_writable(&log) {
        return open_copy(path, &log, steps);
    }
    refuse_live(path)?;
    let opened = open_with_log(path, steps).map_err(|(wrong, db)| fault::wrong(path, &wrong, db.as_ref()));
    // A run may have begun to write it meanwhile.
    refuse_live(path).and(opened)
}

/// Opens the bytes of a recording, without a file.
pub(super) fn open_bytes(bytes: &[u8], name: &Path) -> Result<Connection> {
    let failed = |error: rusqlite::Error| fault::sqlite(RecordingOperation::Read, name, &error, None);
    let kind = FileKind::read(&mut &*bytes).map_err(|error| fault::os(RecordingOperation::Read, name, error))?;
    let steps = kind.steps(name, &schema::STEPS)?;
    let mut db = Connection::open_in_memory().map_err(failed)?;
    db.deserialize_read_exact("main", bytes, bytes.len(), false).map_err(failed)?;
    let size = bytes.len() as u64;
    let hardened = refuse_partial_page(&db, size).and_then(|()| harden(&mut db, steps, size));
    hardened.map_err(|wrong| fault::wrong(name, &wrong, Some(&db)))?;
    Ok(db)
}

fn is_writable(path: &Path) -> bool {
    regular::open(path, OpenOptions::new().append(true), 0).is_ok()
}

/// SQLite opens the files beside the database, and would wait for the other end of a FIFO.
fn check_beside(path: &Path) -> Result<()> {
    let is_not_a_file = |beside: &PathBuf| fs::symlink_metadata(beside).is_ok_and(|data| !data.is_file());
    match beside(path).iter().find(|beside| is_not_a_file(beside)) {
        Some(other) => Err(fault::other(RecordingOperation::Read, path, format!("{} is not a file", other.display()))),
        None => Ok(()),
    }
}

/// A recording without a log is not being written: reading it needs neither locks nor a writable
/// folder.
fn open_finished(path: &Path) -> Result<Connection> {
    let absolute = std::path::absolute(path).map_err(|error| fault::os(RecordingOperation::Read, path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(format!("file:{}?immutable=1", escaped(&absolute)), flags)
        .map_err(|error| fault::sqlite(RecordingOperation::Read, path, &error, None))?;
    let size = bytes(&db);
    let hardened = refuse_partial_page(&db, size).and_then(|()| harden(&mut db, &[], size));
    hardened.map_err(|wrong| fault::wrong(path, &wrong, Some(&db)))?;
    Ok(db)
}

/// SQLite without locks, which mark a recording that is being written: a reader is none.
const NO_LOCKS: &std::ffi::CStr = c"unix-none";

/// With its log, which nothing writes. SQLite keeps its index of the log in memory.
fn open_with_log(path: &Path, steps: &[&str]) -> std::result::Result<Connection, (Wrong, Option<Connection>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags_and_vfs(path, flags, NO_LOCKS);
    let mut db = opened.map_err(|error| (error.into(), None))?;
    let mut set = || {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
        let size = bytes(&db);
        harden(&mut db, steps, size)?;
        Ok(db.query_row("SELECT count(*) FROM recording", (), |row| row.get::<_, i64>(0)).map(drop)?)
    };
    match set() {
        Ok(()) => Ok(db),
        Err(wrong) => Err((wrong, Some(db))),
    }
}

/// Fails while a run writes the recording. Only writers lock it.
fn refuse_live(path: &Path) -> Result<()> {
    if store::is_live(path) { Err(fault::busy(RecordingOperation::Read, path)) } else { Ok(()) }
}

/// SQLite holds the files of the copy open, so their names are removed at once: a process that is
/// killed leaves nothing.
fn open_copy(path: &Path, log: &Path, steps: &[&str]) -> Result<Connection> {
    refuse_live(path)?;
    let copy = Copy::make(path, log)?;
    open_with_log(&copy.path(), steps).map_err(|(wrong, db)| fault::wrong(path, &wrong, db.as_ref()))
}

/// Maximum bytes of a value or row. The longest is a command as JSON: arguments are at most 6 MiB
/// (execve(2)), and each of their bytes is at most six in JSON.
const MAX_ROW_BYTES: i32 = 64 << 20;

/// SQLite reads what is missing of the last page as zeros, which can be valid numbers.
fn refuse_partial_page(db: &Connection, size: u64) -> std::result::Result<(), Wrong> {
    let page: i64 = db.query_row("PRAGMA page_size", (), |row| row.get(0))?;
    let is_whole = u64::try_from(page).is_ok_and(|page| page > 0 && size.is_multiple_of(page));
    if is_whole { Ok(()) } else { Err(Wrong::Value("it is truncated or corrupt".to_owned())) }
}

/// A file of unknown origin may hold any schema: nothing in it is trusted, and a view in place of a
/// table could have an endless number of rows.
fn harden(db: &mut Connection, steps: &[&str], size: u64) -> std::result::Result<(), Wrong> {
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)?;
    limit_work(db, size)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY")?;
    keep_size(db, size)?;
    refuse_unstored(db)?;
    steps.iter().try_for_each(|step| db.execute_batch(step))?;
    Ok(db.execute_batch("PRAGMA query_only = ON")?)
}

/// Aborts a query that takes more of SQLite's instructions than reading the whole file does: in a
/// damaged file one page may be part of many tables, and sorted rows are held in memory before the
/// first one is returned. Recordings of 30,000 flows took less than two instructions for each byte.
fn limit_work(db: &mut Connection, size: u64) -> rusqlite::Result<()> {
    const EACH: i32 = 1 << 16;
    let mut left = (1 << 20) + 8 * size;
    let is_exhausted = move || {
        left = left.saturating_sub(EACH as u64);
        left == 0
    };
    db.progress_handler(EACH, Some(is_exhausted))
}

/// Computed columns, default values and virtual tables can produce far more data than the file
/// holds. No recording has them. Views are refused when they are read.
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
    Err(Wrong::Value(format!("its tables are not those of a recording: '{}' {what}", table.escape_default())))
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

/// Copies without the mode: the copy of a read-only file must be writable.
fn copy_bytes(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut regular::read(from)?, &mut File::create_new(to)?).map(drop)
}

/// A copy in a private folder, which is removed when this is dropped.
struct Copy(PathBuf);

impl Copy {
    fn make(path: &Path, log: &Path) -> Result<Self> {
        let failed = |error| Error::os("copy recording", path.display().to_string(), error);
        let copy = Self::new_folder().map_err(failed)?;
        copy_bytes(path, &copy.path()).map_err(failed)?;
        let [to, ..] = beside(&copy.path());
        if log.exists() {
            copy_bytes(log, &to).map_err(failed)?;
        }
        Ok(copy)
    }

    /// A new folder for temporary files that only this user can access (mkdtemp(3)).
    fn new_folder() -> io::Result<Self> {
        Ok(Self(mkdtemp(&std::env::temp_dir().join("netwatch-XXXXXX"))?))
    }

    fn path(&self) -> PathBuf {
        self.0.join("recording")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // If removing fails, the copy stays in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{create, store};

    /// The steps of an imaginary third version: `note` got a column, whose values then changed.
    const STEPS_TO_3: [&str; 2] =
        ["ALTER TABLE note ADD COLUMN lines INTEGER NOT NULL DEFAULT 7", "UPDATE note SET lines = lines * 6"];

    /// A file of version 1, with one note.
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

    fn lines(db: &Connection) -> i64 {
        db.query_row("SELECT lines FROM note", (), |row| row.get(0)).expect("a number")
    }

    /// A recording of the newest version beside the log of a killed run, whose note is "later".
    fn of_killed_run(folder: &Path) -> PathBuf {
        let path = recording(folder);
        as_version(&path, schema::VERSION);
        let killed = folder.join("killed.netwatch");
        let db = Connection::open(&path).expect("opened");
        db.execute_batch("PRAGMA journal_mode = WAL; UPDATE note SET text = 'later'").expect("written");
        fs::copy(&path, &killed).expect("copied");
        fs::copy(&beside(&path)[0], &beside(&killed)[0]).expect("copied");
        killed
    }

    #[test]
    fn many_readers_read_the_log_of_a_killed_run_at_the_same_time() {
        let folder = tempfile::tempdir().expect("a directory");
        let killed = of_killed_run(folder.path());
        let before = content(folder.path());
        let all_open = std::sync::Barrier::new(4);
        let read = || {
            let reading = open(&killed).expect("no run writes it");
            assert!(!store::is_live(&killed), "a reader is no run");
            all_open.wait();
            reading.query_row("SELECT text FROM note", (), |row| row.get::<_, String>(0)).expect("a text")
        };
        let texts = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
            readers.into_iter().map(|reader| reader.join().expect("read")).collect::<Vec<_>>()
        });
        assert_eq!(texts, ["later"; 4]);
        assert_eq!(content(folder.path()), before);
    }

    #[test]
    fn a_recording_that_is_being_written_beside_its_log_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let killed = of_killed_run(folder.path());
        let claim = create::prepare(&killed).expect("free");
        let error = open(&killed).expect_err("busy").to_string();
        assert!(error.contains("a run that has not ended writes it"), "{error}");
        drop(claim);
        open(&killed).expect("of a run that has ended");
    }

    /// The content of every file in a folder.
    fn content(folder: &Path) -> Vec<(OsString, Vec<u8>)> {
        let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a file"))).collect();
        files.sort();
        files
    }

    #[test]
    fn an_older_version_is_upgraded_in_a_copy_and_stays_unchanged() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("changed");
        let before = content(folder.path());
        let reading = open_by(&path, &STEPS_TO_3).expect("an older one");
        assert_eq!(lines(&reading), 42);
        assert!(reading.execute("UPDATE note SET lines = 1", ()).is_err(), "the copy is read-only");
        let copy = Path::new(reading.path().expect("a file")).to_owned();
        assert!(copy != path && !copy.exists() && !copy.parent().expect("a folder").exists());
        assert_eq!(lines(&reading), 42, "it is open");
        drop(reading);
        assert_eq!(content(folder.path()), before);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("changed");
        // The tables of version 3.
        let newer = "DROP TABLE note; CREATE TABLE note (position INTEGER PRIMARY KEY, text TEXT NOT NULL, lines INTEGER NOT NULL);
                     INSERT INTO note VALUES (0, 'a note', 7)";
        Connection::open(&path).expect("opened").execute_batch(newer).expect("changed");
        as_version(&path, 2);
        assert_eq!(lines(&open_by(&path, &STEPS_TO_3).expect("of the second version")), 42);
        as_version(&path, 3);
        assert_eq!(lines(&open_by(&path, &STEPS_TO_3).expect("of the newest version")), 7);
    }

    #[test]
    fn an_older_version_is_read_with_the_log_of_a_killed_run() {
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
        let reading = open_by(&killed, &STEPS_TO_3).expect("an older one");
        let text: String = reading.query_row("SELECT text FROM note", (), |row| row.get(0)).expect("a text");
        assert_eq!((lines(&reading), text.as_str()), (42, "later"));
        drop(reading);
        assert_eq!(content(killed.parent().expect("a folder")), before);
        store::remove(&killed).expect("removed");
    }

    #[test]
    fn an_older_version_that_a_running_session_writes_is_not_copied() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        // Reserved as by a run that begins: SQLite's lock would not exclude its own process.
        let claim = create::prepare(&path).expect("free");
        let error = open_by(&path, &STEPS_TO_3).expect_err("busy").to_string();
        assert!(error.contains("a run that has not ended writes it"), "{error}");
        assert!(error.contains("use `netwatch report RUN-ID` as root"), "{error}");
        drop(claim);
        assert_eq!(lines(&open_by(&path, &STEPS_TO_3).expect("of a run that has ended")), 42);
    }

    #[test]
    fn endless_queries_are_aborted() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        as_version(&path, schema::VERSION);
        let reading = open(&path).expect("a recording");
        let rows = "WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row LIMIT 100000000) SELECT count(*) FROM row";
        let error = reading.query_row(rows, (), |_| Ok(())).expect_err("too many");
        let error = fault::sqlite(RecordingOperation::Read, &path, &error, Some(&reading)).to_string();
        assert!(error.contains("the file is damaged: reading takes more work than its size allows"), "{error}");
    }

    #[test]
    fn unknown_versions_are_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = recording(folder.path());
        for (version, why) in [
            (0, "it is marked as a recording but has no version"),
            (4, "a newer netwatch wrote it (schema 4, this one reads up to 3); use that netwatch"),
            (u32::MAX >> 1, "a newer netwatch wrote it (schema 2147483647, this one reads up to 3)"),
        ] {
            as_version(&path, version);
            let error = open_by(&path, &STEPS_TO_3).expect_err("refused").to_string();
            assert!(error.contains(why), "{version}: {error}");
        }
    }
}
