//! What a run leaves on disk while it lives, under `/run/netwatch`: its journal of undoable changes, its card for
//! `netwatch list`, and a lock that says whether it is alive. Not: reports and recordings, which outlive the run.

mod clean;
mod journal;
mod lock;
pub mod record;
mod run_dir;

pub use clean::{LinkEnds, undo_run, undo_stale};
pub use journal::Journal;
pub use lock::Exclusive;
pub use run_dir::{RunCard, RunDir, RunId, root};
