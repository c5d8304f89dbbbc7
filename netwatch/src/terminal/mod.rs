//! Terminal and file output of every subcommand: standard output and error, report files, width and
//! color, signs of progress. Not the formats themselves: those are in [`crate::format`].

mod output;
mod progress;
mod rotated;
mod show;
mod status_line;
mod writer;

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

pub(crate) use output::Output;
pub(crate) use progress::{Progress, Spinner};
pub(crate) use rotated::RotatedFile;
pub(crate) use show::{PLAIN_WIDTH, Show};
pub(crate) use status_line::{StatusLine, erase as erase_status_line};
pub(crate) use writer::Writer;

use crate::error::{Error, Result};

/// Bytes per write. A text below this size is written in one piece.
const BUFFER_BYTES: usize = 64 * 1024;

/// Prints an error, and its hint on a second line, on standard error. Failure is ignored.
pub(crate) fn print_error(error: &Error) {
    print_message(&format!("{error:#}"));
}

/// Prints a message after the program's name on standard error. Failure is ignored.
pub(crate) fn print_message(message: &str) {
    let line = format!("netwatch: {message}\n");
    print_on_stderr(move |out| out.write_all(line.as_bytes()));
}

/// Prints a text, made when it is written, on standard error. Failure is ignored.
pub(crate) fn print_text(text: impl FnOnce() -> String + Send + 'static) {
    print_on_stderr(move |out| out.write_all(text().as_bytes()));
}

/// Prints what `write` writes, when it is written, on standard error. Failure is ignored.
pub(crate) fn print_with_writer(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) {
    print_on_stderr(write);
}

/// Writes to standard error while [`detach_stderr`] is in effect.
static STDERR_WRITER: Mutex<Option<Writer>> = Mutex::new(None);

/// Lets a thread write everything that netwatch prints on standard error from here on, because it
/// can be a pipe that is not read. Printing then never blocks; [`end_stderr`] waits.
pub(crate) fn detach_stderr() -> Result<()> {
    *STDERR_WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Writer::start()?);
    Ok(())
}

/// Ends the effect of [`detach_stderr`]. The returned channel is disconnected when everything is
/// written; nothing should be printed before that.
pub(crate) fn end_stderr() -> Option<Receiver<()>> {
    STDERR_WRITER.lock().unwrap_or_else(PoisonError::into_inner).take().map(Writer::ended)
}

/// Prints what `render` writes on standard error. Failure is ignored.
fn print_on_stderr(render: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) {
    match &*STDERR_WRITER.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(writer) => writer.write(render),
        None => {
            let _ = write_buffered(io::stderr(), render);
        }
    }
}

/// Prints the whole text on standard output. A reader that closes early (`| head`) is not an error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    print_with(|out| out.write_all(text.as_ref()))
}

/// [`print`] for a text that is written piece by piece, because it may be large.
pub(crate) fn print_with(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    match write_buffered(io::stdout().lock(), write) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::os("write to", "standard output", error)),
        _ => Ok(()),
    }
}

/// Writes through a buffer, so that a short text arrives in one piece.
fn write_buffered(out: impl Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, out);
    write(&mut buffered)?;
    buffered.flush()
}
