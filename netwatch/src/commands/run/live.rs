//! The state that the control loop owns while the command runs, and the conclusion of the run.
//! Counting happens in the metering thread.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::firewall::FirewallState;
use super::metering::{Conclusion, IsRequired, Metering};
use super::network::Network;
use super::notes;
use super::recording::RecordingPlan;
use super::signals::SignalStream;
use super::watch::Ending;
use crate::commands::snapshot::SnapshotServer;
use crate::consumer::events::EventLines;
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::flow::{InterfaceCounters, LinkCounters};
use crate::guardian::GuardianClient;
use crate::host::link;
use crate::host::socket_drain;
use crate::meter::unix_now_ns;
use crate::packets::RunningCapture;
use crate::report::Report;
use crate::settings::EventStyle;

/// The state of a run while its command runs.
pub(super) struct Live {
    pub network: Network,
    pub metering: Metering,
    pub firewall: FirewallState,
    /// `--events`; taken when the command starts.
    pub events: Option<EventStyle>,
    /// `-w` and `--packets`.
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

    /// Starts the recording and the other consumers. Called when the command has started.
    pub(super) fn begin_recording(&mut self) {
        if let Some(style) = self.events.take() {
            let events = EventLines::new(std::io::stderr(), style == EventStyle::Json);
            self.metering.attach(events, IsRequired(false));
        }
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
        let counters = self.read_final_counters(line).await;
        // From here on no packet can move: none is later than the end of the report.
        let duration = Duration::from_nanos(unix_now_ns().saturating_sub(self.started_ns));
        let read = self.read_forwarder().await;
        self.note(read);
        // Sockets that wait for an answer keep the namespace, and with it the link, for minutes.
        let deleted = match are_empty {
            true => self.network.delete_moved_link(),
            false => {
                let name = self.network.link.name().to_owned();
                in_thread("link", move || link::delete(&name)).await.flatten().map(drop)
            }
        };
        self.note(deleted);
        if let Some(capture) = &self.capture {
            capture.drain().await.notes().into_iter().for_each(|note| self.metering.note(note));
        }
        let Ending { exit, ended_by, .. } = ending;
        let conclusion = Conclusion { duration, exit, ended_by, counters };
        let report = tokio::select! {
            report = self.metering.conclude(conclusion) => report?,
            () = signals.interrupted_again() => {
                return Err(Error::other("make", "the report", "interrupted by a signal"));
            }
        };
        let report = if self.resolve { self.resolved(report, signals).await? } else { report };
        self.metering.finish_consumers();
        Ok(report)
    }

    /// Passes on what the DNS forwarder counted, and its resolvers.
    async fn read_forwarder(&mut self) -> Result<()> {
        let dns = self.network.dns();
        let (resolvers, stats) = in_thread("dns", move || (dns.resolvers(), dns.stats())).await?;
        notes::dns(&stats).into_iter().for_each(|note| self.metering.note(note));
        self.metering.set_resolvers(resolvers);
        Ok(())
    }

    /// Adds names from reverse lookups to the report. A signal ends the wait for them.
    async fn resolved(&mut self, report: Arc<Report>, signals: &SignalStream<'_>) -> Result<Arc<Report>> {
        let addresses: Vec<IpAddr> = report.unnamed_addresses().collect();
        if addresses.is_empty() {
            return Ok(report);
        }
        let names = tokio::select! {
            names = in_thread("resolve", move || reverse::names(addresses.into_iter())) => names,
            () = signals.interrupted_again() => {
                Err(Error::other("look up", "names for --resolve", "interrupted by a signal"))
            }
        };
        let names = names.unwrap_or_else(|error| {
            self.metering.note(error.to_string());
            Vec::new()
        });
        self.metering.resolve(names).await
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
        let Some(mut sock_diag) = self.network.namespace.take_sock_diag() else { return false };
        let (stop, stopped) = mpsc::channel::<()>();
        let go_on = move |pause| stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout);
        let drained = tokio::select! {
            drained = in_thread("drain", move || socket_drain::drain(&mut sock_diag, limit, go_on)) => {
                drained.flatten()
            }
            _ = signals.next_for_netwatch() => Err(socket_drain::interrupted()),
        };
        drop(stop);
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

/// Runs work that can block in a thread, so that the control loop serves signals and timers
/// meanwhile.
async fn in_thread<T: Send + 'static>(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    // Fails if a signal ended the wait.
    let thread = thread::Builder::new().name(name.into()).spawn(move || _ = done.send(work()));
    thread.map_err(|error| Error::os("start thread", name, error))?;
    result.await.map_err(|_| Error::other("wait for thread", name, "it panicked"))
}

pub(super) fn from_link(counters: link::HostEndCounters) -> InterfaceCounters {
    InterfaceCounters {
        rx: LinkCounters { packets: counters.rx_packets, bytes: counters.rx_bytes, dropped: counters.rx_dropped },
        tx: LinkCounters { packets: counters.tx_packets, bytes: counters.tx_bytes, dropped: counters.tx_dropped },
    }
}
