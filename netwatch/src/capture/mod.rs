//! Capture files, pcap and pcapng, read as a stream in bounded memory: frame by frame, with their times and link types. Not what the
//! frames say, and not what is done with them.

mod blocks;
mod broken;
mod link;
mod records;
mod source;
mod time;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use netwatch_common::parse::{Captured, LinkType, Linked};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};

pub use broken::Broken;
pub use link::name as link_name;

use crate::error::{Error, Result};
use blocks::Blocks;
use broken::BrokenCause;
use records::Records;
use source::CaptureSource;

/// Bytes read at a time, and the longest frame that needs no more memory than that.
const BUFFER: usize = 1 << 20;
/// The longest block of a pcapng file; some carry keys or names of a whole session. As libpcap has it.
const MAX_BLOCK: usize = 16 << 20;
/// The longest frame. libpcap captures no more of one (`MAXIMUM_SNAPLEN`); what claims to be longer is not a frame.
const MAX_FRAME: u32 = 262_144;

/// One frame of a capture.
#[derive(Debug, Clone, Copy)]
pub struct CapturedFrame<'a> {
    /// When, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The bytes that the capture kept.
    pub bytes: &'a [u8],
    /// The frame's length on the wire, bytes.
    pub orig_len: u32,
    /// What it starts with.
    pub link: LinkType,
    /// The number that the file gives for that.
    pub link_number: u16,
    /// Where in the file the frame's record or block starts, bytes.
    pub offset: u64,
}

impl<'a> CapturedFrame<'a> {
    /// As the parser takes it.
    pub fn linked(&self) -> Linked<'a> {
        Linked { captured: Captured { bytes: self.bytes, orig_len: self.orig_len }, link: self.link }
    }

    /// The frame's length as it is counted, bytes: on the wire, or what is there if the file says that this is more.
    pub fn length(&self) -> u64 {
        u64::from(self.orig_len).max(self.bytes.len() as u64)
    }

    /// True if the capture kept only the beginning.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.orig_len)
    }
}

/// The two kinds of capture files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFormat {
    /// One link type, a record for each packet.
    Pcap,
    /// Blocks: sections, interfaces, packets.
    PcapNg,
}

impl CaptureFormat {
    /// The name in reports.
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
}

/// How far a capture could be read.
#[derive(Debug)]
pub enum CaptureEnd {
    /// To its end.
    Whole,
    /// To where it cannot be read any more.
    Broken(Broken),
    /// To here, because somebody stopped it.
    Stopped {
        /// Bytes from the start of the file.
        offset: u64,
    },
}

enum FileReader {
    Pcap(Box<LegacyPcapReader<CaptureSource>>),
    PcapNg(Box<PcapNGReader<CaptureSource>>),
}

impl Capture {
    /// Opens a file, or standard input for `-`. Fails if it is not a capture. Reading ends early once `stop` is true.
    pub fn open(path: &Path, stop: &'static AtomicBool) -> Result<Self> {
        if path == Path::new("-") {
            return Self::new("standard input", std::io::stdin(), None, stop);
        }
        let name = path.display().to_string();
        let failed = |cause| Error::os("open", name.clone(), cause);
        let file = std::fs::File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        Self::new(&name, file, about.is_file().then_some(about.len()), stop)
    }

    /// Reads a capture of `size` bytes, if that is known, from anywhere. `name` is what errors call it.
    pub fn new(name: &str, input: impl Read + 'static, size: Option<u64>, stop: &'static AtomicBool) -> Result<Self> {
        let (source, failure) = CaptureSource::new(input, stop);
        let head = source.head();
        let reader = match head {
            [0x0a, 0x0d, 0x0d, 0x0a] => PcapNGReader::new(BUFFER, source).map(Box::new).map(FileReader::PcapNg),
            _ => LegacyPcapReader::new(BUFFER, source).map(Box::new).map(FileReader::Pcap),
        };
        match reader {
            // A failure behind the header is told when what lies before it has been read.
            Ok(reader) => Ok(Self { name: name.to_owned(), size, failure, stop, reader }),
            Err(cause) => Err(match failure.take() {
                Some(error) => Error::os("read", name, error),
                None => broken::not_a_capture(name, head, &cause),
            }),
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// pcap or pcapng.
    pub fn format(&self) -> CaptureFormat {
        match self.reader {
            FileReader::Pcap(_) => CaptureFormat::Pcap,
            FileReader::PcapNg(_) => CaptureFormat::PcapNg,
        }
    }

    /// Hands over every frame, until the file ends or is broken, or somebody stops it. The first error of `visit` ends it too.
    pub fn each(&mut self, visit: impl FnMut(&CapturedFrame<'_>) -> Result<()>) -> Result<CaptureEnd> {
        let outcome = match &mut self.reader {
            FileReader::Pcap(reader) => each(reader.as_mut(), &mut Records::default(), self.stop, visit),
            FileReader::PcapNg(reader) => each(reader.as_mut(), &mut Blocks::default(), self.stop, visit),
        };
        match outcome {
            Ok(offset) => Ok(self.end(offset, None)),
            Err(EarlyEnd::File { offset, cause }) => Ok(self.end(offset, Some(cause))),
            Err(EarlyEnd::Visitor(error)) => Err(error),
        }
    }

    /// A read that failed or was stopped looks like the end of the file to whoever parses.
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

/// What one kind of file makes of what the crate has parsed.
trait Decode {
    /// The frame in a record or block, if it has one.
    fn frame<'a>(&mut self, block: &PcapBlockOwned<'a>, offset: u64) -> Result<Option<CapturedFrame<'a>>, BrokenCause>;

    /// The length that the record or block at the start of `bytes` claims to have, if it says; or why that cannot be.
    fn claimed(&self, bytes: &[u8]) -> Result<Option<u64>, BrokenCause>;
}

/// Why reading ended early.
enum EarlyEnd {
    Visitor(Error),
    File { offset: u64, cause: BrokenCause },
}

/// What to do before the next look.
enum NextAction {
    Consume(usize),
    Refill,
    Grow,
    GiveUp,
}

/// Reads to the end; how many bytes that were.
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
                reader.refill().map_err(|_| broken(BrokenCause::Ended { there: 0, claimed: None }))?
            }
            // The crate wants room for more than the block.
            NextAction::Grow if capacity <= MAX_BLOCK && is_longer(reader, decoder).map_err(broken)? => {
                capacity *= 2;
                reader.grow(capacity);
            }
            NextAction::Grow | NextAction::GiveUp => return Err(broken(diagnose(reader, decoder))),
        }
    }
}

/// Whether more bytes can complete the record or block; if not, it contradicts itself, however many there are.
fn is_longer(reader: &impl PcapReaderIterator, decoder: &impl Decode) -> Result<bool, BrokenCause> {
    Ok(decoder.claimed(reader.data())?.is_none_or(|claimed| claimed > reader.data().len() as u64))
}

/// Why the record or block at which reading ended could not be read.
fn diagnose(reader: &impl PcapReaderIterator, decoder: &impl Decode) -> BrokenCause {
    let there = reader.data().len() as u64;
    match decoder.claimed(reader.data()) {
        Err(cause) => cause,
        Ok(Some(claimed)) if claimed <= there => BrokenCause::Contradiction,
        Ok(claimed) if reader.reader_exhausted() => BrokenCause::Ended { there, claimed },
        Ok(_) => BrokenCause::Contradiction,
    }
}

#[cfg(test)]
mod tests;
