//! The name server on the gateway: forwards the target's queries to the host's resolvers, and their
//! responses back, unchanged. It runs in netwatch's process and in the host's namespace, so it
//! reaches resolvers on 127.0.0.53 and ::1. It has its own thread: a busy event loop does not delay
//! DNS, and DNS traffic does not delay the event loop.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::exchange::Exchanges;
use super::in_flight::InFlight;
use super::socket::{self, ListeningPair};
use super::stats::{SharedStats, Stats};
use super::upstream::{Resolvers, Upstream};
use super::{tcp, udp};
use crate::error::{Error, Result};

/// Maximum numbers of sockets, if the process may open enough files: UDP sockets toward resolvers,
/// TCP connections to them, and TCP connections of clients to one gateway address.
const MAX_SOCKETS: usize = 256;

/// The thread's name, as /proc and debuggers show it.
const THREAD_NAME: &str = "dns";

/// Sockets that are bound to the gateway. Queries wait in their buffers until [`Forwarder::start`].
#[derive(Debug)]
pub struct Forwarder {
    pairs: Vec<ListeningPair>,
    client: Option<IpAddr>,
}

impl Forwarder {
    /// Binds port 53 of these addresses, UDP and TCP, in the caller's network namespace. With an
    /// `interface`, only packets that arrive on it are accepted.
    ///
    /// Where another server has bound port 53 of all addresses, the kernel chooses another port:
    /// see [`Forwarder::listening`].
    pub fn bind(gateways: &[IpAddr], interface: Option<&str>) -> Result<Self> {
        let pairs = gateways.iter().map(|address| ListeningPair::bind(*address, interface)).collect::<Result<_>>()?;
        Ok(Self { pairs, client: None })
    }

    /// Makes it answer this address only. Programs of the host reach the gateway address too, and
    /// the kernel regards what they send as received by the interface that has the address.
    #[must_use]
    pub fn only_for(self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Each gateway address and the port that is bound on it. If that is not 53, the caller has to
    /// translate packets to port 53 of the address (UDP and TCP) to that port: with `dnat` to
    /// exactly this address, because `redirect` uses the first address of the interface, which for
    /// IPv6 may be the link-local one.
    pub fn listening(&self) -> Vec<(IpAddr, u16)> {
        self.pairs.iter().map(|pair| (pair.address.ip(), pair.address.port())).collect()
    }

    /// Starts the thread that answers queries. It sends its own queries from the caller's network
    /// namespace. All signals are blocked in it; they are handled in the main thread.
    pub fn start(self, upstream: Upstream) -> Result<RunningForwarder> {
        let listening = self.listening();
        let counters = SharedStats::default();
        let sockets = max_sockets();
        let shared = ForwarderState {
            client: self.client,
            upstream: Arc::new(Mutex::new(upstream)),
            in_flight: InFlight::new(),
            exchanges: Exchanges::new(sockets, sockets),
            max_connections: sockets,
            counters,
        };
        let listeners: Vec<_> = self.pairs.iter().map(ListeningPair::duplicate_udp).collect::<Result<_>>()?;
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::sync_channel(1);
        let for_thread = shared.clone();
        let body = move || match listen(self.pairs, &for_thread) {
            Ok(runtime) => {
                let _ = report.send(Ok(()));
                // The sender sends nothing; it is dropped to stop the thread.
                let _ = runtime.block_on(stopped);
            }
            Err(error) => drop(report.send(Err(error))),
        };
        let thread = spawn_with_signals_blocked(body)?;
        let status = ForwarderStatus { listeners: listeners.into(), shared };
        let running = RunningForwarder { listening, status, stop: Some(stop), thread: Some(thread) };
        started.recv().unwrap_or_else(|_| Err(Error::other("start", "the DNS forwarder", "its thread panicked")))?;
        Ok(running)
    }
}

/// Starts the tasks that serve the sockets. They make progress when the returned runtime is driven,
/// and end when it is dropped.
fn listen(pairs: Vec<ListeningPair>, shared: &ForwarderState) -> Result<Runtime> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::os("start", "the DNS forwarder", error))?;
    for pair in pairs {
        let _within = runtime.enter();
        let poll = |error| Error::os("poll the DNS forwarder's socket", pair.address.to_string(), error);
        let socket = UdpSocket::from_std(pair.udp).map_err(poll)?;
        let listener = TcpListener::from_std(pair.tcp).map_err(poll)?;
        runtime.spawn(udp::serve(socket, shared.clone()));
        runtime.spawn(tcp::serve(listener, shared.clone()));
    }
    Ok(runtime)
}

/// Blocks all signals in the caller while the thread is created, because the thread inherits the
/// signal mask. So it cannot receive a signal at any moment.
fn spawn_with_signals_blocked(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let block = |error: nix::Error| Error::os("block", "signals", error);
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(block)?;
    let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(body);
    before.thread_set_mask().map_err(block)?;
    thread.map_err(|error| Error::os("start", "the thread of the DNS forwarder", error))
}

/// A forwarder whose thread answers queries. Dropping it stops and joins the thread, which closes
/// all sockets and abandons queries in flight.
#[derive(Debug)]
pub struct RunningForwarder {
    listening: Vec<(IpAddr, u16)>,
    status: ForwarderStatus,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningForwarder {
    /// As [`Forwarder::listening`].
    pub fn listening(&self) -> &[(IpAddr, u16)] {
        &self.listening
    }

    /// Its state, which any thread can read.
    pub fn status(&self) -> &ForwarderStatus {
        &self.status
    }
}

/// The state of a forwarder. Reading it may block until the forwarder's thread or a file is ready.
#[derive(Debug, Clone)]
pub struct ForwarderStatus {
    /// Duplicates of the sockets that the thread reads, for the kernel's counters of them.
    listeners: Arc<[std::net::UdpSocket]>,
    shared: ForwarderState,
}

impl ForwarderStatus {
    /// The counters at this moment.
    pub fn stats(&self) -> Stats {
        let dropped_by_kernel = self.listeners.iter().map(socket::dropped_datagrams).sum();
        Stats { dropped_by_kernel, ..self.shared.counters.lock().clone() }
    }

    /// The resolvers that queries are forwarded to at this moment.
    pub fn resolvers(&self) -> Vec<SocketAddr> {
        self.shared.resolvers().addresses.clone()
    }

    /// The resolv.conf for the target, with the current `search` and `options` lines of the host.
    pub fn render(&self, gateway: IpAddr) -> Vec<u8> {
        let mut upstream = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        upstream.resolvers();
        upstream.render(gateway)
    }
}

impl Drop for RunningForwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed, and its sockets are closed.
            let _ = thread.join();
        }
    }
}

/// State that all listeners and [`RunningForwarder`] share.
#[derive(Debug, Clone)]
pub(super) struct ForwarderState {
    /// The only client that is answered; `None` for any.
    client: Option<IpAddr>,
    upstream: Arc<Mutex<Upstream>>,
    pub(super) in_flight: InFlight,
    pub(super) exchanges: Exchanges,
    /// Maximum number of open TCP connections of clients to one gateway address.
    pub(super) max_connections: usize,
    pub(super) counters: SharedStats,
}

impl ForwarderState {
    /// Whether this client is answered. Counts if not.
    pub(super) fn admits(&self, client: SocketAddr) -> bool {
        let is_admitted = self.client.is_none_or(|only| only == client.ip());
        if !is_admitted {
            self.counters.lock().strangers += 1;
        }
        is_admitted
    }

    pub(super) fn resolvers(&self) -> Arc<Resolvers> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).resolvers()
    }
}

/// The forwarder uses up to four times this number of descriptors; half of the process's limit
/// leaves enough for the rest of netwatch.
fn max_sockets() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 8).unwrap_or(MAX_SOCKETS).clamp(4, MAX_SOCKETS)
}
