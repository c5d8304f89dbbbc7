//! Consumers of the events of a session, such as a recording. Each has a thread and a bounded
//! queue, so that the session never waits for a consumer. The events are defined by
//! [`crate::session::Event`] and created by the session.

mod discards;
pub mod events;
mod finished;
pub mod ipfix;
pub mod metrics;
pub mod otlp;
pub mod recording;
mod remembered;
mod runner;

pub use discards::Discards;
pub use runner::{Closing, FINISH_TIMEOUT, Feed};

use std::sync::Arc;

use crate::error::Result;
use crate::session::{Event, EventKinds, Missed};

/// Receives the events of a session in a separate thread.
pub trait Consumer: Send + 'static {
    /// What it makes, for messages ("recording"). Also the name of its thread, at most 15 bytes.
    fn name(&self) -> &'static str;

    /// The kinds of events that the consumer wants.
    fn wants(&self) -> EventKinds;

    /// Whether the end of a run waits for this consumer, and a failure becomes a note. Not so for a
    /// viewer, which may disconnect at any time.
    fn is_essential(&self) -> bool {
        true
    }

    /// What it discards instead of waiting for a receiver, for the report.
    fn discards(&self) -> Option<Arc<Discards>> {
        None
    }

    /// Called once in the thread of the consumer, before all other functions.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// Processes the next events. Not called again after an error.
    fn consume(&mut self, events: Vec<Event>) -> Result<()>;

    /// No more events will come. If the session was concluded and there was no [`Event::Finished`],
    /// the session stopped to wait for this consumer, and an error has to be returned.
    fn finish(&mut self, end: &StreamEnd) -> Result<()>;
}

/// Why no more events come.
#[derive(Debug)]
pub enum StreamEnd {
    /// The session was concluded; these changes could not be delivered.
    Concluded(Box<Missed>),
    /// The run failed before the session was concluded.
    Abandoned,
}
