//! What the classifier itself has to say, by aya-log. Off unless asked for: then the level is a constant to the verifier, and
//! the code is gone from the loaded program.

use std::os::fd::AsFd;

use aya_log::EbpfLogger;

use super::object::Loaded;
use super::sys;
use crate::error::{Error, Result};

/// Nothing is logged.
pub(super) const OFF: u8 = 0;
/// As `log::Level::Debug` counts.
pub(super) const DEBUG: u8 = 4;

/// Forwards records of the classifier to the `log` crate's logger.
pub(super) struct Logger(EbpfLogger<&'static dyn log::Log>);

impl Logger {
    pub(super) fn new(loaded: &Loaded) -> Result<Self> {
        let program = loaded.program("long_path");
        let failed =
            |cause: &dyn std::fmt::Display| Error::said("read the log of", "the classifier", cause.to_string());
        let info = sys::program_info(program.as_fd()).map_err(|cause| failed(&cause))?;
        EbpfLogger::init_from_id(info.id).map(Self).map_err(|cause| failed(&cause))
    }

    /// Forwards what is there.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logger")
    }
}
