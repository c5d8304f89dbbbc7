//! The thread that attaches to the targets and follows their changes. It owns no counts: what the
//! classifier counts is in its maps.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use super::names::NameList;
use super::notes;
use crate::commands::run::capture::StartedCapture;
use crate::error::{Error, Result};
use crate::flow::{CounterBounds, InterfaceCounters};
use crate::guardian::StartCapture;
use crate::host::links::LinkChanges;
use crate::host::sockets::ExistingSocket;
use crate::report::Interface;

/// Interval at which the thread checks whether a namespace has ended, of which nothing notifies.
const END_CHECK_MS: u16 = 500;

/// What the classifier is attached to: interfaces or cgroups.
pub(super) trait Followed: Send {
    /// Takes what notifies of changes.
    fn take_changes(&mut self) -> Vec<LinkChanges>;

    /// Attaches to what has appeared, and detaches from what is gone. Returns the errors, none of
    /// which ends the update.
    fn update(&mut self) -> Vec<Error>;

    /// Whether a target has ended since the last update, of which nothing notifies.
    fn has_one_ended(&self) -> bool;

    /// Whether nothing is left to meter.
    fn have_ended(&self) -> bool;

    /// Detaches from everything. The first failure is returned.
    fn detach_all(&mut self) -> Result<()>;

    /// What the classifier is attached to, for people.
    fn shown(&self) -> NameList;

    /// The facts about it.
    fn interface(&self) -> Interface;

    /// What the interfaces have counted so far; `None` if it is unknown.
    fn counters_so_far(&mut self) -> Option<InterfaceCounters>;

    /// The sockets that exist.
    fn sockets(&mut self) -> Result<ExistingSockets>;

    /// Starts a capture on the interfaces, also on those that come later. `expression` is that of
    /// its filter.
    fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture>;

    /// Ends the capture in this slot, if there is one.
    fn stop_capture(&mut self, slot: u16);

    /// To be called when everything is detached.
    fn summary(&mut self) -> TargetSummary;
}

/// Sockets that exist when netwatch attaches.
#[derive(Debug, Default)]
pub(super) struct ExistingSockets {
    /// Those of the targets, each with the cookie of its network namespace.
    pub metered: Vec<(ExistingSocket, u64)>,
    /// Others in the same namespaces.
    pub others: Vec<ExistingSocket>,
    /// The processes of the targets, if some of the others may be theirs.
    pub processes: HashSet<u32>,
    /// Of the metered ones, only those of the processes are.
    pub are_selected: bool,
}

/// What a session found out about its targets.
pub(super) struct TargetSummary {
    /// `None` if the counters of an interface are unknown, or if none counts the packets.
    pub counters: Option<CounterBounds>,
    pub notes: Vec<String>,
    pub interface: Interface,
}

/// The targets, for this thread and for those that create reports.
pub(super) type SharedTargets = Arc<Mutex<dyn Followed>>;

pub(super) fn lock(targets: &SharedTargets) -> MutexGuard<'_, dyn Followed + 'static> {
    targets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The control loop's side of the thread.
pub(super) struct Follower {
    stop: Arc<EventFd>,
    attached: Option<oneshot::Receiver<Result<NameList>>>,
    ended: oneshot::Receiver<()>,
    finished: Option<oneshot::Receiver<Result<()>>>,
}

impl Follower {
    /// Starts the thread. `note` adds a note to the report.
    pub(super) fn start(targets: SharedTargets, note: impl Fn(String) + Send + 'static) -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = EventFd::from_flags(flags).map_err(|errno| Error::os("create", "an eventfd", errno))?;
        let stop = Arc::new(stop);
        let (attaches, attached) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let (finishes, finished) = oneshot::channel();
        let thread = FollowingThread { targets, stop: stop.clone(), ends: Some(ends) };
        // Fails if a signal ended the wait.
        let work = move || _ = finishes.send(thread.run(attaches, note));
        let started = thread::Builder::new().name("links".into()).spawn(work);
        started.map_err(|error| Error::os("start thread", "links", error))?;
        Ok(Self { stop, attached: Some(attached), ended, finished: Some(finished) })
    }

    /// Waits until the classifier is attached to everything that is there. Returns what that is.
    pub(super) async fn attached(&mut self) -> Result<NameList> {
        let Some(attached) = self.attached.take() else { return Ok(NameList::default()) };
        attached.await.unwrap_or_else(|_| Err(panicked()))
    }

    /// Waits until no target is left. Fails if the thread panicked.
    pub(super) async fn ended(&mut self) -> Result<()> {
        (&mut self.ended).await.map_err(|_| panicked())
    }

    /// Detaches from everything and ends the thread.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.stop.write(1).map_err(|errno| Error::os("stop", "the thread links", errno))?;
        let Some(finished) = self.finished.take() else { return Ok(()) };
        finished.await.unwrap_or_else(|_| Err(panicked()))
    }
}

fn panicked() -> Error {
    Error::other("follow", "the interfaces", "a thread panicked")
}

struct FollowingThread {
    targets: SharedTargets,
    stop: Arc<EventFd>,
    /// Taken when no target is left.
    ends: Option<oneshot::Sender<()>>,
}

impl FollowingThread {
    fn run(
        mut self,
        attaches: oneshot::Sender<Result<NameList>>,
        note: impl Fn(String) + Send + 'static,
    ) -> Result<()> {
        // Taken before the interfaces are read, so no later change is missed.
        let changes = lock(&self.targets).take_changes();
        let first = {
            let mut targets = lock(&self.targets);
            targets.update().into_iter().next().map_or_else(|| Ok(targets.shown()), Err)
        };
        let is_attached = first.is_ok();
        // Fails if a signal ended the wait.
        let _ = attaches.send(first);
        if is_attached {
            self.follow(&changes, &note);
        }
        lock(&self.targets).detach_all()
    }

    /// Follows changes until the session ends.
    fn follow(&mut self, changes: &[LinkChanges], note: &impl Fn(String)) {
        // A target can cause any number of them.
        let mut errors = NameList::default();
        let mut has_failed = false;
        loop {
            match self.wait(changes) {
                Wake::Stop => break,
                Wake::Check if !has_failed && !lock(&self.targets).has_one_ended() => continue,
                Wake::Check | Wake::Changed => changes.iter().for_each(LinkChanges::clear),
            }
            let failed = lock(&self.targets).update();
            has_failed = !failed.is_empty();
            let failed = failed.into_iter().map(|error| error.to_string());
            failed.filter(|error| errors.insert(error.clone())).for_each(note);
            if lock(&self.targets).have_ended()
                && let Some(ends) = self.ends.take()
            {
                // Fails if something else ended the session.
                let _ = ends.send(());
            }
        }
        notes::further(&errors).into_iter().for_each(note);
    }

    /// Waits for a change, the time of a check, or the end of the session.
    fn wait(&self, changes: &[LinkChanges]) -> Wake {
        let stop = PollFd::new(self.stop.as_fd(), PollFlags::POLLIN);
        let changes = changes.iter().map(|changes| PollFd::new(changes.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = std::iter::once(stop).chain(changes).collect();
        // EINTR: another round.
        let _ = poll(&mut fds, PollTimeout::from(END_CHECK_MS));
        let is_ready = |fd: &PollFd<'_>| fd.any() == Some(true);
        match &fds[..] {
            [stop, ..] if is_ready(stop) => Wake::Stop,
            [_, changes @ ..] if changes.iter().any(is_ready) => Wake::Changed,
            _ => Wake::Check,
        }
    }
}

/// Why the thread wakes up.
enum Wake {
    /// The session ends.
    Stop,
    /// An interface has changed.
    Changed,
    /// It is time for a check.
    Check,
}
