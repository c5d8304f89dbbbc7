//! The live view of a run: a model of the run that grows with updates, tables and charts of it, and
//! what keys and the mouse do. Draws into a buffer; the terminal, the clock and the connection to
//! the run belong to `commands/top`.

mod draw;
mod log;
mod model;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub use model::{MAX_FLOWS, Model};
pub use rows::View;
pub use state::{Dashboard, Input, Key};
pub use update::{Tick, Update, VERSION, WANTED};
