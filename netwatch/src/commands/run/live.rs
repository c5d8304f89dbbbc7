//! The state that the control loop owns while the command runs, and the conclusion of the run.
//! Counting happens in the metering thread.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::capture::{self, GuardedLink};
use super::firewall::FirewallState;
use super::metering::{Conclusion, Metering};
use super::network::Network;
use super::notes;
use super::resolve::{resolved, unless_ended};
use super::session::{Consumers, SessionReaders};
use super::signals::SignalStream;
use super::tails::{TailEvent, Tails};
use super::thread::in_thread;
use super::watch::Ending;
use crate::error::Result;
use crate::flow::{CounterBounds, InterfaceCounters, LinkCounters};
use crate::guardian::GuardianClient;
use crate::host::conntrack::{self, RefusedConnections};
use crate::host::link;
use crate::host::nat;
use crate::host::socket_drain;
use crate::meter::{EgressWatch, unix_now_ns};
use crate::packets::RunningCapture;
use crate::report::{ExitStatus, Report, ResourceUsage};
use crate::undo::RunId;

/// The state of a run while its command runs.
pub(super) struct Live {
    pub network: Network,
    pub metering: Metering,
    pub firewall: FirewallState,
    /// Started with the command.
    pub consumers: Consumers,
    /// `-w` and `--packets`.
    pub capture: Option<RunningCapture>,
    /// Other processes that watch the packets.
    pub tails: Tails,
    /// Held until it is dropped.
    pub _readers: SessionReaders,
    /// Discards probes of the output policy that are sent late.
    pub _late_probes: Option<EgressWatch>,
    pub run_id: String,
    /// What a full connection tracking had cost the host before the run; `None` if unknown.
    pub refused_before: Option<RefusedConnections>,
    /// `--resolve`.
    pub resolve: bool,
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
        self.consumers.start(&mut self.metering, &self.run_id, self.started_ns);
    }

    /// Starts or ends the capture of a tail.
    pub(super) async fn handle_tail(&mut self, event: TailEvent, guardian: &mut GuardianClient) -> Result<()> {
        let mut host = GuardedLink(guardian, self.network.link.name());
        self.tails.handle(event, &self.metering, &mut host).await
    }

    /// Notes an error that does not end the run.
    pub(super) fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.metering.note(error.to_string());
        }
    }

    /// Concludes the run: waits until the sockets are empty, sets the link down, and reads all
    /// counters when no packet can move any more. A signal ends that, with a message and without a
    /// report.
    pub(super) async fn conclude(
        &mut self,
        (ending, usage): (Ending, Option<ResourceUsage>),
        drain_timeout: Duration,
        signals: &SignalStream<'_>,
        guardian: &mut GuardianClient,
    ) -> Result<Option<Arc<Report>>> {
        // The end of the command.
        signals.held().repeats_until();
        self.network.release_mounts();
        let are_empty = self.empty_sockets(drain_timeout, signals).await;
        self.finish_loopback(drain_timeout, signals).await;
        notes::left_over(ending.left_over).into_iter().for_each(|note| self.metering.note(note));
        notes::made_links(&self.network.made_links()).into_iter().for_each(|note| self.metering.note(note));
        let stopped = self.stop_link(are_empty, guardian);
        let Some((duration, counters)) = unless_ended(signals, stopped).await else { return Ok(None) };
        capture::drain(&mut self.capture, &self.metering, signals).await;
        self.tails.finish().await;
        let Ending { exit, ended_by, .. } = ending;
        let counters = counters.map(CounterBounds::exact);
        // A command that succeeded needs no hint.
        let has_failed = exit != ExitStatus::Code(0);
        let privileged_ports = if has_failed { self.network.privileged_ports.clone() } else { Vec::new() };
        let conclusion = Conclusion { duration, exit, ended_by, usage, counters, privileged_ports };
        let report = self.metering.conclude(conclusion);
        let Some(report) = unless_ended(signals, report).await.transpose()? else { return Ok(None) };
        let report = if self.resolve { resolved(&self.metering, report, signals).await? } else { report };
        self.metering.finish_consumers();
        capture::finish(self.capture.take(), report.clone(), signals).await;
        Ok(Some(report))
    }

    /// Sets the link down. Returns the duration of the run, and the final counters of the link.
    async fn stop_link(
        &mut self,
        are_empty: bool,
        guardian: &mut GuardianClient,
    ) -> (Duration, Option<InterfaceCounters>) {
        let counters = self.read_final_counters(guardian).await;
        // From here on no packet can move: none is later than the end of the report.
        let duration = Duration::from_nanos(unix_now_ns().saturating_sub(self.started_ns));
        let read = self.read_forwarder().await;
        self.note(read);
        let read = self.read_drops().await;
        self.note(read);
        // Sockets that wait for an answer keep the namespace, and with it the link, for minutes.
        let deleted = in_thread("link", self.network.link_deletion(are_empty)).await.flatten();
        self.note(deleted);
        (duration, counters)
    }

    /// Passes on what the DNS forwarder counted, and its resolvers.
    async fn read_forwarder(&mut self) -> Result<()> {
        let dns = self.network.dns();
        let (resolvers, stats) = in_thread("dns", move || (dns.resolvers(), dns.stats())).await?;
        notes::dns(&stats, &resolvers).into_iter().for_each(|note| self.metering.note(note));
        self.metering.set_resolvers(resolvers);
        Ok(())
    }

    /// Notes the packets of the command that the table of the run has dropped.
    async fn read_drops(&mut self) -> Result<()> {
        let Some(run) = RunId::parse(&self.run_id) else { return Ok(()) };
        let before = self.refused_before;
        let (drops, full) = in_thread("drops", move || (nat::drops(&run), tracking_full(before))).await?;
        notes::drops(&drops?).into_iter().chain(full).for_each(|note| self.metering.note(note));
        Ok(())
    }

    /// Sets the link down and reads its counters. Failure is noted, and the report has no balance.
    async fn read_final_counters(&mut self, guardian: &mut GuardianClient) -> Option<InterfaceCounters> {
        match guardian.link_down().await {
            Ok(counters) => counters.map(from_link),
            Err(error) => {
                self.metering.note(error.to_string());
                None
            }
        }
    }

    /// Ends the proxy of `--host-loopback`, whose sockets are in the namespace, when it has passed
    /// on what the command sent. A signal ends the wait.
    async fn finish_loopback(&mut self, limit: Duration, signals: &SignalStream<'_>) {
        let Some(proxy) = self.network.take_loopback() else { return };
        let finished = in_thread("loopback", move || proxy.finish(limit));
        let counts = signals.unless_interrupted("finish", "the proxy of --host-loopback", finished).await.flatten();
        match counts {
            Ok(counts) => notes::host_loopback(&counts).into_iter().for_each(|note| self.metering.note(note)),
            Err(error) => self.metering.note(error.to_string()),
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

/// The note about a full connection tracking of the host. A kernel without ctnetlink does not
/// count that.
fn tracking_full(before: Option<RefusedConnections>) -> Option<String> {
    let refused = RefusedConnections::read().ok()?.since(before?);
    notes::tracking_full(refused, conntrack::usage()?)
}

pub(in crate::commands) fn from_link(counters: link::HostEndCounters) -> InterfaceCounters {
    InterfaceCounters {
        rx: LinkCounters { packets: counters.rx_packets, bytes: counters.rx_bytes, dropped: counters.rx_dropped },
        tx: LinkCounters { packets: counters.tx_packets, bytes: counters.tx_bytes, dropped: counters.tx_dropped },
    }
}
