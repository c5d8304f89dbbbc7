//! Makes room in a recording that is being written: flows that ended are folded into their
//! endpoints, oldest first.

use rusqlite::{Connection, Error, Result};

use super::cell::{Cursor, Sums, Wrong};
use super::{processes, rows};
use crate::flow::{Flow, Payload};
use crate::process::{Process, ProcessNumber};
use crate::report::{ApplicationProtocol, DisplayName, TlsFacts};

/// Fraction of the size limit up to which flows keep their rows: the end of the run needs the rest,
/// for endpoints and the series.
const FULL: (u64, u64) = (3, 4);
/// Fraction of the size limit that is in use after flows were folded.
const ROOMY: (u64, u64) = (5, 8);
/// Flows that are folded at once.
const BATCH: u32 = 8_192;
/// So many processes are kept without a search for those that no flow uses, which reads the users
/// of all flows.
const FEW_PROCESSES: u32 = 1_024;

/// The reason of updates of folded flows that came too late to be added to their endpoint.
pub const LATE_UPDATES: &str = "recording.late_updates";

/// Whether flows have to be folded.
pub fn is_full(db: &Connection) -> Result<bool> {
    exceeds(db, FULL)
}

fn exceeds(db: &Connection, (part, whole): (u64, u64)) -> Result<bool> {
    let pragma = |name: &str| {
        let number: i64 = db.query_row(&format!("PRAGMA {name}"), (), |row| row.get(0))?;
        Ok::<_, Error>(number.cast_unsigned())
    };
    let used = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(used * whole > pragma("max_page_count")? * part)
}

/// Removes the oldest flows that ended until there is room, or none is left, and the processes that
/// only they used. Each flow is passed to `fold` first, each process to `removed`, with the number
/// of its parent.
pub fn remove_oldest(
    db: &Connection,
    mut fold: impl FnMut(&Flow),
    mut removed: impl FnMut(Process, Option<ProcessNumber>),
) -> Result<()> {
    while exceeds(db, ROOMY)? {
        let flows = oldest(db)?;
        if flows.is_empty() {
            return Ok(());
        }
        flows.iter().for_each(&mut fold);
        rows::remove_flows(db, &flows.iter().map(|flow| flow.serial).collect::<Vec<_>>())?;
        if has_many_processes(db)? {
            processes::remove_unused(db, &mut removed).map_err(own_error)?;
        }
    }
    Ok(())
}

fn has_many_processes(db: &Connection) -> Result<bool> {
    let count: u32 = db.query_row("SELECT COUNT(*) FROM process", (), |row| row.get(0))?;
    Ok(count > FEW_PROCESSES)
}

fn oldest(db: &Connection) -> Result<Vec<Flow>> {
    let query = format!("SELECT * FROM flow WHERE end_reason IS NOT NULL ORDER BY number LIMIT {BATCH}");
    let mut statement = db.prepare(&query)?;
    let (mut rows, mut sums, mut flows) = (statement.query(())?, Sums::default(), Vec::new());
    while let Some(row) = rows.next()? {
        flows.push(flow(&mut Cursor::new(row, &mut sums)).map_err(own_error)?);
    }
    Ok(flows)
}

fn flow(row: &mut Cursor<'_>) -> std::result::Result<Flow, Wrong> {
    let serial = row.take()?;
    let flow: Flow = row.take()?;
    row.take::<Option<DisplayName>>()?;
    row.take::<Option<ApplicationProtocol>>()?;
    row.take::<Option<Vec<String>>>()?;
    row.take::<Option<TlsFacts>>()?;
    Ok(Flow { serial, payload: row.take::<Payload>()?, ..flow })
}

/// A row that this process has written cannot be wrong, unless the file was changed.
fn own_error(wrong: Wrong) -> Error {
    match wrong {
        Wrong::Sqlite(error) => error,
        Wrong::Value(_) => Error::InvalidQuery,
    }
}
