//! The input of a capture. Buffers are filled completely, also from pipes, and the error of a
//! failed read is kept, because the parser crate drops it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;

/// The error of a failed read, until it is taken.
pub(super) type ReadFailure = Rc<Cell<Option<io::Error>>>;

/// A stream of bytes.
pub(super) struct CaptureSource {
    input: Box<dyn Read>,
    /// The first bytes, which are read in advance to determine the format.
    head: [u8; 4],
    /// How many of them have not been passed on.
    unread: usize,
    is_compressed: bool,
    /// A read returns what is there, once the first block is complete.
    is_live: bool,
    is_first: bool,
    failure: ReadFailure,
    stop: &'static AtomicBool,
}

impl CaptureSource {
    /// When `stop` is true, a read that is interrupted by a signal counts as the end. Input that is
    /// compressed by gzip or zstd is decompressed.
    pub(super) fn new(input: impl Read + 'static, stop: &'static AtomicBool) -> (Self, ReadFailure) {
        Self::decompressed(Box::new(input), false, stop)
    }

    /// As [`Self::new`], for input that is still being written.
    pub(super) fn live(input: impl Read + 'static, stop: &'static AtomicBool) -> (Self, ReadFailure) {
        Self::decompressed(Box::new(input), true, stop)
    }

    fn decompressed(input: Box<dyn Read>, is_live: bool, stop: &'static AtomicBool) -> (Self, ReadFailure) {
        let failure = ReadFailure::default();
        let mut source = Self::of(input, is_live, failure.clone(), stop);
        let decompressed: Box<dyn Read> = match source.head {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
            [0x28, 0xb5, 0x2f, 0xfd] => match zstd::Decoder::new(source) {
                Ok(decoder) => Box::new(decoder),
                Err(error) => {
                    failure.set(Some(error));
                    Box::new(io::empty())
                }
            },
            _ => return (source, failure),
        };
        source = Self::of(decompressed, is_live, failure.clone(), stop);
        source.is_compressed = true;
        (source, failure)
    }

    fn of(input: Box<dyn Read>, is_live: bool, failure: ReadFailure, stop: &'static AtomicBool) -> Self {
        let (is_compressed, is_first) = (false, true);
        let mut source = Self { input, head: [0; 4], unread: 0, is_compressed, is_live, is_first, failure, stop };
        let mut head = [0; 4];
        source.unread = source.fill(&mut head, usize::MAX);
        // A short head is moved to the end, where the unread bytes are expected.
        head.rotate_left(source.unread);
        source.head = head;
        source
    }

    /// Whether the length of the input is not that of the capture.
    pub(super) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// The first four bytes.
    pub(super) fn head(&self) -> [u8; 4] {
        self.head
    }

    /// Reads until there are `enough` bytes, the buffer is full, or the input ends or fails. Bytes
    /// that were read before a failure count.
    fn fill(&mut self, buffer: &mut [u8], enough: usize) -> usize {
        let mut filled = 0;
        while filled < enough.min(buffer.len()) {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Err(error) => {
                    // The error of a read causes another one in the decoder.
                    let first = self.failure.take();
                    self.failure.set(first.or(Some(error)));
                    break;
                }
            }
        }
        filled
    }
}

impl Read for CaptureSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from_head = self.unread.min(buffer.len());
        let start = self.head.len() - self.unread;
        buffer[..from_head].copy_from_slice(&self.head[start..start + from_head]);
        self.unread -= from_head;
        if !self.is_live {
            return Ok(from_head + self.fill(&mut buffer[from_head..], usize::MAX));
        }
        if !std::mem::take(&mut self.is_first) {
            return Ok(from_head + self.fill(&mut buffer[from_head..], 1));
        }
        let mut filled = from_head;
        filled += self.fill(&mut buffer[filled..], FILE_HEADER - from_head);
        let missing = first_block(&buffer[..filled]).saturating_sub(filled);
        Ok(filled + self.fill(&mut buffer[filled..], missing))
    }
}

/// Length of the header of a pcap file, bytes. No section header of pcapng is shorter.
const FILE_HEADER: usize = 24;

/// The length of the section header of a pcapng file. The parser accepts no part of one.
fn first_block(bytes: &[u8]) -> usize {
    match bytes {
        [0x0a, 0x0d, 0x0d, 0x0a, a, b, c, d, 0x1a, 0x2b, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        [0x0a, 0x0d, 0x0d, 0x0a, a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}
