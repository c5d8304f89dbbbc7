//! Threads for work that can block, so that the control loop serves signals and timers meanwhile.

use std::thread;

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// The result of work in a thread.
#[derive(Debug)]
pub(in crate::commands) struct PendingWork<T> {
    name: &'static str,
    result: oneshot::Receiver<T>,
}

impl<T: Send + 'static> PendingWork<T> {
    /// Starts a thread with this name.
    pub(in crate::commands) fn start(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<Self> {
        let (done, result) = oneshot::channel();
        // Fails if a signal ended the wait.
        let thread = thread::Builder::new().name(name.into()).spawn(move || _ = done.send(work()));
        thread.map_err(|error| Error::os("start thread", name, error))?;
        Ok(Self { name, result })
    }

    /// Waits for the result. Fails if the work panicked.
    pub(in crate::commands) async fn finish(self) -> Result<T> {
        self.result.await.map_err(|_| Error::other("wait for thread", self.name, "it panicked"))
    }
}

/// Runs work in a thread and waits for its result.
pub(in crate::commands) async fn in_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    PendingWork::start(name, work)?.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_result_or_reports_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            assert_eq!(in_thread("adds", || 1 + 1).await.expect("a result"), 2);
            let error = in_thread("panics", || panic!("expected")).await.expect_err("no result");
            assert_eq!(error.to_string(), "cannot wait for thread panics: it panicked");
        });
    }
}
