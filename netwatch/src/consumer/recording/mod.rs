//! The recording of a session: a consumer that updates an SQLite file during the session and
//! completes it at the end. The recording of a killed run contains everything up to the last
//! transaction.

mod fold;
mod processes;
mod serials;
mod write;

use std::sync::Arc;

use super::{Consumer, StreamEnd};
use crate::error::{Error, Result};
use crate::record::{Destination, OpenRecording, note_failure, write_failed};
use crate::session::{Event, EventKinds, Finished};
use write::WrittenTables;

/// Writes a recording.
#[derive(Debug)]
pub struct Recording {
    destination: Destination,
    run_id: String,
    started_ns: u64,
    open: Option<OpenRecording>,
    written: WrittenTables,
    finished: Option<Arc<Finished>>,
}

impl Recording {
    /// A recording of the run with this id, which started at `started_ns` (nanoseconds since the
    /// Unix epoch). The file is created in the thread of the consumer.
    pub fn new(destination: Destination, run_id: String, started_ns: u64) -> Self {
        Self { destination, run_id, started_ns, open: None, written: WrittenTables::default(), finished: None }
    }
}

impl Consumer for Recording {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::SESSION
            .with(EventKinds::FLOW_GREW)
            .with(EventKinds::FLOW_ENDED)
            .with(EventKinds::USED_BY)
            .with(EventKinds::DNS_EXCHANGE)
            .with(EventKinds::ATTEMPTS)
            .with(EventKinds::LOCAL_SOCKETS)
            .with(EventKinds::INTERVAL)
            .with(EventKinds::FOLDS_MISSED)
    }

    fn start(&mut self) -> Result<()> {
        self.open = Some(self.destination.open(&self.run_id, self.started_ns)?);
        Ok(())
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        let Some(OpenRecording { db, path, .. }) = &mut self.open else { return Ok(()) };
        write::events(db, &events, &mut self.written).map_err(|error| {
            let error = write_failed(path, &error, db);
            note_failure(db, &error);
            error
        })?;
        for event in events {
            if let Event::Finished(finished) = event {
                self.finished = Some(finished);
            }
        }
        Ok(())
    }

    /// The recording of an abandoned run stays incomplete.
    fn finish(&mut self, end: &StreamEnd) -> Result<()> {
        let (Some(OpenRecording { db, path, .. }), StreamEnd::Concluded(missed)) = (&mut self.open, end) else {
            return Ok(());
        };
        let Some(finished) = self.finished.take() else {
            let why = "it did not receive the end of the run; it is incomplete";
            return Err(Error::other("finish recording", path.display().to_string(), why));
        };
        write::finished(db, &finished, missed, &mut self.written).map_err(|error| write_failed(path, &error, db))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordingPlace;
    use crate::target::user::Identity;

    #[test]
    fn a_recording_without_the_end_of_a_concluded_run_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = RecordingPlace::File(dir.path().join("x.netwatch"), None);
        let user = Identity::own().expect("a user");
        let destination = Destination { place, user, limit_bytes: 1 << 30 }.check().expect("writable");
        let mut recording = Recording::new(destination, "3f2a91bc".into(), 0);
        recording.start().expect("a file");
        recording.finish(&StreamEnd::Abandoned).expect("an abandoned run has no end");
        let error = recording.finish(&StreamEnd::Concluded(Box::default())).expect_err("the end is missing");
        assert!(error.to_string().contains("it is incomplete"), "{error}");
    }
}
