//! Standard output.

use std::io::{self, Write};

use crate::error::{Error, Result};

/// Writes all of it. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    match io::stdout().lock().write_all(text.as_ref()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::os("write to", "standard output", error)),
        _ => Ok(()),
    }
}
