//! Consumers of a session's events: a recording, and whatever else a user wants fed. Each has a
//! thread of its own and a bounded queue, so that the session never waits for one. Not: which
//! events there are ([`crate::session::Event`]), nor when they are made.

pub mod recording;
mod runner;

pub use runner::{Closing, Feed};

use crate::error::Result;
use crate::session::{Event, EventKinds, Missed};

/// Receives the events of a session, in a thread of its own.
pub trait Consumer: Send + 'static {
    /// The name of its thread, at most 15 bytes.
    fn name(&self) -> &'static str;

    /// The kinds of events that it wants.
    fn wants(&self) -> EventKinds;

    /// Called once in the consumer's thread, before anything else.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes the next events, in their order. After an error it is not called again.
    fn consume(&mut self, events: Vec<Event>) -> Result<()>;

    /// No more events will come. `missed` is what the session could not deliver.
    fn finish(&mut self, missed: &Missed) -> Result<()>;
}
