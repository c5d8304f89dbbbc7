//! Standard output.

use std::io::{self, BufWriter, Write};

use super::BUFFER;
use crate::error::{Error, Result};

/// Writes all of it. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    print_by(|out| out.write_all(text.as_ref()))
}

/// [`print`] for what is too long to be made first.
pub(crate) fn print_by(fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    match fill(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::os("write to", "standard output", error)),
        _ => Ok(()),
    }
}
