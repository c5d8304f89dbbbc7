//! What the classifier itself has to say (by aya-log), on standard error, if NETWATCH_LOG=debug
//! asks for it.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    /// Libraries speak by the same way.
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        !about.target().starts_with("netlink_proto")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A closed standard error changes nothing.
            let _ = writeln!(std::io::stderr(), "netwatch: classifier: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Whether it is asked for; if so, there is a logger from now on.
pub(super) fn wanted() -> bool {
    let wanted = std::env::var_os("NETWATCH_LOG").is_some_and(|level| level == "debug" || level == "trace");
    if wanted {
        // It fails only when there is a logger already, which then is as good.
        let _ = log::set_logger(&Stderr);
        log::set_max_level(LevelFilter::Debug);
    }
    wanted
}
