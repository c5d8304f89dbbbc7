//! Prints packets as lines, each batch at once.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::line::{LineFormat, LineStyle, PrintedPacket};
use super::line_queue::LineQueue;
use super::place::{CapturePlace, UnusedFile};
use crate::error::{Error, Result};
use crate::report::counted;

/// Prints a line for each packet.
pub struct PacketPrinter {
    out: BufWriter<LineSink>,
    /// The file, until the capture starts.
    unused: Option<UnusedFile>,
    format: LineFormat,
}

/// What lines are written to.
enum LineSink {
    Direct(Box<dyn Write + Send>),
    Queue(LineQueue),
}

impl Write for LineSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(out) => out.write(bytes),
            Self::Queue(queue) => queue.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(out) => out.flush(),
            Self::Queue(queue) => queue.flush(),
        }
    }
}

impl std::fmt::Debug for PacketPrinter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PacketPrinter")
    }
}

impl PacketPrinter {
    /// Prints to `out`.
    pub fn new(out: Box<dyn Write + Send>, style: LineStyle) -> Self {
        Self { out: BufWriter::new(LineSink::Direct(out)), unused: None, format: LineFormat::new(style) }
    }

    /// Prints to a new file, which is removed if the capture does not start.
    pub fn to_file(place: CapturePlace, style: LineStyle) -> Result<Self> {
        let (file, unused) = Arc::new(place).open_named()?;
        Ok(Self { unused, ..Self::new(Box::new(file), style) })
    }

    /// Prints in another thread from now on, before the first line.
    pub(super) fn queued(self) -> Result<Self> {
        let target = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        let target = match target {
            LineSink::Direct(out) => LineSink::Queue(LineQueue::start(out).map_err(failed)?),
            queue => queue,
        };
        Ok(Self { out: BufWriter::new(target), ..self })
    }

    /// Waits until the lines so far are printed.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.flush()?;
        match self.out.get_ref() {
            LineSink::Direct(_) => Ok(()),
            LineSink::Queue(queue) => queue.settle().map_err(failed),
        }
    }

    /// Makes all lines visible, the last ones too.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        match self.out.get_mut() {
            LineSink::Direct(_) => Ok(()),
            LineSink::Queue(queue) => queue.finish().map_err(failed),
        }
    }

    /// The capture has started: keeps the file, also without lines. It replaces an older one.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.unused.take().map_or(Ok(()), UnusedFile::keep)
    }

    /// Prints a packet. `lost` packets were lost before it.
    pub(super) fn packet(&mut self, packet: &PrintedPacket<'_>, lost: u64) -> Result<()> {
        self.lost(lost)?;
        let line = self.format.line(packet);
        writeln!(self.out, "{line}").map_err(failed)
    }

    /// Prints that packets were lost, if there are any.
    pub(super) fn lost(&mut self, lost: u64) -> Result<()> {
        match lost {
            0 => Ok(()),
            lost => writeln!(self.out, "… {} not shown: the buffer was full", counted(lost, "packet")).map_err(failed),
        }
    }

    /// Makes all lines visible.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::os("print", "packets", error)
}
