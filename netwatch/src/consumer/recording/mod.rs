//! The recording of a session: a consumer that updates an SQLite file during the session and
//! completes it at the end. The recording of a killed run contains everything up to the last
//! transaction.

mod write;

use std::sync::Arc;

use super::Consumer;
use crate::error::Result;
use crate::record::{Destination, OpenRecording, write_failed};
use crate::session::{Event, EventKinds, Finished, Missed};

/// Writes a recording.
#[derive(Debug)]
pub struct Recording {
    destination: Destination,
    run_id: String,
    started_ns: u64,
    open: Option<OpenRecording>,
    finished: Option<Arc<Finished>>,
}

impl Recording {
    /// A recording of the run with this id, which started at `started_ns` (nanoseconds since the
    /// Unix epoch). The file is created in the thread of the consumer.
    pub fn new(destination: Destination, run_id: String, started_ns: u64) -> Self {
        Self { destination, run_id, started_ns, open: None, finished: None }
    }
}

impl Consumer for Recording {
    fn name(&self) -> &'static str {
        "record"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::SESSION
            .with(EventKinds::FLOW_GREW)
            .with(EventKinds::FLOW_ENDED)
            .with(EventKinds::USED_BY)
            .with(EventKinds::DNS_EXCHANGE)
            .with(EventKinds::INTERVAL)
    }

    fn start(&mut self) -> Result<()> {
        self.open = Some(self.destination.open(&self.run_id, self.started_ns)?);
        Ok(())
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        let Some(OpenRecording { db, path, .. }) = &mut self.open else { return Ok(()) };
        write::events(db, &events).map_err(|error| write_failed(path, &error, db))?;
        for event in events {
            if let Event::Finished(finished) = event {
                self.finished = Some(finished);
            }
        }
        Ok(())
    }

    /// Completes the recording. Without the end of the session, it stays incomplete.
    fn finish(&mut self, missed: &Missed) -> Result<()> {
        let (Some(OpenRecording { db, path, .. }), Some(finished)) = (&mut self.open, self.finished.take()) else {
            return Ok(());
        };
        write::finished(db, &finished, missed).map_err(|error| write_failed(path, &error, db))
    }
}
