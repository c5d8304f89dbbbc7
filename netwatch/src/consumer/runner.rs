//! The thread of a consumer and its bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Consumer;
use crate::error::{Error, Result};
use crate::session::{Event, EventKinds, Missed};

/// Maximum number of batches that are queued or being processed.
const MAX_BATCHES: usize = 2;

/// The sending side of the queue of a consumer.
#[derive(Debug)]
pub struct Feed {
    wants: EventKinds,
    batches: SyncSender<Message>,
    shared: Arc<FeedState>,
    thread: ConsumerThread,
}

/// An entry of the queue.
#[derive(Debug)]
enum Message {
    Events(Vec<Event>),
    Close(Missed),
}

#[derive(Debug, Default)]
struct FeedState {
    /// Number of batches that are queued or being processed.
    in_flight: AtomicUsize,
    has_failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl FeedState {
    fn fail(&self, error: Error) {
        *lock(&self.failure) = Some(error);
        self.has_failed.store(true, Ordering::Release);
    }
}

impl Feed {
    /// Starts the thread of a consumer. The thread calls `on_room` when the queue has room again
    /// and when it ends.
    pub fn start(mut consumer: impl Consumer, on_room: impl Fn() + Send + 'static) -> Result<Self> {
        let (batches, receiver) = sync_channel(MAX_BATCHES + 1);
        let shared = Arc::new(FeedState::default());
        let (wants, name) = (consumer.wants(), consumer.name());
        let of_thread = shared.clone();
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(|| run(&mut consumer, &receiver, &of_thread, &on_room)));
            let result = result.unwrap_or_else(|panic| {
                // Without an error, the session would wait for room until its timeout.
                of_thread.fail(Error::other("run", name, "its thread panicked"));
                on_room();
                resume_unwind(panic)
            });
            if let Err(error) = result {
                of_thread.fail(error);
            }
            on_room();
        };
        let thread = ConsumerThread::spawn(name, work).map_err(|error| Error::os("start thread", name, error))?;
        Ok(Self { wants, batches, shared, thread })
    }

    /// The kinds of events that the consumer wants.
    pub fn wants(&self) -> EventKinds {
        self.wants
    }

    /// Whether the queue has room for another batch.
    pub fn has_room(&self) -> bool {
        !self.has_failed() && self.shared.in_flight.load(Ordering::Acquire) < MAX_BATCHES
    }

    /// Whether the consumer has failed. It processes no more events then.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    /// Takes the error of a consumer that failed.
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// Queues a batch. Never blocks. To be called only if [`Feed::has_room`] returns true.
    pub fn send(&self, events: Vec<Event>) {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        // Fails only if the consumer has failed, and then `take_failure` returns the error.
        let _ = self.batches.try_send(Message::Events(events));
    }

    /// Closes the queue after the last event.
    pub fn close(self, missed: Missed) -> Closing {
        let Self { batches, shared, thread, .. } = self;
        // Cannot be full: the queue has room for one entry more than `has_room` permits.
        let _ = batches.try_send(Message::Close(missed));
        Closing { thread, shared }
    }
}

fn run(
    consumer: &mut impl Consumer,
    messages: &Receiver<Message>,
    shared: &FeedState,
    on_room: &impl Fn(),
) -> Result<()> {
    consumer.start()?;
    for message in messages {
        match message {
            Message::Events(events) => {
                consumer.consume(events)?;
                shared.in_flight.fetch_sub(1, Ordering::AcqRel);
                on_room();
            }
            Message::Close(missed) => return consumer.finish(&missed),
        }
    }
    consumer.finish(&Missed::default())
}

/// A consumer that is finishing.
#[derive(Debug)]
pub struct Closing {
    thread: ConsumerThread,
    shared: Arc<FeedState>,
}

impl Closing {
    /// Waits until the consumer is finished, at most for this time.
    pub fn wait(self, timeout: Duration) -> Result<()> {
        let name = self.thread.name;
        match self.thread.join(timeout) {
            JoinOutcome::Finished => {}
            JoinOutcome::Panicked => return Err(Error::other("finish", name, "its thread panicked")),
            JoinOutcome::TimedOut => {
                let why = format!("not finished within {} s; the result is incomplete", timeout.as_secs());
                return Err(Error::other("finish", name, why).hint("write to a faster file system"));
            }
        }
        lock(&self.shared.failure).take().map_or(Ok(()), Err)
    }
}

/// The result of waiting for a thread.
#[derive(Debug, PartialEq, Eq)]
enum JoinOutcome {
    Finished,
    Panicked,
    TimedOut,
}

/// A thread that can be joined with a timeout.
#[derive(Debug)]
struct ConsumerThread {
    name: &'static str,
    thread: JoinHandle<()>,
    /// Closed when the thread ends, also by a panic.
    ended: Receiver<()>,
}

impl ConsumerThread {
    fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (ends, ended): (Sender<()>, _) = mpsc::channel();
        let work = move || {
            let _ends = ends;
            work();
        };
        Ok(Self { name, thread: thread::Builder::new().name(name.into()).spawn(work)?, ended })
    }

    fn join(self, timeout: Duration) -> JoinOutcome {
        if self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            return JoinOutcome::TimedOut;
        }
        if self.thread.join().is_ok() { JoinOutcome::Finished } else { JoinOutcome::Panicked }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A consumer that blocks in its first batch until it is released.
    struct Stuck(Receiver<()>);

    impl Consumer for Stuck {
        fn name(&self) -> &'static str {
            "stuck"
        }
        fn wants(&self) -> EventKinds {
            EventKinds::NOTE
        }
        fn consume(&mut self, _: Vec<Event>) -> Result<()> {
            self.0.recv().map_err(|_| Error::other("consume", "events", "released"))
        }
        fn finish(&mut self, _: &Missed) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_consumer_never_blocks_its_feed_and_closing_it_times_out() {
        let (release, held) = mpsc::channel();
        let feed = Feed::start(Stuck(held), || ()).expect("a thread");
        let mut sent = 0;
        while feed.has_room() {
            feed.send(vec![Event::Note("one".into())]);
            sent += 1;
        }
        assert_eq!(sent, MAX_BATCHES);
        let error = feed.close(Missed::default()).wait(Duration::from_millis(1)).expect_err("it is stuck");
        assert!(error.to_string().contains("not finished within"), "{error}");
        drop(release);
    }

    #[test]
    fn reports_a_failure_once_and_accepts_no_more_batches() {
        let (release, held) = mpsc::channel();
        drop(release);
        let (ended, is_ended) = mpsc::channel();
        let feed = Feed::start(Stuck(held), move || _ = ended.send(())).expect("a thread");
        feed.send(vec![Event::Note("one".into())]);
        is_ended.recv().expect("the consumer ended");
        assert!(feed.has_failed() && !feed.has_room());
        assert!(feed.take_failure().is_some() && feed.take_failure().is_none());
        feed.close(Missed::default()).wait(Duration::from_secs(60)).expect("its failure was taken");
    }

    /// A consumer that panics in its first batch.
    struct Panicking;

    impl Consumer for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
        }
        fn wants(&self) -> EventKinds {
            EventKinds::NOTE
        }
        fn consume(&mut self, _: Vec<Event>) -> Result<()> {
            panic!("on purpose")
        }
        fn finish(&mut self, _: &Missed) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_failure() {
        let (ended, is_ended) = mpsc::channel();
        let feed = Feed::start(Panicking, move || _ = ended.send(())).expect("a thread");
        feed.send(vec![Event::Note("one".into())]);
        is_ended.recv().expect("the thread ended");
        assert!(feed.has_failed() && !feed.has_room());
        let error = feed.take_failure().expect("a failure");
        assert!(error.to_string().contains("panicked"), "{error}");
        feed.close(Missed::default()).wait(Duration::from_secs(60)).expect_err("it panicked");
    }
}
