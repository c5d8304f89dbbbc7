//! Recordings: runs stored in files, from which every report can be generated again without root.
//! docs/recording.md describes the file. Does not write reports in other formats.

mod cell;
mod cells;
mod create;
mod destination;
mod fault;
mod file;
pub mod fold;
mod processes;
mod read;
mod regular;
mod remainder;
pub mod rows;
mod schema;
mod store;
mod summary;
mod table;
mod unfinished;

use std::path::Path;

pub use create::Claim;
pub use destination::{Destination, OpenRecording, RecordingPlace};
pub use schema::VERSION;
pub use store::{Keep, MIN_ID_DIGITS, RunKind, Store, Stored, remove};
pub use summary::{Summary, is_live, summary};

use crate::error::{Error, Result};
use crate::report::Report;
use crate::rights;
use fault::RecordingOperation;

/// A recorded run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its report.
    pub report: Report,
    /// Whether the recording is complete.
    pub complete: Completeness,
}

/// Whether a recording holds the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// It holds the whole run.
    Complete,
    /// netwatch was killed, or the disk was full.
    Incomplete {
        /// The end of the recorded data, nanoseconds since the Unix epoch.
        until_ns: u64,
        /// Flows with changes by then that were not written.
        waiting_flows: u64,
    },
}

/// An error of SQLite while a recording is written.
pub fn write_failed(path: &Path, error: &rusqlite::Error, db: &rusqlite::Connection) -> Error {
    fault::sqlite(RecordingOperation::Write, path, error, Some(db))
}

/// Merges the log into the file, so that it can be read where nothing can be written.
pub fn close(db: &rusqlite::Connection) -> rusqlite::Result<()> {
    create::finish(db)
}

/// A report as the bytes of a recording, for a reader in another process.
pub fn to_bytes(report: &Report) -> Result<Vec<u8>> {
    let failed = |error: rusqlite::Error| Error::other("make", "a snapshot", error.to_string());
    let mut db = rusqlite::Connection::open_in_memory().map_err(failed)?;
    schema::create(&db).map_err(failed)?;
    write_whole(&mut db, report).map_err(failed)?;
    db.serialize("main").map(|data| data.to_vec()).map_err(failed)
}

/// Reads the result of [`to_bytes`].
pub fn from_bytes(bytes: &[u8]) -> Result<Recorded> {
    let name = Path::new("a snapshot");
    read_from(&file::open_bytes(bytes, name)?, name)
}

/// Reads a run by number (1 is the newest), id, or file; `None` is the newest.
pub fn open(selector: Option<&str>) -> Result<Recorded> {
    let user = rights::caller()?;
    let store = Store::of(&user)?;
    rights::as_user((user.uid, user.gid), || read_file(&store.find(selector)?))
}

/// The id of the run that a selector means, if that run is in progress and is recorded in the
/// user's folder.
pub fn live_id(selector: Option<&str>) -> Option<String> {
    let user = rights::caller().ok()?;
    let find = || Store::of(&user)?.find(selector).map(|path| is_live(&path).then(|| store::run_id(&path)).flatten());
    rights::as_user((user.uid, user.gid), find).ok().flatten()
}

/// Fails unless this file is a recording, of any version, so that no other file is removed. An
/// empty file is refused too.
pub fn check(path: &Path) -> Result<()> {
    match schema::FileKind::of(path).map_err(|error| fault::os(RecordingOperation::Read, path, error))? {
        schema::FileKind::Recording(_) => Ok(()),
        other => other.steps(path, &schema::STEPS).map(drop),
    }
}

/// Reads the recording in this file.
pub fn read_file(path: &Path) -> Result<Recorded> {
    read_from(&file::open(path)?, path)
}

fn read_from(db: &rusqlite::Connection, path: &Path) -> Result<Recorded> {
    let wrong = |error: cell::Wrong| fault::wrong(path, &error, Some(db));
    let complete = completeness(path, db)?;
    let mut report = match complete {
        Completeness::Complete => read::report(db).map_err(wrong)?,
        Completeness::Incomplete { until_ns, waiting_flows } => {
            incomplete(unfinished::report(db).map_err(wrong)?, until_ns, waiting_flows)
        }
    };
    report.notes.extend(late_updates(read::LossCounts::read(db).map_err(wrong)?.late_updates()));
    Ok(Recorded { report, complete })
}

/// What is not exact if updates of folded flows came too late.
fn late_updates(count: u64) -> Option<String> {
    let updates = match count {
        0 => return None,
        1 => "1 update of a folded flow".to_owned(),
        many => format!("{many} updates of folded flows"),
    };
    Some(format!("the recording was nearly full: {updates} came too late, so the counts of folded flows are not exact"))
}

/// Adds the end of the recorded data to the report.
fn incomplete(mut report: Report, until_ns: u64, waiting_flows: u64) -> Report {
    report.run.duration_ns = until_ns.saturating_sub(report.run.started_ns);
    let until = crate::format::rfc3339(until_ns);
    let waiting = match waiting_flows {
        0 => String::new(),
        1 => "; 1 flow had changed and was not written".to_owned(),
        many => format!("; {many} flows had changed and were not written"),
    };
    report.notes.push(format!("the recording is incomplete: it ends at {until}, what followed is unknown{waiting}"));
    report
}

fn completeness(path: &Path, db: &rusqlite::Connection) -> Result<Completeness> {
    let state = table::read_first(db, "recording", |row| {
        let (state, until_ns) = (row.take()?, row.take()?);
        let waiting_flows = row.take::<cell::Count>()?.into();
        Ok(match state {
            rows::RecordingState::Complete => Completeness::Complete,
            rows::RecordingState::Running => Completeness::Incomplete { until_ns, waiting_flows },
        })
    });
    state.map_err(|error| fault::wrong(path, &error, Some(db)))?.ok_or_else(|| nothing(path, db))
}

/// Why a recording contains nothing of its run.
fn nothing(path: &Path, db: &rusqlite::Connection) -> Error {
    let why = read::notes(db).ok().and_then(|notes| notes.into_iter().next());
    let why = why.unwrap_or_else(|| "the run was killed in its first second".to_owned());
    fault::other(RecordingOperation::Read, path, format!("nothing was written: {why}"))
}

/// After a failure to write: if nothing of the run was written, notes the cause in the recording.
/// A full disk may prevent that.
pub fn note_failure(db: &rusqlite::Connection, error: &Error) {
    /// Pages beyond the size limit for the note.
    const NOTE_PAGES: i64 = 4;
    let note = || -> rusqlite::Result<()> {
        if db.query_row("SELECT count(*) FROM recording", [], |row| row.get::<_, i64>(0))? > 0 {
            return Ok(());
        }
        let pages: i64 = db.query_row("PRAGMA max_page_count", [], |row| row.get(0))?;
        db.query_row(&format!("PRAGMA max_page_count = {}", pages + NOTE_PAGES), [], |_| Ok(()))?;
        rows::replace_notes(db, &[error.to_string()])
    };
    // The error itself is reported in any case.
    let _ = note();
}

/// Maximum number of recordings in one report or comparison. Four columns are summed over several
/// recordings (failed attempts), and the counts of a column are at most 2^53 in each: so no sum
/// overflows, regardless of who wrote the files.
pub const MAX_RUNS: usize = 500;
const _: () = assert!(MAX_RUNS < (1 << (64 - 53)) / 4);

/// Default size limit of a recording in bytes.
pub const DEFAULT_LIMIT_BYTES: u64 = 512 << 20;

/// Writes a finished run into a file that its owner alone can read. An older recording is replaced;
/// any other file is refused.
pub fn write_file(path: &Path, report: &Report) -> Result<()> {
    let claim = create::prepare(path)?;
    let mut db = create::begin(path, &claim, DEFAULT_LIMIT_BYTES)?;
    let written = write_whole(&mut db, report).and_then(|()| close(&db));
    written.map_err(|error| write_failed(path, &error, &db))
}

fn write_whole(db: &mut rusqlite::Connection, report: &Report) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    rows::write_all(&transaction, report)?;
    let until_ns = report.run.started_ns.saturating_add(report.run.duration_ns);
    rows::recording(&transaction, rows::RecordingState::Complete, until_ns, 0)?;
    transaction.commit()
}
