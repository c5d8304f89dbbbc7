//! The queries being answered, bounded: a new one pushes out the oldest, whose client has the least patience left.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use super::stats::Counters;

/// Shared by all listeners. Dropping the last handle stops nothing; [`InFlight::stop`] does.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    tasks: Arc<Mutex<Tasks>>,
    limit: usize,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, Option<AbortHandle>>,
}

impl InFlight {
    /// At most this many at once.
    pub(super) fn new(limit: usize, counters: Counters) -> Self {
        Self { tasks: Arc::default(), limit, counters }
    }

    /// Runs this to its end, or until it has become the oldest of too many.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (number, oldest) = self.enter();
        if let Some(oldest) = oldest {
            oldest.abort();
            self.counters.lock().dropped_in_flight += 1;
        }
        let done = Done { tasks: Arc::clone(&self.tasks), number };
        let task = tokio::spawn(async move {
            let _done = done;
            work.await;
        });
        // It may be done by now. The lock is not held across spawn, which drops the work, and `done`, when the runtime is ending.
        if let Some(place) = self.lock().running.get_mut(&number) {
            *place = Some(task.abort_handle());
        }
    }

    fn enter(&self) -> (u64, Option<AbortHandle>) {
        let mut tasks = self.lock();
        let full = tasks.running.len() >= self.limit;
        let oldest = if full { tasks.running.pop_first().and_then(|(_, task)| task) } else { None };
        let number = tasks.next;
        tasks.next += 1;
        tasks.running.insert(number, None);
        (number, oldest)
    }

    /// Ends all of them.
    pub(super) fn stop(&self) {
        let running = std::mem::take(&mut self.lock().running);
        running.into_values().flatten().for_each(|task| task.abort());
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a task out of the table when its future goes, whichever way.
struct Done {
    tasks: Arc<Mutex<Tasks>>,
    number: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_new_one_pushes_out_the_oldest() {
        let counters = Counters::default();
        let flight = InFlight::new(2, counters.clone());
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..3 {
            let done = done.clone();
            flight.spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = done.send(number);
            });
        }
        assert_eq!((finished.recv().await, finished.recv().await), (Some(1), Some(2)));
        tokio::task::yield_now().await;
        assert_eq!(counters.lock().dropped_in_flight, 1);
        assert!(flight.lock().running.is_empty());
    }
}
