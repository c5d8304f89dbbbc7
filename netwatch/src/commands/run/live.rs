//! The state that the control loop owns while the command runs, and the conclusion of the run.
//! Counting happens in the metering thread.

use std::sync::Arc;
use std::time::Duration;

use super::firewall::FirewallState;
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
use crate::meter::unix_now_ns;
use crate::packets::RunningCapture;
use crate::report::Report;

/// The state of a run while its command runs.
pub(super) struct Live {
    pub network: Network,
    pub metering: Metering,
    pub firewall: FirewallState,
    /// `-w`.
    pub capture: Option<RunningCapture>,
    /// Serves snapshots to other processes; held until it is dropped.
    pub _snapshots: Option<SnapshotServer>,
    pub run_id: String,
    /// `--resolve`.
    pub resolve: bool,
    /// Taken when the command starts.
    pub recording: Option<RecordingPlan>,
    /// Start time of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
}

impl Live {
    /// Starts the session, immediately before the command.
    pub(super) fn start(&mut self) {
        self.started_ns = unix_now_ns();
        self.metering.begin(self.started_ns);
    }

    /// Starts the recording. Called when the command has started.
    pub(super) fn begin_recording(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.start(&mut self.metering, &self.run_id, self.started_ns);
        }
    }

    /// Notes an error that does not end the run.
    pub(super) fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.metering.note(error.to_string());
        }
    }

    /// Concludes the run: waits until the sockets are empty, sets the link down, and reads all
    /// counters when no packet can move any more.
    pub(super) async fn conclude(
        &mut self,
        ending: Ending,
        drain_timeout: Duration,
        signals: &SignalStream<'_>,
        line: &mut GuardianClient,
    ) -> Result<Arc<Report>> {
        self.network.release_mounts();
        let are_empty = self.empty_sockets(drain_timeout, signals).await;
        notes::left_over(ending.left_over).into_iter().for_each(|note| self.metering.note(note));
        let duration = Duration::from_nanos(unix_now_ns() - self.started_ns);
        let counters = self.read_final_counters(line).await;
        self.network.late_notes().into_iter().for_each(|note| self.metering.note(note));
        self.metering.set_resolvers(self.network.resolvers());
        // Sockets that wait for an answer keep the namespace, and with it the link, for minutes.
        let deleted = if are_empty { self.network.delete_moved_link() } else { self.network.delete_link() };
        self.note(deleted);
        if let Some(capture) = &self.capture {
            capture.drain().await.notes().into_iter().for_each(|note| self.metering.note(note));
        }
        let Ending { exit, ended_by, .. } = ending;
        let conclusion = Conclusion { duration, exit, ended_by, counters, resolve: self.resolve };
        tokio::select! {
            report = self.metering.conclude(conclusion) => report,
            () = signals.interrupted_again() => Err(Error::other("make", "the report", "interrupted by a signal")),
        }
    }

    /// Sets the link down and reads its counters. Failure is noted, and the report has no balance.
    async fn read_final_counters(&mut self, line: &mut GuardianClient) -> Option<InterfaceCounters> {
        match line.link_down().await {
            Ok(counters) => counters.map(from_link),
            Err(error) => {
                self.metering.note(error.to_string());
                None
            }
        }
    }

    /// Waits until the sockets of the command are empty. Returns whether they are. A signal ends
    /// the wait.
    async fn empty_sockets(&mut self, limit: Duration, signals: &SignalStream<'_>) -> bool {
        let drained = tokio::select! {
            drained = socket_drain::drain(self.network.namespace.sock_diag(), limit) => drained,
            _ = signals.next_for_netwatch() => Err(Error::other("wait for", "the command's sockets", "interrupted by a signal")),
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
