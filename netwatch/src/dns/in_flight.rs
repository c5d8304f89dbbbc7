//! The queries in flight, bounded: a new one evicts the oldest, whose client is closest to its
//! timeout.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use super::stats::SharedStats;

/// ForwarderState by all listeners. The tasks end with the runtime they were spawned on.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    tasks: Arc<Mutex<Tasks>>,
    limit: usize,
    counters: SharedStats,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    /// By number, so the oldest first. `None` until the task has been spawned.
    running: BTreeMap<u64, Option<AbortHandle>>,
}

impl InFlight {
    /// With at most `limit` tasks at a time.
    pub(super) fn new(limit: usize, counters: SharedStats) -> Self {
        Self { tasks: Arc::default(), limit, counters }
    }

    /// Spawns a task that runs until `work` is complete or the task is evicted.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (number, oldest) = self.insert();
        if let Some(oldest) = oldest {
            oldest.abort();
            self.counters.lock().dropped_in_flight += 1;
        }
        let entry = TaskEntry { tasks: Arc::clone(&self.tasks), number };
        let task = tokio::spawn(async move {
            let _entry = entry;
            work.await;
        });
        // The lock is not held across `spawn`, which drops the future, and with it `entry`, when
        // the runtime is shutting down. Then the number is no longer in the map.
        if let Some(handle) = self.lock().running.get_mut(&number) {
            *handle = Some(task.abort_handle());
        }
    }

    fn insert(&self) -> (u64, Option<AbortHandle>) {
        let mut tasks = self.lock();
        let full = tasks.running.len() >= self.limit;
        let oldest = if full { tasks.running.pop_first().and_then(|(_, task)| task) } else { None };
        let number = tasks.next;
        tasks.next += 1;
        tasks.running.insert(number, None);
        (number, oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a task from the map when its future is dropped, complete or not.
struct TaskEntry {
    tasks: Arc<Mutex<Tasks>>,
    number: u64,
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_query_evicts_the_oldest() {
        let counters = SharedStats::default();
        let in_flight = InFlight::new(2, counters.clone());
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..3 {
            let done = done.clone();
            in_flight.spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = done.send(number);
            });
        }
        assert_eq!((finished.recv().await, finished.recv().await), (Some(1), Some(2)));
        tokio::task::yield_now().await;
        assert_eq!(counters.lock().dropped_in_flight, 1);
        assert!(in_flight.lock().running.is_empty());
    }
}
