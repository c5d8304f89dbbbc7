//! Prints packets as lines, each batch at once.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::line::{LineFormat, LineStyle, PrintedPacket};
use super::line_queue::LineQueue;
use super::place::{CapturePlace, UnusedFile};
use super::sink::is_deleted;
use crate::error::{Error, Result};
use crate::report::counted;

/// Prints a line for each packet.
pub struct PacketPrinter {
    out: BufWriter<LineSink>,
    /// The file, until the capture starts.
    unused: Option<UnusedFile>,
    /// The file and its path; `None` for standard output.
    file: Option<(File, String)>,
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
        Self { out: BufWriter::new(LineSink::Direct(out)), unused: None, file: None, format: LineFormat::new(style) }
    }

    /// Prints to a new file, which is removed if the capture does not start.
    pub fn to_file(place: CapturePlace, style: LineStyle) -> Result<Self> {
        let path = place.path_of(&place.name(None));
        let (file, unused) = Arc::new(place).open_named()?;
        let own = file.try_clone().map_err(|error| Error::os("duplicate", path.clone(), error))?;
        Ok(Self { unused, file: Some((own, path)), ..Self::new(Box::new(file), style) })
    }

    /// Prints in another thread from now on, before the first line.
    pub(super) fn queued(self) -> Result<Self> {
        let Self { out, unused, file, format } = self;
        let target = out.into_inner().map_err(|error| failed(&file, error.into_error()))?;
        let target = match target {
            LineSink::Direct(out) => LineSink::Queue(LineQueue::start(out).map_err(|error| failed(&file, error))?),
            queue => queue,
        };
        Ok(Self { out: BufWriter::new(target), unused, file, format })
    }

    /// Waits until the lines so far are printed.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.flush()?;
        match self.out.get_ref() {
            LineSink::Direct(_) => Ok(()),
            LineSink::Queue(queue) => queue.settle().map_err(|error| failed(&self.file, error)),
        }
    }

    /// Makes all lines visible, the last ones too.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        match self.out.get_mut() {
            LineSink::Direct(_) => Ok(()),
            LineSink::Queue(queue) => queue.finish().map_err(|error| failed(&self.file, error)),
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
        writeln!(self.out, "{line}").map_err(|error| failed(&self.file, error))
    }

    /// Prints that packets were lost, if there are any.
    pub(super) fn lost(&mut self, lost: u64) -> Result<()> {
        match lost {
            0 => Ok(()),
            lost => writeln!(self.out, "… {} not shown: the buffer was full", counted(lost, "packet"))
                .map_err(|error| failed(&self.file, error)),
        }
    }

    /// Makes all lines visible. Fails if the file was deleted: its lines go when it is closed.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|error| failed(&self.file, error))?;
        match &self.file {
            Some((file, path)) if self.unused.is_none() && is_deleted(file) => {
                Err(Error::other("print packets to", path, "the file was deleted"))
            }
            _ => Ok(()),
        }
    }
}

/// The error of a line, with the path of the file.
fn failed(file: &Option<(File, String)>, error: io::Error) -> Error {
    match file {
        Some((_, path)) => Error::os("print packets to", path, error),
        None => Error::os("print", "packets", error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::unistd::{Gid, Uid};

    use super::*;

    fn printer(path: &Path) -> PacketPrinter {
        let owner = (Uid::effective(), Gid::effective());
        let place = CapturePlace::open(path, owner, false).expect("a directory");
        PacketPrinter::to_file(place, LineStyle::default()).expect("a printer")
    }

    #[test]
    fn a_file_that_is_deleted_ends_the_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lines");
        let mut printer = printer(&path);
        printer.flush().expect("it has no name yet");
        printer.begin().expect("named");
        printer.flush().expect("it has its name");
        std::fs::remove_file(&path).expect("removed");
        let wanted = format!("cannot print packets to {}: the file was deleted", path.display());
        assert_eq!(printer.flush().expect_err("deleted").to_string(), wanted);
        assert_eq!(printer.finish().expect_err("deleted").to_string(), wanted);
    }

    #[test]
    fn an_error_of_a_line_names_the_file() {
        let mut printer = printer(Path::new("/dev/full"));
        printer.lost(1).expect("it waits in the buffer");
        let error = printer.flush().expect_err("full").to_string();
        assert!(error.starts_with("cannot print packets to /dev/full: "), "{error}");
    }
}
