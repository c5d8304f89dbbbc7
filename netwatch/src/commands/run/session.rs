//! What the sessions of `run` and of `attach` begin with.

use super::exports::Exports;
use super::log;
use super::metering::{Metering, OnFailure};
use super::recording::RecordingPlan;
use super::status::Status;
use super::viewers;
use crate::commands::run_sockets::RunListener;
use crate::commands::snapshot;
use crate::consumer::events::EventLines;
use crate::error::Result;
use crate::faults;
use crate::meter::KernelMeterConfig;
use crate::name::Hosts;
use crate::process::Attribution;
use crate::rights;
use crate::session::SessionConfig;
use crate::settings::{EventStyle, SessionSettings};
use crate::undo::RunDir;

/// Flows that the session tracks individually. The most that fit a hash table before it doubles.
const MAX_SESSION_FLOWS: usize = (1 << 18) / 8 * 7;

/// Consumers that the flags ask for and that were not started yet.
pub(in crate::commands) struct Consumers {
    /// `--events`.
    events: Option<EventStyle>,
    /// `--status`.
    status: Option<Status>,
    recording: Option<RecordingPlan>,
    exports: Exports,
}

impl Consumers {
    pub(in crate::commands) fn new(
        settings: &SessionSettings,
        recording: Option<RecordingPlan>,
        exports: Exports,
    ) -> Self {
        Self { events: settings.events, status: Status::start(settings), recording, exports }
    }

    /// Starts them, once.
    pub(in crate::commands) fn start(&mut self, metering: &mut Metering, run_id: &str, started_ns: u64) {
        if let Some(style) = self.events.take() {
            let events = EventLines::new(std::io::stderr(), style == EventStyle::Json);
            metering.attach(events, OnFailure::Note);
        }
        std::mem::take(&mut self.exports).attach(metering, run_id);
        if let Some(status) = self.status.take() {
            metering.attach(status, OnFailure::Note);
        }
        if let Some(recording) = self.recording.take() {
            recording.start(metering, run_id, started_ns);
        }
    }
}

/// Serves other processes that read the session, until it is dropped.
pub(in crate::commands) struct SessionReaders {
    /// `None` if it could not be started.
    _snapshots: Option<RunListener>,
    /// The same.
    _viewers: Option<RunListener>,
}

/// Serves processes that read the run. Without the sockets, the run has a note.
pub(in crate::commands) fn serve_readers(run_dir: &RunDir, metering: &Metering) -> Result<SessionReaders> {
    let snapshots = snapshot::serve(run_dir.path(), metering.snapshots());
    let viewers = viewers::serve(run_dir.path(), &rights::caller()?, metering.viewers());
    let failures = [snapshots.as_ref().err(), viewers.as_ref().err()];
    failures.into_iter().flatten().for_each(|error| metering.note(error.to_string()));
    Ok(SessionReaders { _snapshots: snapshots.ok(), _viewers: viewers.ok() })
}

/// What the classifier is loaded with.
pub(in crate::commands) fn meter_config(arguments: &SessionSettings) -> KernelMeterConfig {
    KernelMeterConfig {
        max_flows: arguments.max_flows,
        idle_timeout: arguments.idle_timeout,
        sample_interval: arguments.sample.unwrap_or(0),
        snaplen: arguments.sample_snaplen,
        sample_ring_bytes: arguments.sample_buffer * 1024,
        log: log::enable(),
        ..KernelMeterConfig::default()
    }
}

/// Whose processes are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum TracedProcesses {
    /// Those of the command, from its start.
    Command,
    /// Those of the target, some of which have existed before.
    Target,
    /// Those of the machine.
    Machine,
}

/// `netns` are the cookies of the network namespaces of the target; without any, sockets of all
/// namespaces are the target's.
pub(in crate::commands) fn config(
    arguments: &SessionSettings,
    attribution: Attribution,
    netns: Vec<u64>,
    traced: TracedProcesses,
) -> SessionConfig {
    SessionConfig {
        max_flows: faults::user_flows(MAX_SESSION_FLOWS),
        idle_timeout: arguments.idle_timeout,
        hosts: hosts(),
        attribution,
        netns,
        has_strangers: traced == TracedProcesses::Machine,
        has_command: traced == TracedProcesses::Command,
    }
}

/// Empty if the kernel does not report it, which it always does (uname(2)).
pub(in crate::commands) fn kernel_release() -> String {
    nix::sys::utsname::uname().map(|uts| uts.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the command reads as its hosts file. Without one there are no names in it.
fn hosts() -> Hosts {
    Hosts::parse(&std::fs::read_to_string("/etc/hosts").unwrap_or_default())
}
