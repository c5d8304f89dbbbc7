//! The recording of a run: its destination is checked before the run starts, and the file is
//! created when the command has started.

use std::path::PathBuf;

use super::metering::{Metering, OnFailure};
use crate::consumer::recording::Recording;
use crate::error::{Error, Result};
use crate::record::{Destination, Keep, RecordingPlace, RunKind, Store};
use crate::settings::SessionSettings;
use crate::target::user::Identity;

/// Where to record the run, if the command starts.
#[derive(Debug, Default)]
pub(in crate::commands) struct RecordingPlan {
    destination: Option<Destination>,
    /// Given by `--record`: then a failure is an error, otherwise a note.
    is_required: bool,
}

impl RecordingPlan {
    /// Chooses and checks the destination.
    pub(in crate::commands) fn make(arguments: &SessionSettings, user: &Identity) -> Result<Self> {
        if arguments.no_record {
            return Ok(Self::default());
        }
        if arguments.record.is_some() && arguments.record == arguments.output {
            let file = arguments.record.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            return Err(Error::other("record to", file, "-o writes there too").hint("choose another file for --record"));
        }
        let place = match &arguments.record {
            Some(path) => RecordingPlace::File(absolute(path.clone())?, None),
            None => {
                let keep = Keep { runs: arguments.keep, bytes: arguments.keep_size };
                let kind = if arguments.is_benchmark { RunKind::Benchmark } else { RunKind::Single };
                RecordingPlace::Store(Store::of(user)?.of_kind(kind), keep)
            }
        };
        let destination = Destination { place, user: user.clone(), limit_bytes: arguments.record_size };
        Ok(Self { destination: Some(destination.check()?), is_required: arguments.record.is_some() })
    }
}

impl RecordingPlan {
    /// Starts the recording.
    pub(in crate::commands) fn start(mut self, metering: &mut Metering, run_id: &str, started_ns: u64) {
        let Some(destination) = self.destination.take() else { return };
        let recording = Recording::new(destination, run_id.to_owned(), started_ns);
        let on_failure = if self.is_required { OnFailure::FailRun } else { OnFailure::Note };
        metering.attach(recording, on_failure);
    }
}

impl Drop for RecordingPlan {
    fn drop(&mut self) {
        self.destination.iter().for_each(Destination::abandon);
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Error::os("record to", path.display().to_string(), error))
}
