//! Waiting for conditions. A test does not wait for a length of time instead, because a busy
//! machine needs longer.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Bounds every wait for a condition. Long enough for a machine with all processors busy.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Calls `attempt` until it succeeds, for `WAIT_TIMEOUT` at most; then returns its last error.
pub fn eventually<T>(mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            result => return result,
        }
    }
}

/// Waits until the condition is true. Panics with `expected`, a description of it, when it is still
/// false after `WAIT_TIMEOUT`.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool, expected: impl FnOnce() -> String) {
    if eventually(|| if condition() { Ok(()) } else { Err(String::new()) }).is_err() {
        panic!("waited {WAIT_TIMEOUT:?} for {}", expected());
    }
}

/// A point at which a shell script waits until the test lets it continue.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A closed gate: a file that does not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that exists once the gate is open.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a temporary directory has a plain name")
    }

    /// Shell code that waits until the gate is open.
    pub fn wait(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.path.display())
    }

    /// Lets the script continue.
    pub fn open(&self) {
        File::create(&self.path).expect("create the file of a gate");
    }
}
