//! A sign of life on a terminal when something takes longer than expected.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done before that needs no sign.
const SPINNER_DELAY: Duration = Duration::from_millis(500);
/// How fast it turns.
const TURN: Duration = Duration::from_millis(100);

/// Shown from [`SPINNER_DELAY`] on until it is dropped.
pub(crate) struct Spinner {
    bar: ProgressBar,
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Spinner {
    /// Begins to wait for something; on no terminal, or if nothing is to be said, that is all.
    pub fn new(what: &'static str, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(what);
        // Without the style it is a bar all the same.
        let bar = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
            .map_or(bar.clone(), |style| bar.with_style(style));
        let is_wanted = !quiet && io::stderr().is_terminal();
        Self { shown: is_wanted.then(|| show_later(bar.clone())), bar }
    }

    /// What is waited for from now on.
    pub fn set_message(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    #[cfg(test)]
    pub fn message(&self) -> String {
        self.bar.message()
    }
}

fn show_later(bar: ProgressBar) -> (Sender<()>, JoinHandle<()>) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        if is_done.recv_timeout(SPINNER_DELAY) == Err(RecvTimeoutError::Timeout) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TURN);
        }
    });
    (done, thread)
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.shown.take() {
            drop(done);
            // It cannot panic, and if it did, the report would still be good.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
