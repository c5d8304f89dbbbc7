//! Undoes what runs changed on the host. Each run has a directory under `/run/netwatch` while it is
//! alive, with the journal of its changes; the registry contains the functions that undo them. The
//! modules that make the changes define the records and register these functions, so this module
//! imports none of them.

mod holder;
mod journal;
mod lock;
mod registry;
mod run_dir;

pub use journal::{Journal, JournalLine, UndoRecord};
pub use lock::Exclusive;
pub use registry::{UndoCause, UndoContext, UndoRegistry};
pub use run_dir::{RunCard, RunDir, RunId, root};
