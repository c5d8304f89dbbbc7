//! Consumers of a session's events: a recording, and whatever else a user wants fed. Each has a
//! thread of its own and a bounded queue, so that the session never waits for one. Not: which
//! events there are ([`crate::session::Event`]), nor when they are made.

pub mod recording;
mod runner;

pub use runner::{Closing, FINISH_TIMEOUT, Feed};

use crate::error::Result;
use crate::session::{Event, EventKinds, Missed};

/// Receives the events of a session, in a thread of its own.
pub trait Consumer: Send + 'static {
    /// What it makes, for messages ("recording"). Also the name of its thread, at most 15 bytes.
    fn name(&self) -> &'static str;

    /// The kinds of events that it wants.
    fn wants(&self) -> EventKinds;

    /// Called once in the consumer's thread, before anything else.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes the next events, in their order. After an error it is not called again.
    fn consume(&mut self, events: Vec<Event>) -> Result<()>;

    /// No more events will come. If the session was concluded and there was no [`Event::Finished`],
    /// the session stopped to wait for this consumer, and an error has to be returned.
    fn finish(&mut self, end: &StreamEnd) -> Result<()>;
}

/// Why no more events come.
#[derive(Debug)]
pub enum StreamEnd {
    /// The session was concluded; these changes could not be delivered.
    Concluded(Missed),
    /// The run failed before the session was concluded.
    Abandoned,
}
