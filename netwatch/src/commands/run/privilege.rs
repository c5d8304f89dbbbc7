//! The capabilities that a run needs, checked before anything is touched.

use crate::doctor::missing_capabilities;
use crate::error::{Error, Result};

/// Refuses with the names of the capabilities that are missing.
pub(super) fn check() -> Result<()> {
    match missing_capabilities()? {
        names if names.is_empty() => Ok(()),
        names => Err(Error::os("set up a run", "", std::io::Error::from_raw_os_error(libc::EPERM))
            .hint(format!("needs {}; run with sudo", names.join(", ")))),
    }
}
