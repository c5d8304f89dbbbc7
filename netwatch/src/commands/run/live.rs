//! A run that is set up: what the control loop owns while the command lives, and how the run is
//! concluded. Counting is the metering thread's.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::metering::{Conclusion, Metering};
use super::network::Network;
use super::notes;
use super::recording::RecordingPlan;
use super::signals::SignalStream;
use super::watch::Ending;
use crate::commands::snapshot::SnapshotServer;
use crate::error::{Error, Result};
use crate::flow::{InterfaceCounters, LinkCounters};
use crate::guardian::GuardianClient;
use crate::host::link;
use crate::host::socket_drain;
use crate::report::Report;

/// What a run owns while its command lives.
pub(super) struct Live {
    pub network: Network,
    pub metering: Metering,
    /// For other processes.
    pub _snapshots: Option<SnapshotServer>,
    pub run_id: String,
    /// `--resolve`.
    pub resolve: bool,
    /// Taken when the command runs.
    pub recording: Option<RecordingPlan>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The same moment, for durations: the system clock may be stepped meanwhile.
    pub started: Instant,
}

/// Nanoseconds since the Unix epoch.
pub(super) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Live {
    /// The command starts now.
    pub(super) fn start(&mut self) {
        (self.started_ns, self.started) = (now_ns(), Instant::now());
        self.metering.begin(self.started_ns, self.started);
    }

    /// The command runs: from here on it is recorded.
    pub(super) fn begin_recording(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.start(&self.metering, &self.run_id, self.started_ns);
        }
    }

    /// Notes an error that does not end the run.
    pub(super) fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.metering.note(error.to_string());
        }
    }

    /// The end: sockets are drained, the link goes down, and then, with nothing moving any more,
    /// everything is read.
    pub(super) async fn conclude(
        &mut self,
        ending: Ending,
        drain_timeout: Duration,
        signals: &SignalStream<'_>,
        line: &mut GuardianClient,
    ) -> Result<Arc<Report>> {
        self.network.release_mounts();
        let drained = self.let_sockets_drain(drain_timeout, signals).await;
        notes::left_over(ending.left_over).into_iter().for_each(|note| self.metering.note(note));
        let duration = self.started.elapsed();
        let counters = line.link_down().await?.map(from_link);
        self.network.late_notes().into_iter().for_each(|note| self.metering.note(note));
        self.metering.set_resolvers(self.network.resolvers());
        if !drained {
            // Sockets that still wait for an answer would keep the namespace, and the link with it, for minutes.
            link::delete(self.network.link.name())?;
        }
        let Ending { exit, ended_by, .. } = ending;
        self.metering.conclude(Conclusion { duration, exit, ended_by, counters, resolve: self.resolve }).await
    }

    /// Waits until the sockets of the command are empty; whether they are. A signal ends the wait.
    async fn let_sockets_drain(&mut self, limit: Duration, signals: &SignalStream<'_>) -> bool {
        let drained = tokio::select! {
            drained = socket_drain::drain(self.network.namespace.sock_diag(), limit) => drained,
            _ = signals.next() => Err(Error::other("wait for", "the command's sockets", "a signal came")),
        };
        match drained {
            Ok(outcome) => {
                notes::drained(&outcome).into_iter().for_each(|note| self.metering.note(note));
                outcome.left.sockets == 0
            }
            Err(error) => {
                self.metering.note(error.to_string());
                false
            }
        }
    }
}

pub(super) fn from_link(counters: link::HostEndCounters) -> InterfaceCounters {
    InterfaceCounters {
        rx: LinkCounters { packets: counters.rx_packets, bytes: counters.rx_bytes, dropped: counters.rx_dropped },
        tx: LinkCounters { packets: counters.tx_packets, bytes: counters.tx_bytes, dropped: counters.tx_dropped },
    }
}
