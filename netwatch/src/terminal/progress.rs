//! Signs of progress on the terminal for operations that take longer than half a second: a spinner
//! and a progress bar.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Operations that end before this time show no progress.
const PROGRESS_DELAY: Duration = Duration::from_millis(500);
/// Interval between two frames of the spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Appears on standard error after [`PROGRESS_DELAY`] and disappears when it is dropped.
pub(crate) struct Spinner {
    bar: ProgressBar,
    display: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Spinner {
    /// A spinner with this message. It never appears if `quiet`, or if standard error is not a
    /// terminal.
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
        if ended.recv_timeout(PROGRESS_DELAY) == Err(RecvTimeoutError::Timeout) {
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

/// Shows how far a file is read. Appears on standard error after [`PROGRESS_DELAY`] and disappears
/// when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
}

impl Progress {
    /// For a file of `size` bytes, if the size is known. It never appears if standard error is not
    /// a terminal.
    pub(crate) fn new(size: Option<u64>) -> Self {
        // The bar exists from the start, although hidden, because it measures the speed.
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let template = match size {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        // The templates are valid; if they were not, the default style would do.
        let bar = ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style));
        Self { bar, started: Instant::now(), is_shown: false }
    }

    /// The file is read up to this offset, in bytes.
    pub(crate) fn set_position(&mut self, offset: u64) {
        self.bar.set_position(offset);
        if !self.is_shown && self.started.elapsed() >= PROGRESS_DELAY {
            self.is_shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
