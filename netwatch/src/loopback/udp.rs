//! Datagrams to the UDP services. Each client has its own socket toward the host, by which its
//! replies are assigned to it, until it is idle.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout};

use super::thread::ProxyShared;
use crate::report::HostService;

/// A client without a datagram in either direction for this long loses its socket; as long as
/// netfilter keeps the entry of a UDP stream.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Maximum number of datagrams to read before other tasks run.
const MAX_BATCH: usize = 64;

/// Pause after an error of a socket, so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Room for the largest datagram.
const MAX_DATAGRAM: usize = 65_536;

/// A service and a client of it.
type ClientKey = (HostService, SocketAddr);

/// The clients of all services.
#[derive(Debug)]
pub(super) struct UdpClients {
    by_key: Mutex<HashMap<ClientKey, UdpClient>>,
    limit: usize,
}

#[derive(Debug)]
struct UdpClient {
    /// Toward the host.
    socket: Arc<UdpSocket>,
    last_used: Instant,
    /// Passes on the answers.
    answers: AbortHandle,
}

impl UdpClients {
    pub(super) fn new(limit: usize) -> Self {
        Self { by_key: Mutex::default(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, UdpClient>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket of a client, if it has one. Records that the client is in use.
    fn find(&self, key: &ClientKey) -> Option<Arc<UdpSocket>> {
        let mut by_key = self.lock();
        let client = by_key.get_mut(key)?;
        client.last_used = Instant::now();
        Some(Arc::clone(&client.socket))
    }

    /// Adds a client. Returns whether another one was evicted for it.
    fn add(&self, key: ClientKey, client: UdpClient) -> bool {
        let mut by_key = self.lock();
        let is_full = by_key.len() >= self.limit;
        let oldest = by_key.iter().min_by_key(|(_, client)| client.last_used).map(|(key, _)| *key);
        if let Some(evicted) = oldest.filter(|_| is_full).and_then(|oldest| by_key.remove(&oldest)) {
            evicted.answers.abort();
        }
        by_key.insert(key, client);
        is_full
    }

    /// Removes a client if it is idle. Returns whether it was.
    fn remove_if_idle(&self, key: &ClientKey) -> bool {
        let mut by_key = self.lock();
        let is_idle = by_key.get(key).is_none_or(|client| client.last_used.elapsed() >= IDLE_TIMEOUT);
        if is_idle {
            by_key.remove(key);
        }
        is_idle
    }
}

/// Serves a socket until the run ends and nothing is left to read.
pub(super) async fn serve(socket: UdpSocket, service: HostService, proxy: ProxyShared) {
    let socket = Arc::new(socket);
    let mut ending = pin!(proxy.ending());
    loop {
        let ready = tokio::select! {
            biased;
            ready = socket.readable() => ready,
            () = &mut ending => return,
        };
        if ready.and_then(|()| read_batch(&socket, service, &proxy)).is_err() {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        // The socket's readiness alone never makes this task yield.
        yield_now().await;
    }
}

/// Passes on what has arrived. Datagrams beyond [`MAX_BATCH`] wait in the buffer of the socket.
fn read_batch(socket: &Arc<UdpSocket>, service: HostService, proxy: &ProxyShared) -> io::Result<()> {
    let mut buffer = [0; MAX_DATAGRAM];
    for _ in 0..MAX_BATCH {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, client)) => pass_on(&buffer[..length], (service, client), socket, proxy),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a datagram to the service. One that cannot be sent is dropped, as by a full socket buffer.
fn pass_on(datagram: &[u8], key: ClientKey, socket: &Arc<UdpSocket>, proxy: &ProxyShared) {
    let client = match proxy.clients.find(&key) {
        Some(client) => Ok(client),
        None => add_client(key, socket, proxy),
    };
    let send_once = |client: &UdpSocket| send(client.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT);
    let sent = client.is_ok_and(|client| match send_once(&client) {
        // The error is that of an earlier datagram.
        Err(Errno::ECONNREFUSED) => {
            proxy.counts.drop_datagram();
            send_once(&client).is_ok()
        }
        sent => sent.is_ok(),
    });
    if !sent {
        proxy.counts.drop_datagram();
    }
}

fn add_client(key: ClientKey, socket: &Arc<UdpSocket>, proxy: &ProxyShared) -> io::Result<Arc<UdpSocket>> {
    let host = Arc::new(connect(key.0.address)?);
    let answers = pass_on_answers(Arc::clone(&host), Arc::clone(socket), key, proxy.clone());
    let answers = tokio::spawn(answers).abort_handle();
    let client = UdpClient { socket: Arc::clone(&host), last_used: Instant::now(), answers };
    if proxy.clients.add(key, client) {
        proxy.counts.evict_client();
    }
    Ok(host)
}

/// A socket of the host that exchanges datagrams with the service only.
fn connect(service: SocketAddr) -> io::Result<UdpSocket> {
    let any = if service.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(service)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Passes on the answers to a client until it is idle.
async fn pass_on_answers(host: Arc<UdpSocket>, socket: Arc<UdpSocket>, key: ClientKey, proxy: ProxyShared) {
    loop {
        match timeout(IDLE_TIMEOUT, host.ready(Interest::READABLE | Interest::ERROR)).await {
            Ok(Ok(ready)) => {
                if ready.is_error() {
                    take_refusal(&host, &proxy);
                }
                answer(&host, &socket, &key, &proxy);
                yield_now().await;
            }
            Ok(Err(_)) => tokio::time::sleep(ERROR_PAUSE).await,
            Err(_) if proxy.clients.remove_if_idle(&key) => return,
            Err(_) => {}
        }
    }
}

/// The service refused an earlier datagram. Reading the error clears it, so it is counted once.
fn take_refusal(host: &UdpSocket, proxy: &ProxyShared) {
    // Returns WouldBlock, which clears the readiness: the next error is a new event.
    let _ = host.try_io(Interest::ERROR, || {
        if matches!(host.take_error(), Ok(Some(_))) {
            proxy.counts.drop_datagram();
        }
        Err::<(), _>(io::ErrorKind::WouldBlock.into())
    });
}

fn answer(host: &UdpSocket, socket: &UdpSocket, key: &ClientKey, proxy: &ProxyShared) {
    let mut buffer = [0; MAX_DATAGRAM];
    for _ in 0..MAX_BATCH {
        let length = match host.try_recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return proxy.counts.drop_datagram(),
        };
        // Records that the client is in use.
        let _ = proxy.clients.find(key);
        if socket.try_send_to(&buffer[..length], key.1).is_err() {
            proxy.counts.drop_datagram();
        }
    }
}
