//! A run that is set up: everything it owns, and what is done with it while the command lives and after.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::network::Network;
use super::notes;
use super::processes::Processes;
use super::record::{Recorded, Recording};
use super::signals::Listening;
use super::watch::Ending;
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::flow::{FlowTable, InterfaceCounters, LinkCounters, Lost};
use crate::guardian::GuardianClient;
use crate::host::link;
use crate::host::socket_drain;
use crate::meter::{DrainProgress, KernelMeter, Notification, icmp_error, name_sample};
use crate::name::Names;
use crate::process::{FlowUsers, PacketCoverage, TraceResult};
use crate::report::{DnsForwarder, EndedBy, Facts, Interface, Report, Run, Series};

/// What stays the same from start to end.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub id: String,
    pub command: Vec<String>,
    pub user: String,
    pub host_loopback: bool,
    /// `--resolve`.
    pub resolve: bool,
}

/// Everything that a run owns while its command lives.
pub(super) struct Live {
    pub card: Card,
    pub network: Network,
    pub probe: KernelMeter,
    pub processes: Processes,
    pub table: FlowTable,
    /// What was heard of names so far.
    pub names: Names,
    /// The command's process.
    pub pid: Option<u32>,
    /// Nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The same moment, for durations: the clock of the day may be stepped meanwhile.
    pub started: Instant,
    pub notes: Vec<String>,
    /// Its recording and its traffic over time.
    pub recording: Recording,
    /// Prints interim reports.
    pub show: Box<dyn Fn(&Report)>,
}

/// Nanoseconds since the Unix epoch.
pub(super) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Live {
    /// The command starts now.
    pub(super) fn start(&mut self) {
        (self.started_ns, self.started) = (now_ns(), Instant::now());
    }

    fn duration_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Fetches what the ring buffer holds, so that it does not fill up.
    pub(super) fn fetch_samples(&mut self) {
        self.processes.fetch();
        let (table, names, processes) = (&mut self.table, &mut self.names, &mut self.processes);
        let polled = self.probe.poll(&mut |notice| {
            processes.note(&notice);
            if let Some(quoted) = icmp_error(&notice) {
                table.note_icmp_error(quoted);
            }
            if let Notification::Sample(sample) = &notice
                && let Some(sample) = name_sample(sample)
            {
                names.observe(&sample);
            }
        });
        // Flows that found no room are counted by protocol: detail is lost, not the run.
        self.note(polled);
    }

    /// Notes what went wrong, once however often it does.
    pub(super) fn note(&mut self, done: Result<()>) {
        if let Err(error) = done.map_err(|error| error.to_string())
            && !self.notes.contains(&error)
        {
            self.notes.push(error);
        }
    }

    /// How long the next [`Self::fetch_samples`] may wait.
    pub(super) fn next_fetch(&self) -> Duration {
        self.probe.next_poll().min(self.processes.next_fetch())
    }

    /// Fetches what was counted, so that flows that are over can leave the kernel's table. What fails now is tried again, and the last
    /// time decides.
    pub(super) fn fetch_counters(&mut self) {
        let drained = self.drain_counters();
        self.note(drained);
        self.processes.tidy(&self.table);
    }

    fn drain_counters(&mut self) -> Result<()> {
        self.drain_on(&mut DrainProgress::default())
    }

    /// In parts, between which the rings are looked at: with many flows the whole takes longer than a ring holds what comes meanwhile.
    fn drain_on(&mut self, progress: &mut DrainProgress) -> Result<()> {
        loop {
            let (table, recording) = (&mut self.table, &mut self.recording);
            if !self.probe.drain_part(progress, &mut |increment| recording.apply(increment, table))? {
                return Ok(());
            }
            self.fetch_samples();
        }
    }

    /// The command runs: from here on it is recorded.
    pub(super) fn begin_recording(&mut self) {
        self.recording.begin(&self.card.id, self.started_ns);
    }

    /// What was counted since the last time goes into the series and the recording.
    pub(super) fn record(&mut self) {
        self.recording.end_step(self.started_ns.saturating_add(self.duration_ns()), &self.table);
        self.hand_over();
    }

    fn hand_over(&mut self) {
        // Apart for a moment, because what is handed over is the rest of the run.
        let mut recording = std::mem::take(&mut self.recording);
        recording.hand_over(&self.table, &self.names, || self.facts(None, None, false));
        self.recording = recording;
    }

    /// The series, and the recording, which finishes by itself.
    pub(super) fn finish_recording(&mut self, report: Arc<Report>) -> (Series, Recorded) {
        std::mem::take(&mut self.recording).finish(report)
    }

    /// Prints what was counted so far. Not balanced: the interface goes on counting while we read.
    pub(super) fn print_interim(&mut self) {
        let counters = self.drain().and_then(|()| self.network.link.counters());
        match counters.and_then(|counters| self.report(None, counters.map(from_link), false)) {
            Ok(report) => (self.show)(&report),
            Err(error) => crate::terminal::print_error(&error),
        }
    }

    fn drain(&mut self) -> Result<()> {
        self.fetch_samples();
        self.drain_counters()
    }

    /// Nothing moves any more. What cannot be had now is noted, and the balance shows what is missing: no reason to lose the report.
    fn drain_last(&mut self) {
        let mut progress = DrainProgress::last();
        self.fetch_samples();
        let drained = self.drain_on(&mut progress).or_else(|failed| {
            self.note(Err(failed));
            self.drain_on(&mut progress)
        });
        self.note(drained);
    }

    /// The end: what is still in sockets is let out, the link goes down, and then, with nothing moving any more, everything is read.
    pub(super) async fn conclude(
        &mut self,
        ending: Ending,
        drain_timeout: Duration,
        signals: &Listening<'_>,
        line: &mut GuardianClient,
    ) -> Result<Report> {
        self.network.release_mounts();
        let drained = self.let_sockets_drain(drain_timeout, signals).await;
        self.notes.extend(notes::left_over(ending.left_over));
        let duration_ns = self.duration_ns();
        let counters = line.link_down().await?.map(from_link);
        self.drain_last();
        self.names.finish();
        self.recording.end_step(self.started_ns.saturating_add(duration_ns), &self.table);
        self.notes.extend(self.recording.note());
        self.notes.extend(self.network.late_notes());
        if !drained {
            // Sockets that still wait for an answer would keep the namespace, and the link with it, for minutes.
            link::delete(self.network.link.name())?;
        }
        let mut report = self.report(Some(ending), counters, true)?;
        if self.card.resolve && report.unnamed_addresses().next().is_some() {
            self.names.resolve(reverse::names(report.unnamed_addresses()));
            report = self.report(Some(ending), counters, true)?;
        }
        self.processes.end();
        report.run.duration_ns = duration_ns;
        Ok(report)
    }

    /// Whether nothing is left in them. A signal ends the wait; that it could not be looked at is no reason to lose the report.
    async fn let_sockets_drain(&mut self, limit: Duration, signals: &Listening<'_>) -> bool {
        let drained = tokio::select! {
            drained = socket_drain::drain(self.network.namespace.sock_diag(), limit) => drained,
            _ = signals.next() => Err(Error::said("wait for", "the command's sockets", "a signal came")),
        };
        match drained {
            Ok(outcome) => {
                self.notes.extend(notes::drained(&outcome));
                outcome.left.sockets == 0
            }
            Err(error) => {
                self.notes.push(error.to_string());
                false
            }
        }
    }

    fn report(
        &self,
        ending: Option<Ending>,
        interface_counters: Option<InterfaceCounters>,
        complete: bool,
    ) -> Result<Report> {
        let (facts, users) = self.facts(ending, interface_counters, complete)?;
        Ok(Report::new(facts, &self.table, &self.names, &users))
    }

    /// What is known beside the table, and who used its flows.
    fn facts(
        &self,
        ending: Option<Ending>,
        interface_counters: Option<InterfaceCounters>,
        complete: bool,
    ) -> Result<(Facts, FlowUsers)> {
        let lost = self.probe.lost()?;
        let silence = silence(&lost, complete);
        let TraceResult { processes, users, attempts } = self.processes.result(self.pid, &self.table, silence)?;
        let facts = Facts {
            run: Run {
                id: self.card.id.clone(),
                command: self.card.command.clone(),
                user: self.card.user.clone(),
                pid: self.pid,
                started_ns: self.started_ns,
                duration_ns: self.duration_ns(),
                exit: ending.map(|ending| ending.exit),
                ended_by: ending.map_or(EndedBy::Command, |ending| ending.ended_by),
                kernel: kernel_release(),
                netwatch: env!("CARGO_PKG_VERSION").to_owned(),
            },
            interface: Interface {
                name: self.network.link.name().to_owned(),
                mtu: self.network.plan.mtu,
                local: self.network.targets(),
                gateway: self.network.gateways(),
                host_loopback: self.card.host_loopback,
            },
            dns: DnsForwarder { resolvers: self.network.resolvers() },
            interface_counters,
            complete,
            lost,
            processes,
            attempts,
            notes: self.notes.clone(),
            replay: None,
        };
        Ok((facts, users))
    }
}

/// Without its announcement, a flow's packets are not known to be a socket's.
fn silence(lost: &Lost, complete: bool) -> PacketCoverage {
    match lost.new_flows + lost.table_full + lost.insert_failed {
        0 if complete => PacketCoverage::Final,
        0 => PacketCoverage::SoFar,
        _ => PacketCoverage::Lossy,
    }
}

/// Empty if the kernel does not say, which it always does (uname(2)).
fn kernel_release() -> String {
    nix::sys::utsname::uname().map(|said| said.release().to_string_lossy().into_owned()).unwrap_or_default()
}

fn from_link(counters: link::InterfaceCounters) -> InterfaceCounters {
    InterfaceCounters {
        rx: LinkCounters { packets: counters.rx_packets, bytes: counters.rx_bytes, dropped: counters.rx_dropped },
        tx: LinkCounters { packets: counters.tx_packets, bytes: counters.tx_bytes, dropped: counters.tx_dropped },
    }
}
