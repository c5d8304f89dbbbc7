//! Writes the packets of a capture to its files, each of which can be read alone.

use super::files::{CaptureFiles, Rotation};
use super::place::{CapturePlace, Format};
use crate::capture::write::{
    InterfaceDescription, InterfaceStatistics, PcapNgWriter, PcapWriter, SectionHeader, WritablePacket,
};
use crate::error::Result;

/// Blocks are collected until there are so many bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// What the interface is.
const DESCRIPTION: &str = "the host's end of the link of the command's network namespace";

/// Facts about the run, for the head of each file.
#[derive(Debug, Clone, Default)]
pub struct CaptureFacts {
    /// The operating system.
    pub os: String,
    /// netwatch and its version.
    pub application: String,
    /// The command, its user, and the id of the run.
    pub comment: String,
    /// The interface.
    pub interface: String,
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
    /// The filter expression.
    pub filter: Option<String>,
}

/// Encodes packets and writes them.
#[derive(Debug)]
pub struct CaptureWriter {
    files: CaptureFiles,
    facts: CaptureFacts,
    encoder: Encoder,
    /// Packets in the current file, and the times of the first and the last one.
    in_file: u64,
    span_ns: Option<(u64, u64)>,
    lost_in_file: u64,
    filtered_in_file: u64,
}

#[derive(Debug)]
enum Encoder {
    PcapNg(PcapNgWriter),
    Pcap(PcapWriter),
}

impl CaptureWriter {
    /// Opens the first file. It is complete when `CaptureWriter::finish` was called.
    pub fn open(place: CapturePlace, rotation: Rotation) -> Result<Self> {
        let encoder = match place.format {
            Format::PcapNg => Encoder::PcapNg(PcapNgWriter::default()),
            Format::Pcap => Encoder::Pcap(PcapWriter::default()),
        };
        let files = CaptureFiles::open(place, rotation)?;
        let facts = CaptureFacts::default();
        Ok(Self { files, facts, encoder, in_file: 0, span_ns: None, lost_in_file: 0, filtered_in_file: 0 })
    }

    /// Writes the head of the first file.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.head();
        self.flush()
    }

    /// Sets what the head of each file contains.
    pub fn set_facts(&mut self, facts: CaptureFacts) {
        self.facts = facts;
    }

    /// The path of the current file.
    pub(super) fn path(&self) -> String {
        self.files.path()
    }

    fn head(&mut self) {
        let CaptureFacts { os, application, comment, interface, snaplen, filter } = &self.facts;
        match &mut self.encoder {
            Encoder::Pcap(pcap) => pcap.header(*snaplen),
            Encoder::PcapNg(pcapng) => {
                pcapng.section(&SectionHeader { os, application, comment });
                pcapng.interface(&InterfaceDescription {
                    name: interface,
                    description: DESCRIPTION,
                    filter: filter.as_deref(),
                    os,
                    snaplen: *snaplen,
                });
            }
        }
    }

    /// Adds a packet. Begins a new file first if the current one is full; `names` are those known
    /// so far.
    pub(super) fn packet<'n, N>(&mut self, packet: &WritablePacket<'_>, names: impl FnOnce() -> N) -> Result<()>
    where
        N: Iterator<Item = (std::net::IpAddr, &'n str)>,
    {
        let pending = self.buffer().len();
        if self.in_file > 0 && self.files.is_full(pending) {
            self.end_file(names(), "")?;
            self.files.open_next()?;
            self.head();
        }
        self.in_file += 1;
        self.lost_in_file += packet.lost_before;
        let (first, _) = self.span_ns.unwrap_or((packet.time_ns, 0));
        self.span_ns = Some((first, packet.time_ns));
        match &mut self.encoder {
            Encoder::PcapNg(pcapng) => pcapng.packet(packet),
            Encoder::Pcap(pcap) => pcap.packet(packet),
        }
        if self.buffer().len() >= BUFFER_BYTES { self.flush_blocks() } else { Ok(()) }
    }

    /// Adds packets that did not match the filter.
    pub(super) fn add_filtered(&mut self, packets: u64) {
        self.filtered_in_file += packets;
    }

    /// Writes the end of the current file and completes it.
    fn end_file<'n>(&mut self, names: impl Iterator<Item = (std::net::IpAddr, &'n str)>, comment: &str) -> Result<()> {
        let (written, lost) = (std::mem::take(&mut self.in_file), std::mem::take(&mut self.lost_in_file));
        let filtered = std::mem::take(&mut self.filtered_in_file);
        let span_ns = self.span_ns.take().unwrap_or_default();
        if let Encoder::PcapNg(pcapng) = &mut self.encoder {
            pcapng.names(names);
            let accepted = written + lost;
            let received = accepted + filtered;
            pcapng.statistics(&InterfaceStatistics { span_ns, received, accepted, dropped: lost, comment });
        }
        self.flush_blocks()?;
        self.files.close()
    }

    /// Completes the last file. `lost` packets were lost after the last one.
    pub(super) fn finish<'n>(
        &mut self,
        names: impl Iterator<Item = (std::net::IpAddr, &'n str)>,
        comment: &str,
        lost: u64,
    ) -> Result<()> {
        self.lost_in_file += lost;
        self.end_file(names, comment)
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.encoder {
            Encoder::PcapNg(pcapng) => &mut pcapng.buffer,
            Encoder::Pcap(pcap) => &mut pcap.buffer,
        }
    }

    fn flush_blocks(&mut self) -> Result<()> {
        let mut blocks = std::mem::take(self.buffer());
        let written = self.files.write(&blocks);
        blocks.clear();
        *self.buffer() = blocks;
        written
    }

    /// Makes all packets so far readable for others.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.flush_blocks()?;
        self.files.flush()
    }
}
