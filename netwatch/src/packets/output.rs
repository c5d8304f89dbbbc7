//! From packets to lines and records: what the capture of a run and the view of a file share.

use std::net::IpAddr;

use super::identity::PacketIdentity;
use super::line::PrintedPacket;
use super::only::Selection;
use super::printer::PacketPrinter;
use super::writer::{CaptureWriter, Omitted};
use crate::capture::write::WritablePacket;
use crate::error::{Error, Result};
use crate::flow::{Direction, FlowKey};

/// A packet to print and to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputPacket<'a> {
    /// The record. Lost packets are passed to [`PacketOutput::packet`].
    pub record: WritablePacket<'a>,
    /// `None` if it is not known.
    pub direction: Option<Direction>,
    /// The captured bytes with an Ethernet header, if those of the record have another one.
    pub ethernet: Option<&'a [u8]>,
    pub flow: Option<&'a FlowKey>,
    pub identity: &'a PacketIdentity,
}

/// Prints and writes the packets that are selected, up to a number of them.
#[derive(Debug)]
pub(super) struct PacketOutput {
    pub writer: Option<CaptureWriter>,
    pub printer: Option<PacketPrinter>,
    only: Selection,
    written: u64,
    left_out: u64,
    max_packets: u64,
    /// Since the last packet that was selected.
    omitted: Omitted,
    /// Why no more lines are printed, until it is taken.
    lines_error: Option<Error>,
}

impl PacketOutput {
    pub(super) fn new(
        writer: Option<CaptureWriter>,
        printer: Option<PacketPrinter>,
        only: Selection,
        max_packets: Option<u64>,
    ) -> Self {
        let max_packets = max_packets.unwrap_or(u64::MAX);
        let omitted = Omitted::default();
        Self { writer, printer, only, written: 0, left_out: 0, max_packets, omitted, lines_error: None }
    }

    /// The capture has started: the files replace older ones.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.print(PacketPrinter::begin)?;
        self.writer.as_mut().map_or(Ok(()), CaptureWriter::begin)
    }

    /// Number of packets that were printed or written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Number of packets that were not selected.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether a packet is to be passed to [`PacketOutput::packet`]. One that is not counts as
    /// filtered; `lost` packets were lost before it, and are taken then.
    pub(super) fn selects(
        &mut self,
        flow: Option<&FlowKey>,
        identity: &PacketIdentity,
        time_ns: u64,
        lost: &mut u64,
    ) -> bool {
        if self.only.includes(flow, identity) {
            return true;
        }
        self.left_out += 1;
        if !self.is_full() {
            self.omitted.add(Omitted { lost: std::mem::take(lost), filtered: 1 });
            if let Some(writer) = &mut self.writer {
                writer.extend_span(time_ns);
            }
        }
        false
    }

    /// Whether the requested number of packets was reached.
    pub(super) fn is_full(&self) -> bool {
        self.written >= self.max_packets
    }

    /// Prints and writes a packet that is selected. `lost` packets were lost before it; `names` are
    /// those of addresses that are known so far.
    pub(super) fn packet<'n, N>(
        &mut self,
        packet: &OutputPacket<'_>,
        lost: u64,
        names: impl FnOnce() -> N,
    ) -> Result<()>
    where
        N: Iterator<Item = (IpAddr, &'n str)>,
    {
        if self.is_full() {
            return Ok(());
        }
        self.omitted.add(Omitted { lost, filtered: 0 });
        self.written += 1;
        let Omitted { lost, filtered } = std::mem::take(&mut self.omitted);
        self.print(|printer| print(printer, packet, lost))?;
        match &mut self.writer {
            Some(writer) => writer.packet(&WritablePacket { lost_before: lost, ..packet.record }, filtered, names),
            None => Ok(()),
        }
    }

    /// Makes lines visible.
    pub(super) fn flush_lines(&mut self) -> Result<()> {
        self.print(PacketPrinter::flush)
    }

    /// Why the lines ended before the file, once.
    pub(super) fn take_lines_error(&mut self) -> Option<Error> {
        self.lines_error.take()
    }

    /// Prints. Lines that cannot be printed end the lines, and not the file beside them.
    fn print(&mut self, action: impl FnOnce(&mut PacketPrinter) -> Result<()>) -> Result<()> {
        let Some(printer) = &mut self.printer else { return Ok(()) };
        match action(printer) {
            Err(error) if self.writer.is_some() => {
                self.printer = None;
                self.lines_error = Some(error);
                Ok(())
            }
            done => done,
        }
    }

    /// Makes lines and records visible.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.flush_lines()?;
        self.writer.as_mut().map_or(Ok(()), CaptureWriter::flush)
    }

    /// As [`PacketOutput::flush`], and waits for the reader of the lines.
    pub(super) fn settle(&mut self) -> Result<()> {
        let flushed = self.flush();
        flushed.and(self.print(PacketPrinter::settle))
    }

    /// Completes lines and file. `lost` packets were lost after the last one.
    pub(super) fn finish<'n>(
        &mut self,
        lost: u64,
        names: impl Iterator<Item = (IpAddr, &'n str)>,
        comment: &str,
    ) -> Result<()> {
        let mut omitted = std::mem::take(&mut self.omitted);
        omitted.add(Omitted { lost, filtered: 0 });
        self.print(|printer| printer.lost(omitted.lost))?;
        let finished = self.writer.as_mut().map_or(Ok(()), |writer| {
            let finished = writer.finish(names, comment, omitted);
            finished.map_err(|error| error.hint(format!("{} is incomplete", writer.path())))
        });
        // The reader of the lines may be slow.
        finished.and(self.print(PacketPrinter::finish))
    }
}

fn print(printer: &mut PacketPrinter, packet: &OutputPacket<'_>, lost: u64) -> Result<()> {
    let OutputPacket { record, direction, ethernet, flow, identity } = *packet;
    let [headers, rest] = record.parts;
    let whole;
    let bytes = match ethernet {
        Some(bytes) => bytes,
        None if rest.is_empty() => headers,
        None => {
            whole = record.parts.concat();
            &whole
        }
    };
    let (time_ns, orig_len) = (record.time_ns, record.orig_len);
    printer.packet(&PrintedPacket { time_ns, direction, bytes, orig_len, flow, identity }, lost)
}
