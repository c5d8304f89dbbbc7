//! Log messages of the classifier (by aya-log), on standard error, with NETWATCH_LOG=debug.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct StderrLog;

impl Log for StderrLog {
    /// Libraries log through the same interface.
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        !about.target().starts_with("netlink_proto")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A closed standard error is ignored.
            let _ = writeln!(std::io::stderr(), "netwatch: classifier: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Installs the logger if NETWATCH_LOG requests it. Returns whether it does.
pub(super) fn enable() -> bool {
    let wanted = std::env::var_os("NETWATCH_LOG").is_some_and(|level| level == "debug" || level == "trace");
    if wanted {
        // Fails only if there is a logger already.
        let _ = log::set_logger(&StderrLog);
        log::set_max_level(LevelFilter::Debug);
    }
    wanted
}
