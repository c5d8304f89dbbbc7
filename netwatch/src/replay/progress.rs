//! A progress bar for captures that take a while, on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Observer;

/// What is done before that needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shows how far a file was read.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
}

impl Progress {
    /// For a file of `size` bytes, where that is known.
    pub fn new(size: Option<u64>) -> Self {
        // Hidden at first, but there from the start: it measures the speed.
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let template = match size {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        // Without the style it is a bar all the same.
        let bar = ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style));
        Self { bar, started: Instant::now(), is_shown: false }
    }
}

impl Observer for Progress {
    fn progress(&mut self, offset: u64) {
        self.bar.set_position(offset);
        if !self.is_shown && self.started.elapsed() >= PATIENCE {
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
