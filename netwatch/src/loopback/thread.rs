//! The thread of the proxy.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::bind::{BoundKind, LoopbackSockets};
use super::counts::{LoopbackCounts, SharedCounts};
use super::tcp;
use super::udp::{self, UdpClients};
use crate::error::{Error, Result};
use crate::report::HostService;

/// Maximum numbers of services, of connections and of UDP clients, if the process may open enough
/// files.
const MAX_SERVICES: usize = 128;
const MAX_CONNECTIONS: usize = 256;
const MAX_CLIENTS: usize = 256;

/// Within this time, the event loop receives everything that had arrived when the run ended.
const ENDING_PAUSE: Duration = Duration::from_millis(2);

/// State that every task of the proxy uses.
#[derive(Debug, Clone)]
pub(super) struct ProxyShared {
    slots: Arc<Semaphore>,
    pub(super) clients: Arc<UdpClients>,
    pub(super) counts: SharedCounts,
    /// True when the run ends.
    ends: watch::Receiver<bool>,
}

impl ProxyShared {
    /// Waits for room for a connection.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Waits for the end of the run.
    pub(super) async fn ending(&self) {
        // The sender outlives the tasks.
        let _ = self.ends.clone().wait_for(|ends| *ends).await;
        tokio::time::sleep(ENDING_PAUSE).await;
    }
}

/// The proxy, which serves its sockets in a thread. Dropping it closes them at once.
#[derive(Debug)]
pub struct RunningProxy {
    services: Vec<HostService>,
    counts: SharedCounts,
    ends: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    /// Closed when everything is passed on.
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl RunningProxy {
    /// Maximum number of services: the proxy uses up to a quarter of the descriptors that the
    /// process may open.
    pub fn max_services() -> usize {
        share_of_descriptors(MAX_SERVICES)
    }

    /// Starts the thread in the caller's network namespace, the host's.
    pub fn start(sockets: LoopbackSockets) -> Result<Self> {
        let services = sockets.services();
        let counts = SharedCounts::default();
        let (ends, receiver) = watch::channel(false);
        let shared = ProxyShared {
            slots: Arc::new(Semaphore::new(share_of_descriptors(MAX_CONNECTIONS))),
            clients: Arc::new(UdpClients::new(share_of_descriptors(MAX_CLIENTS))),
            counts: counts.clone(),
            ends: receiver,
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::os("start", "the proxy of --host-loopback", error))?;
        let tasks = serve(sockets, &shared, &runtime)?;
        let (stop, stopped) = oneshot::channel();
        let (running, done) = mpsc::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = tasks.join_all() => {}
                    // Nothing is sent: the sender is dropped.
                    _ = stopped => {}
                }
            });
            // Dropping the runtime closes its sockets.
            drop(runtime);
            drop(running);
        };
        let thread = thread::Builder::new().name("loopback".into()).spawn(body);
        let thread = thread.map_err(|error| Error::os("start thread", "loopback", error))?;
        Ok(Self { services, counts, ends, stop: Some(stop), done, thread: Some(thread) })
    }

    /// The services that the namespace has.
    pub fn services(&self) -> &[HostService] {
        &self.services
    }

    /// What the proxy counted so far.
    pub fn counts(&self) -> LoopbackCounts {
        self.counts.read(false)
    }

    /// Ends the proxy after the command has exited. What its processes have sent is still passed
    /// on, for `limit` at most. Returns what the proxy counted.
    pub fn finish(self, limit: Duration) -> LoopbackCounts {
        // The thread holds the receivers until it ends.
        let _ = self.ends.send(true);
        // Nothing is sent: the sender is dropped at the end.
        let _ = self.done.recv_timeout(limit);
        self.counts.read(true)
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed, and its sockets are closed.
            let _ = thread.join();
        }
    }
}

/// Starts the tasks that serve the sockets.
fn serve(sockets: LoopbackSockets, shared: &ProxyShared, runtime: &Runtime) -> Result<JoinSet<()>> {
    let _within = runtime.enter();
    let mut tasks = JoinSet::new();
    for bound in sockets.sockets {
        let (service, shared) = (bound.service, shared.clone());
        let failed = |error| Error::os("poll the socket for --host-loopback", service.to_string(), error);
        match bound.kind {
            BoundKind::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                tasks.spawn(tcp::serve(listener, service, shared));
            }
            BoundKind::Udp(socket) => {
                let socket = tokio::net::UdpSocket::from_std(socket).map_err(failed)?;
                tasks.spawn(udp::serve(socket, service, shared));
            }
        }
    }
    Ok(tasks)
}

/// A sixteenth of the descriptors that the process may open, at most `limit`. A connection has two.
fn share_of_descriptors(limit: usize) -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 16).unwrap_or(limit).clamp(4, limit)
}
