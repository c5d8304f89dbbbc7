//! Growth of the classifier's memory, on a thread of its own: the kernel waits for an RCU grace
//! period when an array is added to an array of maps.

use std::fmt;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::segments;
use crate::error::{Error, Result};

/// Creates the arrays by which the classifier's memory grows. In a run it is the guardian, because
/// creating a map needs privileges; otherwise it is this process. Called on threads that grow
/// something, so it may wait.
pub trait MemorySource: fmt::Debug + Send + Sync {
    /// Creates the segment of the flow table with this number. Each number is requested once,
    /// unless the request fails; the next one follows.
    fn segment(&self, number: u32) -> Result<OwnedFd>;

    /// Nothing grows any more: fails the current request and all later ones.
    fn close(&self);
}

/// Creates arrays in this process.
#[derive(Debug)]
pub(super) struct OwnMemory;

impl MemorySource for OwnMemory {
    fn segment(&self, _: u32) -> Result<OwnedFd> {
        segments::create()
    }

    fn close(&self) {}
}

/// Pause after a growth that failed: what was missing, usually memory, is not available again at
/// once.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// At most one growth at a time.
#[derive(Debug)]
pub(super) struct GrowthThread {
    /// What grows, for errors.
    what: &'static str,
    thread: Option<JoinHandle<Result<()>>>,
    /// Earliest start of the next growth after one has failed.
    not_before: Option<Instant>,
}

impl GrowthThread {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, thread: None, not_before: None }
    }

    /// Whether a growth may start now. Returns the error of the last one, once.
    pub(super) fn is_due(&mut self) -> Result<bool> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            let grown = thread.join().unwrap_or_else(|_| Err(Error::other("grow", self.what, "a thread panicked")));
            grown.inspect_err(|_| self.pause())?;
        }
        let is_paused = self.not_before.is_some_and(|then| Instant::now() < then);
        Ok(self.thread.is_none() && !is_paused)
    }

    /// Starts a growth. To be called only when one [is due](Self::is_due).
    pub(super) fn start(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        let thread = thread::Builder::new().name("grow".into()).spawn(work);
        let started = thread.map_err(|cause| Error::os("start thread", "grow", cause));
        self.thread = Some(started.inspect_err(|_| self.pause())?);
        Ok(())
    }

    fn pause(&mut self) {
        self.not_before = Some(Instant::now() + RETRY_PAUSE);
    }

    /// Whether a growth was started and its result was not taken yet.
    pub(super) fn is_running(&self) -> bool {
        self.thread.is_some()
    }
}

impl Drop for GrowthThread {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until the growth is finished.
    fn finish(growth: &GrowthThread) {
        while growth.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_failed_growth_is_reported_once_and_followed_by_a_pause() {
        let mut growth = GrowthThread::of("the flow table");
        assert!(growth.is_due().expect("no growth yet"));
        growth.start(|| Ok(())).expect("started");
        finish(&growth);
        assert!(growth.is_due().expect("it succeeded"));
        growth.start(|| Err(Error::other("grow", "the flow table", "no memory"))).expect("started");
        finish(&growth);
        growth.is_due().expect_err("it failed");
        assert!(!growth.is_due().expect("reported before"), "a pause follows");
        growth.not_before = Some(Instant::now());
        assert!(growth.is_due().expect("reported before"), "the pause has ended");
    }
}
