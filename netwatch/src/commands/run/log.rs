//! Log messages of the classifier (by aya-log), on standard error, with NETWATCH_LOG=debug.

use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use crate::terminal::print_text;

/// Bytes that can wait to be printed; further messages are dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;

static WAITING: Mutex<WaitingLog> = Mutex::new(WaitingLog { text: String::new(), dropped: 0, is_queued: false });

/// Messages that wait to be printed. Each queued text prints all of them, because the queue holds
/// few texts.
struct WaitingLog {
    text: String,
    dropped: u64,
    /// A text that will print them is queued.
    is_queued: bool,
}

impl WaitingLog {
    /// Adds a message. Returns whether a text has to be queued.
    fn add(&mut self, message: &str) -> bool {
        if self.text.len() + message.len() > MAX_WAITING_BYTES {
            self.dropped += 1;
        } else {
            self.text += &format!("netwatch: classifier: {message}\n");
        }
        !std::mem::replace(&mut self.is_queued, true)
    }

    fn take(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            text += &format!("netwatch: classifier: dropped messages: {dropped} (standard error was not read)\n");
        }
        text
    }
}

fn with_waiting<T>(work: impl FnOnce(&mut WaitingLog) -> T) -> T {
    work(&mut WAITING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A queued text. Dropped when it is printed, or because the queue is full.
struct QueuedText;

impl QueuedText {
    fn take(self) -> String {
        // Messages that arrive from here on queue the next text.
        drop(self);
        with_waiting(WaitingLog::take)
    }
}

impl Drop for QueuedText {
    fn drop(&mut self) {
        with_waiting(|waiting| waiting.is_queued = false);
    }
}

struct StderrLog;

impl Log for StderrLog {
    /// Libraries log through the same interface.
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        !about.target().starts_with("netlink_proto")
    }

    /// Never blocks: threads that count packets log as well.
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && with_waiting(|waiting| waiting.add(&record.args().to_string())) {
            let queued = QueuedText;
            print_text(move || queued.take());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_the_limit_are_counted_and_one_text_is_queued() {
        let mut waiting = WaitingLog { text: String::new(), dropped: 0, is_queued: false };
        let long = "x".repeat(MAX_WAITING_BYTES / 2);
        assert!(waiting.add(&long), "the first message queues a text");
        assert!(!waiting.add(&long) && !waiting.add("short"));
        let text = waiting.take();
        assert!(text.starts_with("netwatch: classifier: xxx") && text.contains("classifier: short\n"));
        assert!(
            text.ends_with("classifier: dropped messages: 1 (standard error was not read)\n"),
            "{}",
            &text[text.len() - 99..]
        );
        assert_eq!(waiting.take(), "");
    }
}
