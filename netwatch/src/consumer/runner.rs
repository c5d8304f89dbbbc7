//! The thread of a consumer and its bounded queue.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Consumer, Discards, StreamEnd};
use crate::error::{Error, Result};
use crate::session::{Event, EventKinds};

/// Maximum number of batches of a consumer: those that are queued and the one being processed.
const MAX_BATCHES: usize = 2;
/// Time that a consumer has to process all remaining events at the end of the run.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(60);

/// The sending side of the queue of a consumer.
#[derive(Debug)]
pub struct Feed {
    wants: EventKinds,
    is_essential: bool,
    discards: Option<Arc<Discards>>,
    batches: SyncSender<Message>,
    shared: Arc<FeedState>,
    thread: ConsumerThread,
}

/// An entry of the queue.
#[derive(Debug)]
enum Message {
    Events(Vec<Event>),
    Close(StreamEnd),
}

#[derive(Debug, Default)]
struct FeedState {
    /// Number of batches that are queued or being processed.
    in_flight: AtomicUsize,
    has_started: AtomicBool,
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
        let (wants, is_essential, name) = (consumer.wants(), consumer.is_essential(), consumer.name());
        let discards = consumer.discards();
        let of_thread = shared.clone();
        let work = move || {
            let end = EndGuard { name, shared: &of_thread, on_room: &on_room };
            if let Err(error) = run(&mut consumer, &receiver, &of_thread, &on_room) {
                of_thread.fail(error);
            }
            drop(end);
        };
        let thread = ConsumerThread::spawn(name, work).map_err(|error| Error::os("start thread", name, error))?;
        Ok(Self { wants, is_essential, discards, batches, shared, thread })
    }

    /// The kinds of events that the consumer wants.
    pub fn wants(&self) -> EventKinds {
        self.wants
    }

    /// Whether the end of a run waits for the consumer, and its failure is worth a note.
    pub fn is_essential(&self) -> bool {
        self.is_essential
    }

    /// What the consumer has discarded, if no sentence has reported it.
    pub fn report_discards(&self) -> Option<String> {
        self.discards.as_ref()?.report()
    }

    /// Whether the queue has room for another batch.
    pub fn has_room(&self) -> bool {
        !self.has_failed() && self.shared.in_flight.load(Ordering::Acquire) < MAX_BATCHES
    }

    /// The name of the consumer.
    pub fn name(&self) -> &'static str {
        self.thread.name
    }

    /// Whether the consumer could start.
    pub fn has_started(&self) -> bool {
        self.shared.has_started.load(Ordering::Acquire)
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
        if self.batches.try_send(Message::Events(events)).is_err() && !self.has_failed() {
            self.shared.fail(Error::other("send events to", self.name(), "its queue is full"));
        }
    }

    /// Reports to the consumer that no more events will come.
    pub fn close(self, end: StreamEnd) -> Closing {
        let Self { batches, shared, thread, .. } = self;
        // Fails only if the consumer has failed: the queue has a place more than `has_room` uses.
        let _ = batches.try_send(Message::Close(end));
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
    shared.has_started.store(true, Ordering::Release);
    for message in messages {
        match message {
            Message::Events(events) => {
                consumer.consume(events)?;
                shared.in_flight.fetch_sub(1, Ordering::AcqRel);
                on_room();
            }
            Message::Close(end) => return consumer.finish(&end),
        }
    }
    consumer.finish(&StreamEnd::Abandoned)
}

/// Reports the end of a consumer's thread to the session, also after a panic.
struct EndGuard<'a, F: Fn()> {
    name: &'static str,
    shared: &'a FeedState,
    on_room: &'a F,
}

impl<F: Fn()> Drop for EndGuard<'_, F> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.fail(Error::other("write", self.name, "its thread panicked"));
        }
        (self.on_room)();
    }
}

/// A consumer that is finishing.
#[derive(Debug)]
pub struct Closing {
    thread: ConsumerThread,
    shared: Arc<FeedState>,
}

impl Closing {
    /// Waits until the consumer is done, until `deadline`: [`FINISH_TIMEOUT`] after the end of the
    /// run.
    pub fn wait(self, deadline: Instant) -> Result<()> {
        let name = self.thread.name;
        if !self.thread.has_ended_by(deadline) {
            let why = format!("not finished within {} s; the result is incomplete", FINISH_TIMEOUT.as_secs());
            return Err(Error::other("finish", name, why).hint("write to a faster file system"));
        }
        lock(&self.shared.failure).take().map_or(Ok(()), Err)
    }
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

    fn has_ended_by(self, deadline: Instant) -> bool {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let has_ended = self.ended.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout);
        if has_ended {
            // The guard in the thread has reported a panic.
            let _ = self.thread.join();
        }
        has_ended
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concluded() -> StreamEnd {
        StreamEnd::Concluded(Box::default())
    }

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
        fn finish(&mut self, _: &StreamEnd) -> Result<()> {
            Ok(())
        }
    }

    /// Panics in its first batch.
    struct Panicking;

    impl Consumer for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
        }
        fn wants(&self) -> EventKinds {
            EventKinds::NOTE
        }
        fn consume(&mut self, _: Vec<Event>) -> Result<()> {
            panic!("a bug in a consumer")
        }
        fn finish(&mut self, _: &StreamEnd) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_reported_as_the_failure_of_the_consumer() {
        let (ended, is_ended) = mpsc::channel();
        let feed = Feed::start(Panicking, move || _ = ended.send(())).expect("a thread");
        feed.send(vec![Event::Note("one".into())]);
        is_ended.recv().expect("the end of the thread is reported");
        assert!(feed.has_failed() && !feed.has_room());
        let error = feed.close(concluded()).wait(Instant::now() + FINISH_TIMEOUT).expect_err("it panicked");
        assert!(error.to_string().contains("panicked"), "{error}");
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
        let error = feed.close(concluded()).wait(Instant::now()).expect_err("it is stuck");
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
        feed.close(concluded()).wait(Instant::now() + FINISH_TIMEOUT).expect("its failure was taken");
    }
}
