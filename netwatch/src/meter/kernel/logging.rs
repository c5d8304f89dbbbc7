//! Log messages of the classifier, through aya-log. Off by default: the level is a constant to the
//! verifier, which then removes the code from the loaded program.

use std::os::fd::AsFd;

use aya_log::EbpfLogger;

use super::object::Loaded;
use super::sys;
use crate::error::{Error, Result};

/// Nothing is logged.
pub(super) const OFF: u8 = 0;
/// The number of `log::Level::Debug`.
pub(super) const DEBUG: u8 = 4;

/// Forwards log messages of the classifier to the logger of the `log` crate.
pub(super) struct Logger(EbpfLogger<&'static dyn log::Log>);

impl Logger {
    pub(super) fn new(loaded: &Loaded) -> Result<Self> {
        let program = loaded.program("long_path");
        let failed =
            |cause: &dyn std::fmt::Display| Error::other("open the log of", "the classifier", cause.to_string());
        let info = sys::program_info(program.as_fd()).map_err(|cause| failed(&cause))?;
        EbpfLogger::init_from_id(info.id).map(Self).map_err(|cause| failed(&cause))
    }

    /// Forwards the messages that are in the ring.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logger")
    }
}
