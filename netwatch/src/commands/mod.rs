//! What each subcommand does.

pub mod run;

use crate::undo::UndoRegistry;

/// How every change that a run makes on the host is undone.
pub(crate) fn undo_steps() -> UndoRegistry {
    let mut steps = crate::host::undo_steps();
    crate::target::register_undo_steps(&mut steps);
    steps
}
