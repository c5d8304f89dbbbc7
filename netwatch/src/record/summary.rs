//! The summary of a recording for a list: read without its flows.

use std::path::Path;

use super::{Completeness, cell, completeness, fault, file, read, store};
use crate::error::Result;
use crate::flow::{Counters, PerDirection};
use crate::report::{Replay, Run};

/// A recording in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The run.
    pub run: Run,
    /// The capture, if one was replayed.
    pub replay: Option<Replay>,
    /// Traffic of the target.
    pub totals: PerDirection<Counters>,
    /// Whether the recording is complete.
    pub complete: Completeness,
}

/// Reads the summary of a recording.
pub fn summary(path: &Path) -> Result<Summary> {
    let db = file::open(path)?;
    let complete = completeness(path, &db)?;
    read(&db, complete).map_err(|error| fault::wrong(path, &error, Some(&db)))
}

fn read(db: &rusqlite::Connection, complete: Completeness) -> Result<Summary, cell::Wrong> {
    let mut run = read::head(db)?.run;
    if let Completeness::Incomplete { until_ns, .. } = complete {
        run.duration_ns = until_ns.saturating_sub(run.started_ns);
    }
    let totals = read::totals(db)?.remove("run").unwrap_or_default();
    Ok(Summary { run, replay: read::replayed(db)?, totals, complete })
}

/// Whether a run that has not ended writes the recording.
pub fn is_live(path: &Path) -> bool {
    store::is_live(path)
}
