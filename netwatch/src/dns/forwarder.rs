//! The gateway's name server: hands the namespace's queries to the host's resolvers and their answers back, unchanged. It runs in
//! netwatch's own process and in the host's namespace, so resolvers on 127.0.0.53 or ::1 are within its reach.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;

use super::in_flight::InFlight;
use super::socket::Pair;
use super::stats::{Counters, Stats};
use super::upstream::{Resolvers, Upstream};
use super::{tcp, udp};
use crate::error::{Error, Result};

/// Queries being answered at once, if there are file descriptors for them.
const MAX_IN_FLIGHT: usize = 1024;

/// Bound to the gateway, not yet answering; queries wait in the sockets' buffers.
#[derive(Debug)]
pub struct Forwarder {
    pairs: Vec<Pair>,
}

impl Forwarder {
    /// Takes port 53 of these addresses for UDP and TCP, of packets that come in by `interface` only, if it is given. Needs no runtime.
    ///
    /// Where another server holds port 53 on all addresses, it is a port of our own: see [`Forwarder::listening`].
    pub fn bind(gateways: &[IpAddr], interface: Option<&str>) -> Result<Self> {
        let pairs = gateways.iter().map(|address| Pair::bind(*address, interface)).collect::<Result<_>>()?;
        Ok(Self { pairs })
    }

    /// Each gateway address and the port it is served on. Where that is not 53, packets to the address's port 53 (UDP and TCP) have to be
    /// translated to it: by `dnat` to exactly this address, because `redirect` takes the interface's first one, for IPv6 perhaps the link-local one.
    pub fn listening(&self) -> Vec<(IpAddr, u16)> {
        self.pairs.iter().map(|pair| (pair.address.ip(), pair.address.port())).collect()
    }

    /// Starts answering, within a tokio runtime.
    pub fn run(self, upstream: Upstream) -> Result<Running> {
        let counters = Counters::default();
        let in_flight = InFlight::new(in_flight_limit(), counters.clone());
        let shared = Shared { upstream: Arc::new(Mutex::new(upstream)), in_flight, counters };
        // From here on dropping it stops what was started.
        let mut running = Running { listening: self.listening(), shared, tasks: Vec::new() };
        for pair in self.pairs {
            let shown = pair.address.to_string();
            let watch = |error| Error::os("watch the DNS forwarder's socket", shown.clone(), error);
            let socket = UdpSocket::from_std(pair.udp).map_err(watch)?;
            let listener = TcpListener::from_std(pair.tcp).map_err(watch)?;
            let shared = running.shared.clone();
            running.tasks.push(tokio::spawn(udp::serve(socket, shared.clone())).abort_handle());
            running.tasks.push(tokio::spawn(tcp::serve(listener, shared)).abort_handle());
        }
        Ok(running)
    }
}

/// Answering. Stops when dropped.
#[derive(Debug)]
pub struct Running {
    listening: Vec<(IpAddr, u16)>,
    shared: Shared,
    tasks: Vec<AbortHandle>,
}

impl Running {
    /// As [`Forwarder::listening`].
    pub fn listening(&self) -> &[(IpAddr, u16)] {
        &self.listening
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.lock().clone()
    }

    /// The real resolvers behind the gateway, as they are now.
    pub fn resolvers(&self) -> Vec<SocketAddr> {
        self.shared.resolvers().addresses.clone()
    }

    /// The namespace's resolv.conf, anew: for when the host's search or options lines have changed.
    pub fn render(&self, gateway: IpAddr) -> Vec<u8> {
        let mut upstream = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        upstream.resolvers();
        upstream.render(gateway)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.in_flight.stop();
    }
}

/// What all listeners share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    upstream: Arc<Mutex<Upstream>>,
    pub(super) in_flight: InFlight,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn resolvers(&self) -> Arc<Resolvers> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).resolvers()
    }
}

/// A query takes one descriptor, seldom two or three. Half of what the process may have, so that the rest of netwatch is not starved.
fn in_flight_limit() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 2).unwrap_or(MAX_IN_FLIGHT).clamp(64, MAX_IN_FLIGHT)
}
