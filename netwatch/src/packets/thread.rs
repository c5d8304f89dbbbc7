//! The thread of a capture: it reads the ring, and writes the packets of each batch while they are
//! still in it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use tokio::sync::oneshot;

use super::identity::{FlowIdentities, IdentifiedFlow};
use super::interfaces::CaptureInterfaces;
use super::judge::PacketJudge;
use super::key_log::KeyLog;
use super::output::{OutputPacket, PacketOutput};
use super::printer::PacketPrinter;
use super::writer::CaptureWriter;
use super::{CaptureCommand, CaptureSpec, CaptureSummary, EndedOutput};
use crate::capture::write::{INBOUND, OUTBOUND, ObservedFrame, Segmenter, WritablePacket};
use crate::error::{Error, Result};
use crate::flow::{Amount, BalanceState, Direction, PerDirection};
use crate::meter::{PacketRing, RingPacket, set_thread_priority};
use crate::report::Report;

/// Time without a wake-up after which the ring is read.
const READ_INTERVAL: Duration = Duration::from_millis(50);
/// Time after which collected blocks are written.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A full ring loses packets, so the thread is preferred to the command. It sleeps most of the
/// time.
const NICE: i32 = -10;
/// Maximum size of a batch: the ring has room for the next packets meanwhile, and the cache of a
/// CPU has room for the batch, which is read twice.
const MAX_BATCH_BYTES: u64 = 64 << 10;

pub(super) struct PacketThread {
    ring: PacketRing,
    output: RingOutput,
    commands: Receiver<CaptureCommand>,
    wake: Arc<EventFd>,
    /// Dropped when the capture ends.
    ends: Option<oneshot::Sender<()>>,
    on_error: Box<dyn Fn(EndedOutput, Error) + Send>,
    judge: PacketJudge,
    /// Packets that did not match, as far as the file states them.
    filtered: u64,
    /// Packets that were read from the ring after the end of the capture.
    skipped: u64,
}

/// From packets in the ring to packets as a wire would carry them.
struct RingOutput {
    output: PacketOutput,
    interfaces: CaptureInterfaces,
    /// Number of those that the file has.
    known_interfaces: u32,
    identities: FlowIdentities,
    segmenter: Segmenter,
    keys: Option<KeyLog>,
    /// Packets that were taken from the ring; super-frames count once.
    captured: u64,
    /// Losses that the packets so far state.
    lost: u64,
    is_unbuffered: bool,
    flushed: Instant,
}

impl PacketThread {
    /// A file does not wait for the reader of the lines beside it.
    pub(super) fn new(
        spec: CaptureSpec,
        commands: Receiver<CaptureCommand>,
        wake: Arc<EventFd>,
        ends: oneshot::Sender<()>,
    ) -> Result<Self> {
        let CaptureSpec { ring, interfaces, filter, mut writer, keys, printer, only, max_packets, .. } = spec;
        let printer = if writer.is_some() { printer.map(PacketPrinter::queued).transpose()? } else { printer };
        let known_interfaces = writer.as_mut().map_or(0, CaptureWriter::begin_live);
        let output = RingOutput {
            output: PacketOutput::new(writer, printer, only, max_packets),
            interfaces,
            known_interfaces,
            identities: FlowIdentities::new(spec.identify, spec.states_names),
            segmenter: Segmenter::new(spec.keeps_super_frames),
            keys,
            captured: 0,
            lost: 0,
            is_unbuffered: spec.is_unbuffered,
            flushed: Instant::now(),
        };
        let (judge, on_error) = (PacketJudge::new(filter), spec.on_error);
        Ok(Self { ring, output, commands, wake, ends: Some(ends), on_error, judge, filtered: 0, skipped: 0 })
    }

    pub(super) fn run(mut self) {
        set_thread_priority(NICE);
        let begun = self.output.output.begin();
        self.check(begun);
        loop {
            match self.commands.try_recv() {
                Ok(CaptureCommand::Drain(reply)) => {
                    self.read();
                    // A deleted file, or lines that cannot be printed, are a note of the report.
                    let settled = self.output.output.settle();
                    self.check(settled);
                    // Fails only if the run was interrupted.
                    let _ = reply.send(self.summary());
                }
                Ok(CaptureCommand::Finish(report, reply)) => {
                    // As above.
                    let _ = reply.send(self.finish(report.as_deref()));
                    return;
                }
                // The run failed. The error of the run is printed.
                Err(TryRecvError::Disconnected) => return drop(self.finish(None)),
                Err(TryRecvError::Empty) => {}
            }
            let waited = self.ring.wait(READ_INTERVAL, self.wake.as_fd());
            self.check(waited);
            // Reset; there is nothing to read if the ring woke the thread.
            let _ = self.wake.read();
            self.read();
        }
    }

    fn is_running(&self) -> bool {
        self.ends.is_some()
    }

    /// Ends the capture after an error.
    fn check(&mut self, done: Result<()>) {
        if let Err(error) = done
            && self.ends.take().is_some()
        {
            (self.on_error)(EndedOutput::Capture, error);
        }
        self.report_lines();
    }

    /// Reports an end of the lines alone.
    fn report_lines(&mut self) {
        if let Some(error) = self.output.output.take_lines_error() {
            (self.on_error)(EndedOutput::Lines, error);
        }
    }

    /// Reads what is in the ring now. Packets that arrive meanwhile wait for the next wake-up:
    /// reading until the ring is empty would handle each of them alone. After the end of the
    /// capture, packets are skipped.
    fn read(&mut self) {
        let mut left = self.ring.filled_bytes();
        while left > 0 {
            if let Err(error) = self.count_filtered() {
                return self.check(Err(error));
            }
            let is_running = self.is_running();
            let batch = self.ring.batch(MAX_BATCH_BYTES.min(left));
            if batch.is_empty() {
                break;
            }
            left = left.saturating_sub(batch.bytes());
            let matching = self.judge.matching(batch.packets());
            let done = match &matching {
                Some(packets) if is_running => self.output.take(|| packets.iter().copied()),
                None if is_running => self.output.take(|| batch.packets()),
                _ => {
                    self.skipped += matching.as_ref().map_or_else(|| batch.packets().count(), Vec::len) as u64;
                    Ok(())
                }
            };
            drop(matching);
            drop(batch);
            self.check(done);
            if self.output.output.is_full() && self.is_running() {
                self.ends = None;
                let flushed = self.output.output.flush();
                self.check(flushed);
            }
        }
        let flushed = self.output.flush_in_time();
        self.check(flushed);
    }

    /// Adds the packets that did not match since the last call to the file.
    fn count_filtered(&mut self) -> Result<()> {
        if !self.judge.is_on() {
            return Ok(());
        }
        let filtered = self.ring.stats()?.filtered.both() + self.judge.filtered().both();
        // Packets after the end are no part of the file.
        let is_running = self.is_running();
        if let Some(writer) = self.output.output.writer.as_mut().filter(|_| is_running) {
            writer.add_filtered(filtered - self.filtered);
        }
        self.filtered = filtered;
        Ok(())
    }

    /// Packets that were lost and that no packet states.
    fn lost_at_end(&self) -> u64 {
        self.ring.stats().map_or(0, |stats| stats.lost().both().saturating_sub(self.output.lost))
    }

    /// Everything that was counted so far.
    fn summary(&self) -> CaptureSummary {
        let mut stats = self.ring.stats().unwrap_or_default();
        let here = self.judge.filtered();
        stats.filtered = stats.filtered.zip(here, |kernel, here| kernel + here);
        let (captured, written) = (self.output.captured, self.output.output.written());
        let (left_out, is_full) = (self.output.output.left_out(), self.output.output.is_full());
        let (has_filter, skipped) = (self.judge.is_on(), self.skipped);
        CaptureSummary { has_filter, written, captured, left_out, is_full, skipped, stats }
    }

    fn finish(&mut self, report: Option<&Report>) -> Result<()> {
        self.read();
        if !self.is_running() && !self.output.output.is_full() {
            // An error ended it, which was reported.
            return Ok(());
        }
        let lost = if self.is_running() { self.count_filtered().map_or(0, |()| self.lost_at_end()) } else { 0 };
        let counted = self.summary().balance();
        self.output.add_interfaces();
        let RingOutput { output, identities, keys, .. } = &mut self.output;
        if let (Some(log), Some(writer)) = (keys, &mut output.writer) {
            writer.add_secrets(&log.new_secrets());
        }
        identities.learn(report.into_iter().flat_map(names));
        let of_report = report.map(|report| format!("{}\n", balance(report))).unwrap_or_default();
        let comment = format!("{of_report}capture: {counted}");
        let finished = output.finish(lost, identities.names(), &comment);
        self.report_lines();
        finished
    }
}

impl RingOutput {
    /// Writes the packets of a batch, with process and name.
    fn take<'a, P: Iterator<Item = RingPacket<'a>>>(&mut self, packets: impl Fn() -> P) -> Result<()> {
        let flows = self.identities.prepare(packets());
        self.captured += flows.len() as u64;
        if let (Some(log), Some(writer)) = (&mut self.keys, &mut self.output.writer) {
            let keys = flows.iter().map(|place| self.identities.of(*place).key.copied());
            writer.add_secrets(&log.secrets_for(packets().zip(keys)));
        }
        self.write(packets().zip(flows))
    }

    /// Writes the packets of a batch, each with the place of its flow.
    fn write<'a>(&mut self, packets: impl Iterator<Item = (RingPacket<'a>, Option<usize>)>) -> Result<()> {
        for (packet, place) in packets {
            if packet.interface >= self.known_interfaces {
                self.add_interfaces();
            }
            let Self { output, identities, segmenter, lost: stated, .. } = self;
            // Programs on two CPUs may count in another order than they find room.
            let mut lost = packet.lost.saturating_sub(*stated);
            *stated += lost;
            let RingPacket { time_ns, interface, orig_len, gso_size, gso_segs, vlan, bytes, direction, .. } = packet;
            let known = identities.of(place);
            let IdentifiedFlow { key: flow, identity, .. } = known;
            if !output.selects(flow, identity, time_ns, &mut lost) {
                continue;
            }
            let remote = identity.remote.as_deref().filter(|_| identities.states_names);
            let flags = Some(if direction == Direction::Egress { OUTBOUND } else { INBOUND });
            let frame = ObservedFrame { bytes, orig_len, gso_size, gso_segs, vlan };
            let mut outcome = Ok(());
            segmenter.divide(&frame, &mut |wire| {
                if outcome.is_err() {
                    return;
                }
                let comments = [identity.comment.as_deref(), wire.comment, remote];
                let encoded = if wire.comment.is_none() { known.options(direction) } else { None };
                let record = WritablePacket {
                    time_ns,
                    interface,
                    flags,
                    orig_len: wire.orig_len,
                    parts: wire.parts,
                    comments: &comments,
                    pid: identity.pid,
                    lost_before: 0,
                    encoded,
                };
                let direction = Some(direction);
                let packet = OutputPacket { record, direction, ethernet: None, flow, identity };
                outcome = output.packet(&packet, std::mem::take(&mut lost), || identities.names());
            });
            outcome?;
        }
        Ok(())
    }

    /// Adds the interfaces that appeared to the file.
    fn add_interfaces(&mut self) {
        let new = self.interfaces.after(self.known_interfaces);
        self.known_interfaces += new.len() as u32;
        if let Some(writer) = &mut self.output.writer {
            writer.add_interfaces(&new);
        }
    }

    /// Lines appear at once.
    fn flush_in_time(&mut self) -> Result<()> {
        self.output.flush_lines()?;
        if !self.is_unbuffered && self.flushed.elapsed() < FLUSH_INTERVAL {
            return Ok(());
        }
        self.flushed = Instant::now();
        self.output.flush()
    }
}

/// The display names of remotes in a report.
fn names(report: &Report) -> impl Iterator<Item = (std::net::IpAddr, String)> {
    report.flows.iter().filter_map(|flow| {
        let name = flow.naming.as_ref()?.display_name.as_ref()?;
        Some((flow.flow.key.remote.addr, name.name.as_str().to_owned()))
    })
}

/// The balance of a report in one line.
fn balance(report: &Report) -> String {
    let balance = &report.balance;
    let state = match balance.state {
        BalanceState::Closed => "closed",
        BalanceState::Open => "open",
        BalanceState::Live | BalanceState::Unknown | BalanceState::NotApplicable => "unknown",
    };
    let amount = |amount: Amount| format!("{} skbs {} bytes", amount.skbs, amount.bytes);
    let both = |name, of: PerDirection<Amount>| format!("{name} {} out {} in", amount(of.egress), amount(of.ingress));
    let remainders = balance.remainders.iter().map(|(_, amounts)| *amounts).sum();
    let parts = [
        Some(both("counted", balance.counted)),
        balance.interface.map(|interface| both("interface", interface)),
        Some(both("flows", balance.flows)),
        Some(both("remainders", remainders)),
    ];
    format!("balance: {state}; {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}
