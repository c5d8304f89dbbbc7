//! Consumers of the events of a session, such as a recording. Each has a thread and a bounded
//! queue, so that the session never waits for a consumer. The events are defined by
//! [`crate::session::Event`] and created by the session.

pub mod recording;
mod runner;

pub use runner::{Closing, Feed};

use crate::error::Result;
use crate::session::{Event, EventKinds, Missed};

/// Receives the events of a session in a separate thread.
pub trait Consumer: Send + 'static {
    /// The name of the thread, at most 15 bytes.
    fn name(&self) -> &'static str;

    /// The kinds of events that the consumer wants.
    fn wants(&self) -> EventKinds;

    /// Called once in the thread of the consumer, before all other functions.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// Processes the next events. Not called again after an error.
    fn consume(&mut self, events: Vec<Event>) -> Result<()>;

    /// Called after the last event. `missed` is what the session could not deliver.
    fn finish(&mut self, missed: &Missed) -> Result<()>;
}
