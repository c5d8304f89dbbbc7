//! The target: the command, the user that it runs as, its environment, and its view of the file
//! system.

pub mod boundary;
pub mod command;
pub mod environment;
pub mod inherited;
pub mod mounts;
pub mod user;

use crate::undo::{UndoCause, UndoRegistry};

/// Registers the step that kills the processes of a dead run's target before anything that they use
/// is undone.
pub fn register_undo_steps(steps: &mut UndoRegistry) {
    steps.register_before(|context| match context.cause {
        UndoCause::Ended => Ok(()),
        UndoCause::Died => mounts::marker::end_processes(&mounts::private_dir(context.dir)),
    });
}
