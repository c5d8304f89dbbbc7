//! The thread that follows changes of the host during a run. It owns what may wait for a lock, the
//! kernel or a file: forwarding, the run's nftables table, and the mounts of the target's private
//! files. It also follows changes of the host's firewall, which the guardian repairs. The event
//! loop hands it work, which never blocks, and receives events from it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{mpsc, oneshot};

use super::firewall_follower::FirewallFollower;
use crate::error::{Error, Result};
use crate::host::firewall::FirewallWatch;
use crate::host::forwarding::Forwarding;
use crate::host::nat::Nat;
use crate::target::mounts::keep::Keeper;
use crate::undo::Exclusive;

/// The mounts are checked at least this often, milliseconds: a file that the host removed for good
/// causes no inotify event.
const CHECK_INTERVAL_MS: u16 = 1000;

/// What the event loop receives.
#[derive(Debug)]
pub(in crate::commands::run) enum HostEvent {
    /// A change of the host could not be followed. The run continues, and its report gets a note.
    Failed(Error),
    /// The host's firewall may have changed at this time or later, so its rules have to be checked.
    FirewallChanged(Instant),
    /// The host's resolv.conf changed.
    ResolvConfChanged(ResolverFile),
    /// The thread panicked, so forwarding and mounts are no longer kept up to date.
    Panicked,
}

/// What follows from the host's resolv.conf.
#[derive(Debug)]
pub(in crate::commands::run) struct ResolverFile {
    /// The resolvers that queries are forwarded to.
    pub resolvers: Vec<SocketAddr>,
    /// The contents of the target's resolv.conf.
    pub text: Vec<u8>,
}

/// Reads the host's resolv.conf.
pub(super) type ReadResolverFile = Box<dyn Fn() -> ResolverFile + Send>;

/// What the thread has to do, each at most once however often it is requested, so that the queue is
/// bounded.
#[derive(Default)]
struct HostWork {
    /// Forwarding to keep up to date from now on.
    forwarding: Option<Forwarding>,
    /// Mounts to keep in place from now on.
    mounts: Option<MountsToKeep>,
    interfaces_changed: bool,
    release_mounts: bool,
    /// Closed when forwarding is switched back.
    close: Option<oneshot::Sender<()>>,
}

struct MountsToKeep {
    keeper: Keeper,
    read_resolver_file: ReadResolverFile,
    /// The target's mount namespace.
    namespace: OwnedFd,
    /// Receives whether they are in place.
    done: oneshot::Sender<Result<()>>,
}

struct WorkQueue {
    /// `None` when the thread has ended.
    work: Mutex<Option<HostWork>>,
    /// Readable when there is work.
    wake: EventFd,
}

impl WorkQueue {
    fn new() -> Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::os("create", "an eventfd", errno))?;
        Ok(Self { work: Mutex::new(Some(HostWork::default())), wake })
    }

    /// Adds a request, or drops it if the thread has ended: who waits for it is then notified.
    fn add(&self, add: impl FnOnce(&mut HostWork)) {
        if let Some(work) = &mut *self.work.lock().unwrap_or_else(PoisonError::into_inner) {
            add(work);
        }
        // EAGAIN: the counter is at its maximum, so it is readable anyway.
        let _ = self.wake.write(1);
    }

    fn take(&self) -> HostWork {
        let _ = self.wake.read();
        self.work.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Drops all requests when the thread ends, also by a panic.
struct QueueEnd(Arc<WorkQueue>);

impl Drop for QueueEnd {
    fn drop(&mut self) {
        drop(self.0.work.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The event loop's handle of the thread. Dropped without [`HostThread::close`], after a failure,
/// the thread keeps the nftables table until the process exits: by then the guardian has switched
/// forwarding back, which must happen first.
pub(super) struct HostThread {
    queue: Arc<WorkQueue>,
    events: mpsc::UnboundedReceiver<HostEvent>,
    nat: Weak<Nat>,
}

impl HostThread {
    /// Starts the thread in the network namespace of the caller.
    pub(super) fn start(nat: Arc<Nat>, firewall: FirewallWatch) -> Result<Self> {
        let queue = Arc::new(WorkQueue::new()?);
        let (sender, events) = mpsc::unbounded_channel();
        let weak = Arc::downgrade(&nat);
        let state = HostState {
            queue: queue.clone(),
            events: sender,
            nat: KeptTable(nat),
            firewall: FirewallFollower::new(firewall),
            forwarding: None,
            keeper: None,
            read_resolver_file: None,
            closing: None,
        };
        let end = QueueEnd(queue.clone());
        let work = move || {
            let _end = end;
            state.run();
        };
        let thread = thread::Builder::new().name("host".into()).spawn(work);
        thread.map_err(|error| Error::os("start thread", "host", error))?;
        Ok(Self { queue, events, nat: weak })
    }

    /// Keeps forwarding up to date from now on.
    pub(super) fn follow(&self, forwarding: Forwarding) {
        self.queue.add(|work| work.forwarding = Some(forwarding));
    }

    /// Interfaces or their switches changed.
    pub(super) fn interfaces_changed(&self) {
        self.queue.add(|work| work.interfaces_changed = true);
    }

    /// Keeps the target's private files mounted from now on, and waits until they are.
    pub(super) async fn keep_mounts(
        &self,
        keeper: Keeper,
        namespace: OwnedFd,
        read_resolver_file: ReadResolverFile,
    ) -> Result<()> {
        let (done, kept) = oneshot::channel();
        self.queue.add(|work| work.mounts = Some(MountsToKeep { keeper, read_resolver_file, namespace, done }));
        let panicked = || Error::other("keep", "the command's mounts", "the host thread panicked");
        kept.await.unwrap_or_else(|_| Err(panicked()))
    }

    /// No process of the target is left, so its mounts need not be kept. The kernel takes up to 20
    /// ms to close an inotify instance, so this is requested before the rest of the run is taken
    /// down.
    pub(super) fn release_mounts(&self) {
        self.queue.add(|work| work.release_mounts = true);
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> HostEvent {
        self.events.recv().await.unwrap_or(HostEvent::Panicked)
    }

    /// Requests that forwarding is switched back and then the nftables table is closed.
    pub(super) fn close(self) -> ClosingNetwork {
        let (released, is_released) = oneshot::channel();
        self.queue.add(|work| work.close = Some(released));
        ClosingNetwork { is_released, events: self.events, nat: self.nat }
    }
}

/// The network of a run while the host thread closes it.
#[derive(Debug)]
pub(in crate::commands::run) struct ClosingNetwork {
    is_released: oneshot::Receiver<()>,
    events: mpsc::UnboundedReceiver<HostEvent>,
    nat: Weak<Nat>,
}

impl ClosingNetwork {
    /// Waits until forwarding is switched back. Undoing the run before would put off the close of
    /// the nftables table, which waits for an RCU grace period and should overlap with the undo.
    pub(in crate::commands::run) async fn forwarding_released(&mut self) {
        // The sender is dropped, not used.
        let _ = (&mut self.is_released).await;
    }

    /// Waits until everything is closed. May wait for the lock as long as another run holds it.
    pub(in crate::commands::run) async fn wait(&mut self) {
        // The thread drops its end when it has closed the rest.
        while self.events.recv().await.is_some() {}
    }

    /// The nftables table, unless it is closed already.
    pub(in crate::commands::run) fn table(&self) -> Option<Arc<Nat>> {
        self.nat.upgrade()
    }
}

/// The nftables table. A panic keeps it until the process exits: it protects the host as long as
/// forwarding is on, and the guardian switches that back.
struct KeptTable(Arc<Nat>);

impl Drop for KeptTable {
    fn drop(&mut self) {
        if thread::panicking() {
            std::mem::forget(self.0.clone());
        }
    }
}

/// What the thread owns.
struct HostState {
    queue: Arc<WorkQueue>,
    events: mpsc::UnboundedSender<HostEvent>,
    nat: KeptTable,
    firewall: FirewallFollower,
    forwarding: Option<Forwarding>,
    keeper: Option<Keeper>,
    read_resolver_file: Option<ReadResolverFile>,
    /// Closes the keeper's inotify instance.
    closing: Option<JoinHandle<()>>,
}

impl HostState {
    fn run(mut self) {
        loop {
            let waited = self.wait();
            self.report(waited);
            let work = self.queue.take();
            if let Some(forwarding) = work.forwarding {
                self.forwarding = Some(forwarding);
            }
            if let Some(mounts) = work.mounts {
                self.keep(mounts);
            }
            if work.release_mounts || work.close.is_some() {
                self.release_mounts();
            }
            if let Some(released) = work.close {
                return self.close(released);
            }
            if work.interfaces_changed {
                let updated = self.update_forwarding();
                self.report(updated);
            }
            self.check_mounts();
            if let Some(since) = self.firewall.due_check() {
                self.send(HostEvent::FirewallChanged(since));
            }
        }
    }

    /// Until there is work, the host changes a file or its firewall, or the mounts are to be
    /// checked.
    fn wait(&self) -> Result<()> {
        let mut fds = vec![
            PollFd::new(self.queue.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.firewall.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.keeper.as_ref().map(|keeper| PollFd::new(keeper.as_fd(), PollFlags::POLLIN)));
        let mounts = self.keeper.as_ref().map(|_| CHECK_INTERVAL_MS);
        let timeout = mounts.into_iter().chain(self.firewall.timeout_ms()).min();
        let timeout = timeout.map_or(PollTimeout::NONE, PollTimeout::from);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => {
                // A pause, because the cause of the error probably persists.
                thread::sleep(Duration::from_millis(CHECK_INTERVAL_MS.into()));
                Err(Error::os("wait for", "changes of the host", errno))
            }
        }
    }

    fn update_forwarding(&mut self) -> Result<()> {
        let Some(forwarding) = &mut self.forwarding else { return Ok(()) };
        forwarding.update(&self.nat.0, &Exclusive::take()?)
    }

    fn keep(&mut self, mounts: MountsToKeep) {
        let MountsToKeep { mut keeper, read_resolver_file, namespace, done } = mounts;
        let kept = keeper.enter(namespace).and_then(|()| keeper.check());
        self.keeper = Some(keeper);
        self.read_resolver_file = Some(read_resolver_file);
        // The receiver is gone if a signal ended the set-up.
        let _ = done.send(kept.map(drop));
    }

    fn check_mounts(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let checked = keeper.check();
        if checked.as_ref().is_ok_and(|kept| kept.host_changed)
            && let Some(read) = &self.read_resolver_file
        {
            self.send(HostEvent::ResolvConfChanged(read()));
        }
        self.report(checked.map(drop));
    }

    fn release_mounts(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            self.closing = Some(thread::spawn(move || drop(keeper)));
        }
    }

    /// Forwarding before the table that keeps the host from forwarding for others.
    fn close(mut self, released: oneshot::Sender<()>) {
        let disabled = match self.forwarding.take() {
            Some(forwarding) => Exclusive::take().and_then(|held| forwarding.disable(&held)),
            None => Ok(()),
        };
        // The guardian tries again when it undoes the journal, and its failure is the one that is
        // reported.
        drop(disabled);
        drop(released);
        // Closing its socket waits for an RCU grace period in the kernel.
        drop(self.nat);
        if let Some(closing) = self.closing {
            // A thread that panicked has closed its descriptors all the same.
            let _ = closing.join();
        }
    }

    fn report(&self, result: Result<()>) {
        if let Err(error) = result {
            self.send(HostEvent::Failed(error));
        }
    }

    /// The receiver is gone at the end of the run.
    fn send(&self, event: HostEvent) {
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_a_thread_that_panicked_do_not_wait() {
        let queue = Arc::new(WorkQueue::new().expect("an eventfd"));
        let (before, is_pending) = oneshot::channel();
        queue.add(|work| work.close = Some(before));
        let end = QueueEnd(queue.clone());
        let thread = thread::spawn(move || {
            let _end = end;
            panic!("as the host thread could");
        });
        assert!(thread.join().is_err());
        assert!(is_pending.blocking_recv().is_err());
        let (after, is_late) = oneshot::channel();
        queue.add(|work| work.close = Some(after));
        assert!(is_late.blocking_recv().is_err());
    }
}
