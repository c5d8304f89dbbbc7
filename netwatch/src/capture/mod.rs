//! Reads capture files, pcap and pcapng, as a stream in bounded memory: frame by frame, with times
//! and link types. The content of frames is parsed elsewhere.

mod blocks;
mod broken;
pub mod comment;
pub mod ethernet;
pub mod expression;
mod records;
mod source;
mod time;
pub mod write;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use netwatch_common::parse::{Captured, LinkType, Linked};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};

pub use broken::Broken;

use crate::error::{Error, Result};
use blocks::Blocks;
use broken::BrokenCause;
use records::Records;
use source::CaptureSource;

/// Number of bytes read at a time; longer frames need more memory.
const BUFFER: usize = 1 << 20;
/// Maximum length of a block of a pcapng file, bytes, as in libpcap. Some blocks contain the keys
/// or names of a whole session.
const MAX_BLOCK: usize = 16 << 20;
/// Maximum number of interfaces of all sections of a file: a file for each second of twelve days,
/// joined. A file of a few kilobytes can decompress to gigabytes.
const MAX_INTERFACES: usize = 1 << 20;
/// Maximum length of the texts of all interfaces of a file, bytes.
const MAX_INTERFACE_TEXT: usize = 16 << 20;
/// Maximum length of a frame, bytes. libpcap captures no more of one (`MAXIMUM_SNAPLEN`); a record
/// with a greater length is not a frame.
const MAX_FRAME: u32 = 262_144;

/// Maximum number of comments of a frame that are read.
const MAX_COMMENTS: usize = 4;

/// An interface of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapturedInterface {
    /// Its name, if the file states one.
    pub name: Option<String>,
    /// What it is, if the file states it.
    pub description: Option<String>,
    /// The expression that its frames match, if the file states it.
    pub filter: Option<String>,
    /// The number of its link type.
    pub link_number: u16,
    /// Maximum number of captured bytes of a frame; 0 for no limit.
    pub snaplen: u32,
}

/// One frame of a capture.
#[derive(Debug, Clone, Copy)]
pub struct CapturedFrame<'a> {
    /// Time of capture, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// Length of the frame on the wire, bytes.
    pub orig_len: u32,
    /// The link type, which determines the first header.
    pub link: LinkType,
    /// The number of the link type in the file.
    pub link_number: u16,
    /// Offset in the file of the frame's record or block, bytes.
    pub offset: u64,
    /// The interfaces of its section so far.
    pub interfaces: &'a [CapturedInterface],
    /// The number of its section, and its interface.
    pub interface: (u32, u32),
    /// Its flags (`epb_flags`), if the file has any.
    pub flags: Option<u32>,
    /// Frames that were lost between the previous frame and this one (`epb_dropcount`).
    pub lost_before: u64,
    /// Secrets of TLS connections that the file contains since the previous frame.
    pub secrets: &'a [u8],
    /// The comments on it.
    pub comments: [Option<&'a str>; MAX_COMMENTS],
}

impl<'a> CapturedFrame<'a> {
    /// In the form that the parser takes.
    pub fn linked(&self) -> Linked<'a> {
        Linked { captured: Captured { bytes: self.bytes, orig_len: self.orig_len }, link: self.link }
    }

    /// Length of the frame as it is counted, bytes: on the wire, or the captured length if that is
    /// greater.
    pub fn length(&self) -> u64 {
        u64::from(self.orig_len).max(self.bytes.len() as u64)
    }

    /// Whether the end at which it was captured sent it; `None` if the file does not state it.
    pub fn is_egress(&self) -> Option<bool> {
        /// The direction: the two lowest bits of the flags.
        const DIRECTION: u32 = 3;
        match self.flags? & DIRECTION {
            write::INBOUND => Some(false),
            write::OUTBOUND => Some(true),
            _ => None,
        }
    }

    /// True if only the beginning of the frame was captured.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.orig_len)
    }
}

/// The two formats of capture files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFormat {
    /// pcap: one link type, a record for each packet.
    Pcap,
    /// pcapng: blocks of sections, interfaces and packets.
    PcapNg,
}

impl CaptureFormat {
    /// The identifier used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcap => "pcap",
            Self::PcapNg => "pcapng",
        }
    }
}

/// An open capture.
pub struct Capture {
    name: String,
    size: Option<u64>,
    failure: source::ReadFailure,
    stop: &'static AtomicBool,
    reader: FileReader,
    /// Frames that the file states as lost, in what was read so far.
    dropped: u64,
    has_end: bool,
    losses: Option<(u64, u64)>,
}

/// How far a capture could be read.
#[derive(Debug)]
pub enum CaptureEnd {
    /// To its end.
    Whole,
    /// To a record or block that cannot be read.
    Broken(Broken),
    /// To this offset, because reading was stopped.
    Stopped {
        /// Offset in the file, bytes.
        offset: u64,
    },
}

enum FileReader {
    Pcap(Box<LegacyPcapReader<CaptureSource>>),
    PcapNg(Box<PcapNGReader<CaptureSource>>),
}

impl Capture {
    /// Opens a file, or standard input for `-`. Fails if it is not a capture. Reading ends early
    /// when `stop` becomes true.
    pub fn open(path: &Path, stop: &'static AtomicBool) -> Result<Self> {
        if path == Path::new("-") {
            return Self::live("standard input", std::io::stdin(), stop);
        }
        let name = path.display().to_string();
        let failed = |cause| Error::os("open", name.clone(), cause);
        let file = std::fs::File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        match about.is_file() {
            true => Self::new(&name, file, Some(about.len()), stop),
            false => Self::live(&name, file, stop),
        }
    }

    /// Reads a capture that is still being written: each frame is visited when it arrives.
    pub fn live(name: &str, input: impl Read + 'static, stop: &'static AtomicBool) -> Result<Self> {
        Self::of(name, CaptureSource::live(input, stop), None, stop)
    }

    /// Reads a capture from any source, with its `size` in bytes if that is known. `name` is the
    /// name in error messages.
    pub fn new(name: &str, input: impl Read + 'static, size: Option<u64>, stop: &'static AtomicBool) -> Result<Self> {
        Self::of(name, CaptureSource::new(input, stop), size, stop)
    }

    fn of(
        name: &str,
        (source, failure): (CaptureSource, source::ReadFailure),
        size: Option<u64>,
        stop: &'static AtomicBool,
    ) -> Result<Self> {
        let head = source.head();
        let size = size.filter(|_| !source.is_compressed());
        let reader = match head {
            [0x0a, 0x0d, 0x0d, 0x0a] => PcapNGReader::new(BUFFER, source).map(Box::new).map(FileReader::PcapNg),
            _ => LegacyPcapReader::new(BUFFER, source).map(Box::new).map(FileReader::Pcap),
        };
        match reader {
            // A failed read after the header is reported when the bytes before it have been parsed.
            Ok(reader) => Ok(Self {
                name: name.to_owned(),
                size,
                failure,
                stop,
                reader,
                dropped: 0,
                has_end: false,
                losses: None,
            }),
            Err(cause) => Err(match failure.take() {
                Some(error) => Error::os("read", name, error),
                None => broken::not_a_capture(name, head, &cause),
            }),
        }
    }

    /// The name in error messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes, if that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The format.
    pub fn format(&self) -> CaptureFormat {
        match self.reader {
            FileReader::Pcap(_) => CaptureFormat::Pcap,
            FileReader::PcapNg(_) => CaptureFormat::PcapNg,
        }
    }

    /// Number of frames that were lost according to the statistics of the interfaces (`isb_ifdrop`)
    /// that [`Self::each`] read.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Lost packets, sent and received, of the last balance that [`Self::each`] read.
    pub fn losses(&self) -> Option<(u64, u64)> {
        self.losses
    }

    /// Whether [`Self::each`] read what netwatch ends a capture with: statistics of an interface,
    /// or without an interface, names.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// Calls `visit` with every frame until the file ends, cannot be read further, or reading is
    /// stopped. Returns the first error of `visit`.
    pub fn each(&mut self, visit: impl FnMut(&CapturedFrame<'_>) -> Result<()>) -> Result<CaptureEnd> {
        let outcome = match &mut self.reader {
            FileReader::Pcap(reader) => each(reader.as_mut(), &mut Records::default(), self.stop, visit),
            FileReader::PcapNg(reader) => {
                let mut blocks = Blocks::default();
                let outcome = each(reader.as_mut(), &mut blocks, self.stop, visit);
                self.dropped = blocks.dropped();
                self.has_end = blocks.has_end();
                self.losses = blocks.losses();
                outcome
            }
        };
        match outcome {
            Ok(offset) => Ok(self.end(offset, None)),
            Err(EarlyEnd::File { offset, cause }) => Ok(self.end(offset, Some(cause))),
            Err(EarlyEnd::Visitor(error)) => Err(error),
        }
    }

    /// The parser treats a read that failed or was stopped as the end of the file, so these come
    /// first.
    fn end(&self, offset: u64, cause: Option<BrokenCause>) -> CaptureEnd {
        if self.stop.load(Ordering::Relaxed) {
            return CaptureEnd::Stopped { offset };
        }
        let cause = self.failure.take().map(BrokenCause::Read).or(cause);
        cause.map_or(CaptureEnd::Whole, |cause| CaptureEnd::Broken(Broken::new(&self.name, offset, cause)))
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("name", &self.name).field("format", &self.format()).finish_non_exhaustive()
    }
}

/// Extracts frames from the records or blocks of one format.
trait Decode {
    /// The frame in a record or block, if it contains one.
    fn frame<'a>(
        &'a mut self,
        block: &'a PcapBlockOwned<'a>,
        offset: u64,
    ) -> Result<Option<CapturedFrame<'a>>, BrokenCause>;

    /// The length in the header of the record or block at the start of `bytes`, if the header is
    /// complete. `Err` if the length is not valid.
    fn stated_length(&self, bytes: &[u8]) -> Result<Option<u64>, BrokenCause>;
}

/// Why reading ended early.
enum EarlyEnd {
    Visitor(Error),
    File { offset: u64, cause: BrokenCause },
}

/// What to do before the next attempt to parse.
enum NextAction {
    Consume(usize),
    Refill,
    Grow,
    GiveUp,
}

/// Reads to the end; returns the number of bytes.
fn each(
    reader: &mut impl PcapReaderIterator,
    decoder: &mut impl Decode,
    stop: &AtomicBool,
    mut visit: impl FnMut(&CapturedFrame<'_>) -> Result<()>,
) -> Result<u64, EarlyEnd> {
    let mut capacity = BUFFER;
    loop {
        let offset = reader.consumed() as u64;
        let broken = |cause| EarlyEnd::File { offset, cause };
        if stop.load(Ordering::Relaxed) {
            return Err(broken(BrokenCause::Stopped));
        }
        let step = match reader.next() {
            Ok((length, block)) => {
                if let Some(frame) = decoder.frame(&block, offset).map_err(broken)? {
                    visit(&frame).map_err(EarlyEnd::Visitor)?;
                }
                NextAction::Consume(length)
            }
            Err(PcapError::Eof) => return Ok(offset),
            Err(PcapError::Incomplete(_)) => NextAction::Refill,
            Err(PcapError::BufferTooSmall) => NextAction::Grow,
            Err(_) => NextAction::GiveUp,
        };
        match step {
            NextAction::Consume(length) => reader.consume_noshift(length),
            NextAction::Refill => {
                reader.refill().map_err(|_| broken(BrokenCause::Ended { there: 0, stated_length: None }))?
            }
            // The crate needs more room than the block.
            NextAction::Grow if capacity <= MAX_BLOCK && may_be_completed(reader, decoder).map_err(broken)? => {
                capacity *= 2;
                reader.grow(capacity);
            }
            NextAction::Grow | NextAction::GiveUp => return Err(broken(diagnose(reader, decoder))),
        }
    }
}

/// Whether more bytes can complete the record or block. If not, its lengths contradict each other.
fn may_be_completed(reader: &impl PcapReaderIterator, decoder: &impl Decode) -> Result<bool, BrokenCause> {
    Ok(decoder.stated_length(reader.data())?.is_none_or(|stated_length| stated_length > reader.data().len() as u64))
}

/// Why the record or block at which reading ended could not be parsed.
fn diagnose(reader: &impl PcapReaderIterator, decoder: &impl Decode) -> BrokenCause {
    let there = reader.data().len() as u64;
    match decoder.stated_length(reader.data()) {
        Err(cause) => cause,
        Ok(Some(stated_length)) if stated_length <= there => BrokenCause::Contradiction,
        Ok(stated_length) if reader.reader_exhausted() => BrokenCause::Ended { there, stated_length },
        Ok(_) => BrokenCause::Contradiction,
    }
}

/// Each supported number of a link type (<https://www.tcpdump.org/linktypes.html>), its type in the
/// parser, and its identifier in reports.
const LINK_TYPES: [(u16, LinkType, &str); 15] = [
    (0, LinkType::Null, "bsd_null"),
    (1, LinkType::Ethernet, "ethernet"),
    (9, LinkType::Ppp, "ppp"),
    // In old files, raw IP has the number of DLT_RAW of the capturing system.
    (12, LinkType::Ip, "raw_ip"),
    (14, LinkType::Ip, "raw_ip"),
    (50, LinkType::Ppp, "ppp_hdlc"),
    (51, LinkType::Pppoe, "pppoe"),
    (101, LinkType::Ip, "raw_ip"),
    (104, LinkType::Ppp, "cisco_hdlc"),
    (108, LinkType::Null, "bsd_loop"),
    (113, LinkType::Cooked, "linux_cooked"),
    (192, LinkType::Ppi, "ppi"),
    (228, LinkType::Ipv4, "raw_ipv4"),
    (229, LinkType::Ipv6, "raw_ipv6"),
    (276, LinkType::Cooked2, "linux_cooked_2"),
];

/// The type in the parser.
fn link_type(number: u16) -> LinkType {
    LINK_TYPES.iter().find(|(known, ..)| *known == number).map_or(LinkType::Other, |(_, link, _)| *link)
}

/// The identifier in reports; a number that is not supported is its own identifier.
pub fn link_name(number: u16) -> String {
    LINK_TYPES
        .iter()
        .find(|(known, ..)| *known == number)
        .map_or_else(|| number.to_string(), |(.., name)| (*name).to_owned())
}

#[cfg(test)]
mod tests;
