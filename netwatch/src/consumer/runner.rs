//! The thread of a consumer, and the bounded queue to it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Consumer;
use crate::error::{Error, Result};
use crate::session::{Event, EventKinds, Missed};

/// Batches that wait in a queue, beside the one that the consumer is working on.
const QUEUED_BATCHES: usize = 2;

/// The session's side of a consumer.
#[derive(Debug)]
pub struct Feed {
    wants: EventKinds,
    batches: SyncSender<Message>,
    shared: Arc<FeedState>,
    thread: Joining,
}

/// What goes through the queue.
#[derive(Debug)]
enum Message {
    Events(Vec<Event>),
    Close(Missed),
}

#[derive(Debug, Default)]
struct FeedState {
    /// Batches that are queued or being worked on.
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
    /// Starts the consumer's thread. `on_room` is called in it whenever the queue has room again.
    pub fn start(mut consumer: impl Consumer, on_room: impl Fn() + Send + 'static) -> Result<Self> {
        let (batches, receiver) = sync_channel(QUEUED_BATCHES + 1);
        let shared = Arc::new(FeedState::default());
        let (wants, name) = (consumer.wants(), consumer.name());
        let theirs = shared.clone();
        let work = move || {
            if let Err(error) = run(&mut consumer, &receiver, &theirs, &on_room) {
                theirs.fail(error);
            }
            on_room();
        };
        let thread = Joining::spawn(name, work).map_err(|error| Error::os("start thread", name, error))?;
        Ok(Self { wants, batches, shared, thread })
    }

    /// The kinds of events that the consumer wants.
    pub fn wants(&self) -> EventKinds {
        self.wants
    }

    /// Whether the queue has room for another batch.
    pub fn has_room(&self) -> bool {
        !self.has_failed() && self.shared.in_flight.load(Ordering::Acquire) < QUEUED_BATCHES
    }

    /// Whether the consumer has failed: it takes no more events.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    /// Why the consumer failed, once.
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// Queues a batch. Never blocks: to be called only while [`Feed::has_room`].
    pub fn send(&self, events: Vec<Event>) {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        // Fails only after the consumer did, which `take_failure` reports.
        let _ = self.batches.try_send(Message::Events(events));
    }

    /// No more events will come.
    pub fn close(self, missed: Missed) -> Closing {
        let Self { batches, shared, thread, .. } = self;
        // The queue has one place more than `has_room` hands out.
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
    thread: Joining,
    shared: Arc<FeedState>,
}

impl Closing {
    /// Waits until the consumer is done, at most this long.
    pub fn wait(self, timeout: Duration) -> Result<()> {
        let name = self.thread.name;
        match self.thread.join(timeout) {
            Ended::InTime => {}
            Ended::Panicked => return Err(Error::other("finish", name, "its thread panicked")),
            Ended::TimedOut => {
                let why = format!("it was not finished within {} s; it is incomplete", timeout.as_secs());
                return Err(Error::other("finish", name, why).hint("write to a file system that responds"));
            }
        }
        lock(&self.shared.failure).take().map_or(Ok(()), Err)
    }
}

/// How a thread ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    InTime,
    Panicked,
    TimedOut,
}

/// A thread whose end is awaited with a timeout.
#[derive(Debug)]
struct Joining {
    name: &'static str,
    thread: JoinHandle<()>,
    /// Closed when the thread ends, also by a panic.
    ended: Receiver<()>,
}

impl Joining {
    fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (ends, ended): (Sender<()>, _) = mpsc::channel();
        let work = move || {
            let _ends = ends;
            work();
        };
        Ok(Self { name, thread: thread::Builder::new().name(name.into()).spawn(work)?, ended })
    }

    fn join(self, timeout: Duration) -> Ended {
        if self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            return Ended::TimedOut;
        }
        if self.thread.join().is_ok() { Ended::InTime } else { Ended::Panicked }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks in its first batch until it is released.
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
    fn a_stuck_consumer_never_blocks_its_feed_and_is_not_awaited_forever() {
        let (release, held) = mpsc::channel();
        let feed = Feed::start(Stuck(held), || ()).expect("a thread");
        let mut sent = 0;
        while feed.has_room() {
            feed.send(vec![Event::Note("one".into())]);
            sent += 1;
        }
        assert_eq!(sent, QUEUED_BATCHES);
        let error = feed.close(Missed::default()).wait(Duration::from_millis(1)).expect_err("it is stuck");
        assert!(error.to_string().contains("not finished within"), "{error}");
        drop(release);
    }

    #[test]
    fn a_failure_is_reported_once_and_ends_the_queue() {
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
}
