//! A spinner on the terminal for operations that take longer than half a second.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Operations that end before this time show no spinner.
const SPINNER_DELAY: Duration = Duration::from_millis(500);
/// Interval between two frames of the spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Appears on standard error after [`SPINNER_DELAY`] and disappears when it is dropped.
pub(crate) struct Spinner {
    bar: ProgressBar,
    display: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Spinner {
    /// A spinner with this message. It never appears if `quiet`, or if standard error is not a terminal.
    pub(crate) fn new(message: &'static str, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(message);
        // The template is valid; if it were not, the default style would do.
        let bar = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
            .map_or(bar.clone(), |style| bar.with_style(style));
        let is_visible = !quiet && io::stderr().is_terminal();
        Self { display: is_visible.then(|| show_after_delay(bar.clone())), bar }
    }

    /// Changes the message.
    pub(crate) fn set_message(&self, message: impl Into<Cow<'static, str>>) {
        self.bar.set_message(message);
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> String {
        self.bar.message()
    }
}

fn show_after_delay(bar: ProgressBar) -> (Sender<()>, JoinHandle<()>) {
    let (end, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        if ended.recv_timeout(SPINNER_DELAY) == Err(RecvTimeoutError::Timeout) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(SPINNER_INTERVAL);
        }
    });
    (end, thread)
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.display.take() {
            drop(end);
            // A panic in the thread affects only the spinner.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
