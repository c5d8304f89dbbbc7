//! The target: the command, the user that it runs as, its environment, and its view of the file
//! system.

pub mod boundary;
pub mod command;
pub mod environment;
pub mod inherited;
pub mod mounts;
pub mod user;

use crate::undo::{UndoCause, UndoRegistry};

/// Registers what undoing a dead run does to the processes of its target: they are killed first, so
/// that none uses what is undone.
pub fn register_undo_steps(steps: &mut UndoRegistry) {
    steps.register_before(|context| match context.cause {
        UndoCause::Ended => Ok(()),
        UndoCause::Died => mounts::marker::end_processes(&mounts::private_dir(context.dir)),
    });
}
