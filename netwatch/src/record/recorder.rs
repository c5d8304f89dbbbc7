//! The thread that writes while the run goes on. The run never waits for it: what finds it busy is kept back and comes with the next batch.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rusqlite::Connection;

use super::batch::{Batch, Last};
use super::create::{self, Claim};
use super::fault::{self, Doing};
use super::live::{self, Numbers};
use super::store::{Keep, Store};
use super::write;
use crate::error::{Error, Result};
use crate::report::{Report, Series};
use crate::rights;
use crate::target::user::Identity;

/// Where a run is recorded, and how much of it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Where.
    pub place: Place,
    /// Whose rights decide, and who owns the file.
    pub user: Identity,
    /// Bytes that the recording may have.
    pub limit_bytes: u64,
}

/// Where a run is recorded.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this file, which is the run's own once it was found good.
    File(PathBuf, Option<Arc<Claim>>),
    /// Where runs are kept, and how many of them.
    Store(Store, Keep),
}

impl Destination {
    /// Finds out now whether the file can be recorded to. The folder for runs is left for when it is needed: no run waits for it.
    pub fn check(mut self) -> Result<Self> {
        if let Place::File(path, claim) = &mut self.place {
            *claim = Some(rights::as_user((self.user.uid, self.user.gid), || create::prepare(path))?.into());
        }
        Ok(self)
    }

    /// Nothing will come: a file that was made for it goes again.
    pub fn abandon(&self) {
        if let Place::File(path, Some(claim)) = &self.place
            && claim.made
        {
            // What cannot be removed now is an empty file.
            let _ = rights::as_user((self.user.uid, self.user.gid), || std::fs::remove_file(path));
        }
    }
}

/// A recording that is being written.
#[derive(Debug)]
pub struct Recorder {
    /// Taken when the run is over.
    thread: Option<Thread>,
    shared: Arc<Shared>,
}

/// The thread, and the way to it: closed, it ends.
type Thread = (SyncSender<Batch>, Ending);

/// How long the end of a recording may take. It is written without waiting for a disk; what takes longer hangs, and a run does not hang with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thread whose end is waited for, but not for ever.
#[derive(Debug)]
struct Ending {
    thread: JoinHandle<()>,
    /// Closed when the thread ends, also by a panic.
    ended: Receiver<()>,
}

impl Ending {
    fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (ends, ended) = mpsc::channel::<()>();
        let work = move || {
            let _ends = ends;
            work();
        };
        Ok(Self { thread: thread::Builder::new().name("record".into()).spawn(work)?, ended })
    }

    fn wait(self, patience: Duration) -> Result<()> {
        let said = |cause: String| Error::said("record", "the run", cause);
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let seconds = patience.as_secs();
            return Err(said(format!("the recording was not finished within {seconds} s; it is incomplete"))
                .hint("record to a file system that answers"));
        }
        self.thread.join().map_err(|_| said("the recording thread panicked".to_owned()))
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// A batch is being written, or waits.
    busy: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    last: Mutex<Option<Last>>,
}

impl Recorder {
    /// Starts the thread.
    pub fn start(destination: Destination, run_id: String, started_ns: u64) -> Result<Self> {
        let (sender, receiver) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let writer = Writer { destination, run_id, started_ns, shared: shared.clone() };
        let thread =
            Ending::spawn(move || writer.run(&receiver)).map_err(|error| Error::os("start thread", "record", error))?;
        Ok(Self { thread: Some((sender, thread)), shared })
    }

    /// Whether a batch would be taken now.
    pub fn is_idle(&self) -> bool {
        !self.shared.busy.load(Ordering::Acquire) && !self.has_failed()
    }

    /// Whether nothing more will be written.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Hands over a batch. Only when [`Recorder::is_idle`]: otherwise it is lost.
    pub fn send(&self, batch: Batch) {
        self.shared.busy.store(true, Ordering::Release);
        if let Some((sender, _)) = &self.thread {
            // A thread that has ended has said why.
            let _ = sender.try_send(batch);
        }
    }

    /// Why nothing more is written, once.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.shared.failure).take()
    }

    /// The run is over. The thread writes the whole of it while others clean up.
    pub fn finish(mut self, report: Arc<Report>, series: Series) -> Closing {
        *lock(&self.shared.last) = Some(Last { report, series });
        let thread = self.thread.take().map(|(_, thread)| thread);
        Closing { thread, shared: self.shared.clone() }
    }
}

/// A run that came to no end is incomplete; what was handed over is written.
impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // A panic has been printed, and nothing was promised of this recording.
            let _ = thread.wait(PATIENCE);
        }
    }
}

/// A recording that is being finished.
#[derive(Debug)]
pub struct Closing {
    thread: Option<Ending>,
    shared: Arc<Shared>,
}

impl Closing {
    /// Waits until it is done.
    pub fn wait(self) -> Result<()> {
        self.thread.map_or(Ok(()), |thread| thread.wait(PATIENCE))?;
        let failure = lock(&self.shared.failure).take();
        failure.map_or(Ok(()), Err)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has.
struct Writer {
    destination: Destination,
    run_id: String,
    started_ns: u64,
    shared: Arc<Shared>,
}

/// A file that is claimed for a run, and the folder that it is kept in, if it is one.
type Claimed<'a> = (PathBuf, Arc<Claim>, Option<(&'a Store, &'a Keep)>);

impl Writer {
    fn run(self, batches: &Receiver<Batch>) {
        if let Err(error) = self.write(batches) {
            *lock(&self.shared.failure) = Some(error);
            self.shared.failed.store(true, Ordering::Release);
        }
    }

    fn write(&self, batches: &Receiver<Batch>) -> Result<()> {
        block_file_size_signal();
        rights::become_on_this_thread(&self.destination.user)?;
        let (path, claim, keep) = self.path()?;
        let mut db = create::begin(&path, &claim, self.destination.limit_bytes)?;
        if let Some((store, keep)) = keep {
            store.prune(keep, &path);
        }
        self.fill(&mut db, batches).map_err(|error| fault::sqlite(Doing::Write, &path, &error, Some(&db)))
    }

    fn fill(&self, db: &mut Connection, batches: &Receiver<Batch>) -> rusqlite::Result<()> {
        let mut numbers = Numbers::default();
        for batch in batches {
            live::write(db, &batch, &mut numbers)?;
            drop(batch);
            self.shared.busy.store(false, Ordering::Release);
        }
        let last = lock(&self.shared.last).take();
        last.map_or(Ok(()), |last| write::finished(db, &last.report, &last.series))
    }

    fn path(&self) -> Result<Claimed<'_>> {
        match &self.destination.place {
            Place::File(path, Some(claim)) => Ok((path.clone(), claim.clone(), None)),
            Place::File(path, None) => Ok((path.clone(), create::prepare(path)?.into(), None)),
            Place::Store(store, keep) => {
                let (path, claim) = store.create(self.started_ns, &self.run_id)?;
                Ok((path, claim.into(), Some((store, keep))))
            }
        }
    }
}

/// A limit for the size of files is then an error (EFBIG, setrlimit(2)) and not the end of netwatch.
fn block_file_size_signal() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Fails for no set of signals that exists.
    let _ = signals.thread_block();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_not_waited_for_for_ever() {
        let (release, held) = mpsc::channel::<()>();
        let thread = Ending::spawn(move || assert!(held.recv().is_err())).expect("a thread");
        let error = thread.wait(Duration::from_millis(10)).expect_err("it hangs").to_string();
        assert!(error.contains("not finished within"), "{error}");
        drop(release);
    }

    #[test]
    fn an_end_is_seen_at_once() {
        Ending::spawn(|| ()).expect("a thread").wait(PATIENCE).expect("it ended");
    }
}
