//! Writes the packets of a capture to its files, each of which can be read alone.

use std::fs::File;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::files::{CaptureFiles, Rotation};
use super::place::{CapturePlace, Format};
use crate::capture::CapturedInterface;
use crate::capture::write::{
    ETHERNET, InterfaceDescription, InterfaceStatistics, PcapNgWriter, PcapWriter, SectionHeader, WritablePacket,
};
use crate::error::{Error, Result};

/// Blocks are collected until there are so many bytes.
const BUFFER_BYTES: usize = 128 * 1024;

/// Facts for the head of each file.
#[derive(Debug, Clone, Default)]
pub struct CaptureFacts {
    /// The operating system.
    pub os: String,
    /// netwatch and its version.
    pub application: String,
    /// The command, its user, and the id of the run.
    pub comment: String,
}

/// What happened between two packets of a file that are not next to each other.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Omitted {
    /// Packets that were lost.
    pub lost: u64,
    /// Packets that were not selected.
    pub filtered: u64,
}

impl Omitted {
    /// Saturates: a capture that is replayed may state any number.
    pub(super) fn add(&mut self, more: Self) {
        self.lost = self.lost.saturating_add(more.lost);
        self.filtered = self.filtered.saturating_add(more.filtered);
    }
}

/// Encodes packets and writes them.
#[derive(Debug)]
pub struct CaptureWriter {
    files: CaptureFiles,
    facts: CaptureFacts,
    interfaces: Vec<CapturedInterface>,
    /// The counts of several interfaces are those of all of them, which share a buffer.
    has_common_counts: bool,
    encoder: Encoder,
    /// Secrets for the head of the next file.
    secrets: Vec<u8>,
    has_head: bool,
    /// Packets in the current file, and the times of the first and the last one.
    in_file: u64,
    span_ns: Option<(u64, u64)>,
    /// When the capture began.
    began_ns: u64,
    omitted_in_file: Omitted,
}

#[derive(Debug)]
enum Encoder {
    PcapNg(PcapNgWriter),
    Pcap(PcapWriter),
}

impl CaptureWriter {
    /// Opens the first file. It is complete when `finish` was called.
    pub fn open(place: CapturePlace, rotation: Rotation) -> Result<Self> {
        let encoder = match place.format {
            Format::PcapNg => Encoder::PcapNg(PcapNgWriter::default()),
            Format::Pcap => Encoder::Pcap(PcapWriter::default()),
        };
        Ok(Self::new(CaptureFiles::open(place, rotation)?, encoder))
    }

    /// Writes pcapng to a stream; `name` is its name in messages.
    pub fn stream(stream: File, name: &str) -> Result<Self> {
        Ok(Self::new(CaptureFiles::stream(stream, name)?, Encoder::PcapNg(PcapNgWriter::default())))
    }

    fn new(files: CaptureFiles, encoder: Encoder) -> Self {
        Self {
            files,
            facts: CaptureFacts::default(),
            interfaces: Vec::new(),
            has_common_counts: false,
            encoder,
            secrets: Vec::new(),
            has_head: false,
            in_file: 0,
            span_ns: None,
            began_ns: 0,
            omitted_in_file: Omitted::default(),
        }
    }

    /// Sets what the head of each file contains.
    pub fn set_facts(&mut self, facts: CaptureFacts, interfaces: Vec<CapturedInterface>) {
        (self.facts, self.interfaces) = (facts, interfaces);
    }

    /// The packets come from the buffer of a capture in progress, whose counts are those of all its
    /// interfaces. Returns the number of interfaces that the head of the file will have.
    pub(super) fn begin_live(&mut self) -> u32 {
        self.has_common_counts = true;
        self.interfaces.len() as u32
    }

    /// Begins a capture: writes the head of the first file.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.began_ns = now_ns();
        self.head();
        self.flush()
    }

    /// Adds interfaces and returns the number of the first one.
    pub(super) fn add_interfaces(&mut self, interfaces: &[CapturedInterface]) -> u32 {
        let first = self.interfaces.len();
        self.interfaces.extend_from_slice(interfaces);
        if let (true, Encoder::PcapNg(pcapng)) = (self.has_head, &mut self.encoder) {
            interfaces.iter().for_each(|interface| pcapng.interface(&describe(interface, &self.facts.os)));
        }
        first as u32
    }

    /// The path of the current file.
    pub(super) fn path(&self) -> String {
        self.files.path()
    }

    fn head(&mut self) {
        let CaptureFacts { os, application, comment } = &self.facts;
        self.has_head = true;
        match &mut self.encoder {
            Encoder::Pcap(pcap) => {
                let first = self.interfaces.first();
                let (snaplen, link) = first.map_or((0, ETHERNET), |first| (first.snaplen, first.link_number));
                pcap.header(snaplen, link);
            }
            Encoder::PcapNg(pcapng) => {
                let comment = &joined(comment, self.files.number().map(|number| format!("file: {number} of a series")));
                pcapng.section(&SectionHeader { os, application, comment });
                self.interfaces.iter().for_each(|interface| pcapng.interface(&describe(interface, os)));
                if !self.secrets.is_empty() {
                    pcapng.secrets(&self.secrets);
                }
            }
        }
    }

    /// Adds secrets, which decrypt later packets of this file and of the next ones.
    pub(super) fn add_secrets(&mut self, key_log: &[u8]) {
        if key_log.is_empty() {
            return;
        }
        if self.files.may_rotate() || !self.has_head {
            self.secrets.extend_from_slice(key_log);
        }
        if let (true, Encoder::PcapNg(pcapng)) = (self.has_head, &mut self.encoder) {
            pcapng.secrets(key_log);
        }
    }

    /// Adds a packet. Begins a new file first if the current one is full; `names` are those known
    /// so far. `filtered` packets before it were not selected.
    pub(super) fn packet<'n, N>(
        &mut self,
        packet: &WritablePacket<'_>,
        filtered: u64,
        names: impl FnOnce() -> N,
    ) -> Result<()>
    where
        N: Iterator<Item = (IpAddr, &'n str)>,
    {
        let pending = self.buffer().len();
        if self.in_file > 0 && self.files.is_full(pending) {
            self.end_file(names(), "")?;
            self.files.open_next()?;
            self.has_head = false;
        }
        if !self.has_head {
            self.head();
        }
        self.in_file += 1;
        self.omitted_in_file.add(Omitted { lost: packet.lost_before, filtered });
        self.extend_span(packet.time_ns);
        match &mut self.encoder {
            Encoder::PcapNg(pcapng) => pcapng.packet(packet),
            Encoder::Pcap(pcap) => {
                let link = |interface: u32| self.interfaces.get(interface as usize).map(|about| about.link_number);
                if link(packet.interface) != link(0) {
                    return Err(Error::other("write", self.files.path(), "a pcap file has one link type")
                        .hint("write pcapng: give a name that does not end in .pcap"));
                }
                pcap.packet(packet);
            }
        }
        if self.buffer().len() >= BUFFER_BYTES { self.flush_blocks() } else { Ok(()) }
    }

    /// Counts a packet at this time as part of the file's time, also if it is not written.
    pub(super) fn extend_span(&mut self, time_ns: u64) {
        let (first, _) = self.span_ns.unwrap_or((time_ns, 0));
        self.span_ns = Some((first, time_ns));
    }

    /// Adds packets that did not match the filter.
    pub(super) fn add_filtered(&mut self, packets: u64) {
        self.omitted_in_file.add(Omitted { lost: 0, filtered: packets });
    }

    /// Writes the end of the current file and completes it.
    fn end_file<'n>(&mut self, names: impl Iterator<Item = (IpAddr, &'n str)>, comment: &str) -> Result<()> {
        if !self.has_head {
            self.head();
        }
        let (written, omitted) = (std::mem::take(&mut self.in_file), std::mem::take(&mut self.omitted_in_file));
        let span_ns = self.span_ns.take().unwrap_or_else(|| (self.began_ns, now_ns()));
        if let Encoder::PcapNg(pcapng) = &mut self.encoder {
            pcapng.names(names);
            // The packets are not counted by interface.
            let number = self.interfaces.len();
            if number == 1 || number > 1 && self.has_common_counts {
                let text = format!("the counts are those of all {number} interfaces together");
                let text = if comment.is_empty() { text } else { format!("{comment}\n{text}") };
                let comment = if number > 1 { text.as_str() } else { comment };
                let Omitted { lost, filtered } = omitted;
                let accepted = written.saturating_add(lost);
                let received = accepted.saturating_add(filtered);
                let number = self.files.number().map(|number| format!("counts of file {number} of the series"));
                let comment = &joined(&number.unwrap_or_default(), Some(comment.to_owned()));
                pcapng.statistics(&InterfaceStatistics { span_ns, received, accepted, dropped: lost, comment });
            }
        }
        self.flush_blocks()?;
        self.files.close()
    }

    /// Completes the last file. `omitted` were omitted after the last packet.
    pub(super) fn finish<'n>(
        &mut self,
        names: impl Iterator<Item = (IpAddr, &'n str)>,
        comment: &str,
        omitted: Omitted,
    ) -> Result<()> {
        self.omitted_in_file.add(omitted);
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

/// The lines of a comment.
fn joined(first: &str, more: Option<String>) -> String {
    let lines = [first, more.as_deref().unwrap_or_default()];
    lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Nanoseconds since the Unix epoch.
fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn describe<'a>(interface: &'a CapturedInterface, os: &'a str) -> InterfaceDescription<'a> {
    let CapturedInterface { name, description, filter, link_number, snaplen } = interface;
    let (name, description, filter) = (name.as_deref(), description.as_deref(), filter.as_deref());
    InterfaceDescription { name, description, filter, os, snaplen: *snaplen, link: *link_number }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use nix::unistd::{Gid, Uid};
    use pcap_parser::traits::PcapReaderIterator;
    use pcap_parser::{Block, PcapBlockOwned, PcapNGReader};

    use super::*;
    use crate::capture::Capture;

    fn writer(path: &Path) -> CaptureWriter {
        let place = CapturePlace::open(path, (Uid::effective(), Gid::effective()), false).expect("a directory");
        let mut writer = CaptureWriter::open(place, Rotation::default()).expect("a file");
        writer.set_facts(CaptureFacts::default(), vec![CapturedInterface { link_number: 1, ..Default::default() }]);
        writer
    }

    fn packet(interface: u32, lost_before: u64) -> WritablePacket<'static> {
        let parts: [&[u8]; 2] = [&[7; 60], &[]];
        let (flags, comments, pid, encoded) = (None, &[][..], None, None);
        WritablePacket { time_ns: 5, interface, flags, orig_len: 60, parts, comments, pid, lost_before, encoded }
    }

    /// The values of the options of the interface statistics.
    fn statistics(path: &Path) -> Vec<(u16, u64)> {
        let file = File::open(path).expect("a file");
        let mut reader = PcapNGReader::new(65_536, file).expect("pcapng");
        let mut found = Vec::new();
        while let Ok((length, block)) = reader.next() {
            if let PcapBlockOwned::NG(Block::InterfaceStatistics(statistics)) = block {
                let number = |value: &[u8]| value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let counts = statistics.options.iter().filter(|option| option.code.0 >= 4);
                found = counts.map(|option| (option.code.0, number(&option.value))).collect();
            }
            reader.consume(length);
        }
        found
    }

    #[test]
    fn lost_and_filtered_packets_are_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pcapng");
        let mut writer = writer(&path);
        let names = || std::iter::empty::<(IpAddr, &str)>();
        writer.packet(&packet(0, 3), 5, names).expect("written");
        writer.finish(names(), "", Omitted { lost: 1, filtered: 2 }).expect("finished");
        let (received, lost, accepted) = ((4, 12), (5, 4), (6, 5));
        assert_eq!(statistics(&path), [received, lost, accepted]);
    }

    #[test]
    fn each_file_of_a_series_has_its_own_counts_and_the_last_one_the_comment() {
        let dir = tempfile::tempdir().expect("a directory");
        let owner = (Uid::effective(), Gid::effective());
        let place = CapturePlace::open(&dir.path().join("x.pcapng"), owner, false).expect("a directory");
        let rotation = Rotation { max_bytes: Some(1), ..Rotation::default() };
        let mut writer = CaptureWriter::open(place, rotation).expect("a file");
        writer.set_facts(CaptureFacts::default(), vec![CapturedInterface { link_number: 1, ..Default::default() }]);
        let names = || std::iter::empty::<(IpAddr, &str)>();
        writer.packet(&packet(0, 3), 5, names).expect("written");
        writer.packet(&packet(0, 1), 0, names).expect("written");
        writer.finish(names(), "balance: closed", Omitted { lost: 2, filtered: 0 }).expect("finished");
        let file = |number: u32| dir.path().join(format!("x-{number:05}.pcapng"));
        assert_eq!(statistics(&file(1)), [(4, 9), (5, 3), (6, 4)]);
        assert_eq!(statistics(&file(2)), [(4, 4), (5, 3), (6, 4)]);
        let has = |number, text: &str| {
            let bytes = std::fs::read(file(number)).expect("read");
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(has(1, "file: 1 of a series") && has(1, "counts of file 1 of the series") && !has(1, "balance"));
        assert!(has(2, "file: 2 of a series") && has(2, "counts of file 2 of the series\nbalance: closed"));
    }

    #[test]
    fn a_file_without_packets_has_the_times_of_the_capture() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pcapng");
        let mut writer = writer(&path);
        let before_ns = now_ns();
        writer.begin().expect("written");
        writer.finish(std::iter::empty(), "", Omitted { lost: 0, filtered: 3 }).expect("finished");
        let file = File::open(&path).expect("a file");
        let mut reader = PcapNGReader::new(65_536, file).expect("pcapng");
        let mut times = Vec::new();
        while let Ok((length, block)) = reader.next() {
            if let PcapBlockOwned::NG(Block::InterfaceStatistics(statistics)) = block {
                let half = |value: &[u8]| value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let of_capture = statistics.options.iter().filter(|option| [2, 3].contains(&option.code.0));
                times = of_capture
                    .map(|option| u64::from(half(&option.value)) << 32 | u64::from(half(&option.value[4..])))
                    .collect();
            }
            reader.consume(length);
        }
        assert!(times.len() == 2 && before_ns <= times[0] && times[0] <= times[1], "{times:?}");
    }

    /// A tail distinguishes the end of a run from its death.
    #[test]
    fn a_capture_without_interfaces_has_an_end() {
        static CONTINUE: AtomicBool = AtomicBool::new(false);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pcapng");
        let mut writer = writer(&path);
        writer.set_facts(CaptureFacts::default(), Vec::new());
        writer.begin().expect("written");
        let has_end = || {
            let mut capture = Capture::live("x", File::open(&path).expect("a file"), &CONTINUE).expect("pcapng");
            capture.each(|_| panic!("a packet")).expect("read");
            capture.has_end()
        };
        assert!(!has_end());
        writer.finish(std::iter::empty(), "", Omitted::default()).expect("finished");
        assert!(has_end());
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pcapng");
        let mut writer = writer(&path);
        let names = || std::iter::empty::<(IpAddr, &str)>();
        for _ in 0..2 {
            writer.packet(&packet(0, u64::MAX), u64::MAX, names).expect("written");
        }
        writer.finish(names(), "", Omitted { lost: u64::MAX, filtered: u64::MAX }).expect("finished");
        assert_eq!(statistics(&path), [(4, u64::MAX), (5, u64::MAX), (6, u64::MAX)]);
    }

    #[test]
    fn a_pcap_file_has_one_link_type() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = writer(&dir.path().join("x.pcap"));
        writer.add_interfaces(&[CapturedInterface { link_number: 101, ..Default::default() }]);
        let names = || std::iter::empty::<(IpAddr, &str)>();
        writer.packet(&packet(0, 0), 0, names).expect("written");
        let error = writer.packet(&packet(1, 0), 0, names).expect_err("refused").to_string();
        assert!(error.contains("one link type"), "{error}");
    }
}
