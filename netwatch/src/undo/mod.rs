//! Undoing what runs changed on the host: the directory that each run keeps under `/run/netwatch`
//! while it lives, the journal of its changes in it, and the registry of functions that undo them.
//! Not the changes themselves: the modules that make them define their records and register how
//! each is undone, so this module imports none of them.

mod holder;
mod journal;
mod lock;
mod registry;
mod run_dir;

pub use journal::{Journal, JournalLine, UndoRecord};
pub use lock::Exclusive;
pub use registry::{UndoCause, UndoContext, UndoRegistry};
pub use run_dir::{RunCard, RunDir, RunId, root};
