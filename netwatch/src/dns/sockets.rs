//! The UDP sockets toward the resolvers. Each query has its own socket, so the kernel chooses a
//! random source port for it. When many are open, further queries share them, because the limit of
//! open files must not limit the queries.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::task::coop::consume_budget;

use super::exchange::{readable_or_error, receive};
use super::message::Query;

/// Maximum number of attempts to find an id that no other query on the socket uses.
const MAX_ID_ATTEMPTS: usize = 64;

/// The open sockets. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ResolverSockets {
    open: Arc<Mutex<HashMap<SocketAddr, Vec<Arc<SharedSocket>>>>>,
    limit: usize,
}

/// A socket that is connected to one resolver, so it receives only that resolver's datagrams and
/// ICMP errors. Together with the checks of port, id and question, this is what RFC 5452 requires
/// against forged responses.
#[derive(Debug)]
struct SharedSocket {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u16, WaitingQuery>>,
    /// Aborts the task that receives.
    receiver: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct WaitingQuery {
    query: Arc<Query>,
    response: oneshot::Sender<io::Result<Vec<u8>>>,
}

/// A query that waits on a socket. Dropping the last one closes the socket.
struct Waiter {
    sockets: ResolverSockets,
    resolver: SocketAddr,
    socket: Arc<SharedSocket>,
    id: u16,
}

impl ResolverSockets {
    /// Opens at most `limit` sockets, but at least one for each resolver.
    pub(super) fn new(limit: usize) -> Self {
        Self { open: Arc::default(), limit }
    }

    /// Sends the query to the resolver; returns its response, with the id that the client chose.
    pub(super) async fn exchange(&self, resolver: SocketAddr, query: Arc<Query>) -> io::Result<Vec<u8>> {
        let (sender, response) = oneshot::channel();
        let message = query.bytes().to_vec();
        let waiter = self.join(resolver, WaitingQuery { query, response: sender })?;
        waiter.send(message).await?;
        response.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Finds or opens a socket, and adds the query to those that wait on it.
    fn join(&self, resolver: SocketAddr, waiting: WaitingQuery) -> io::Result<Waiter> {
        let mut open = self.lock();
        let total: usize = open.values().map(Vec::len).sum();
        let sockets = open.entry(resolver).or_default();
        let socket = match sockets.get(random_u16()? as usize % sockets.len().max(1)) {
            Some(socket) if total >= self.limit => Arc::clone(socket),
            _ => {
                let socket = SharedSocket::connect(resolver)?;
                sockets.push(Arc::clone(&socket));
                socket
            }
        };
        let id = socket.insert(waiting)?;
        drop(open);
        Ok(Waiter { sockets: self.clone(), resolver, socket, id })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Arc<SharedSocket>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    async fn send(&self, mut message: Vec<u8>) -> io::Result<()> {
        message[..2].copy_from_slice(&self.id.to_be_bytes());
        self.socket.socket.send(&message).await.map(drop)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut open = self.sockets.lock();
        let mut waiting = self.socket.waiting();
        waiting.remove(&self.id);
        if !waiting.is_empty() {
            return;
        }
        if let Entry::Occupied(mut sockets) = open.entry(self.resolver) {
            sockets.get_mut().retain(|socket| !Arc::ptr_eq(socket, &self.socket));
            if sockets.get().is_empty() {
                sockets.remove();
            }
        }
        if let Some(receiver) = self.socket.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() {
            receiver.abort();
        }
    }
}

impl SharedSocket {
    /// Opens a socket and starts the task that receives on it.
    fn connect(resolver: SocketAddr) -> io::Result<Arc<Self>> {
        let any: SocketAddr = match resolver {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(resolver)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let shared = Arc::new(Self { socket, waiting: Mutex::default(), receiver: Mutex::default() });
        let task = tokio::spawn(Arc::clone(&shared).receive());
        *shared.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(shared)
    }

    /// Adds a query under an id that no other one on this socket has.
    fn insert(&self, query: WaitingQuery) -> io::Result<u16> {
        let mut waiting = self.waiting();
        for _ in 0..MAX_ID_ATTEMPTS {
            let id = random_u16()?;
            if let Entry::Vacant(free) = waiting.entry(id) {
                free.insert(query);
                return Ok(id);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Passes responses to the queries, until the last of these aborts the task.
    async fn receive(self: Arc<Self>) {
        loop {
            // Otherwise a resolver that keeps sending datagrams would prevent this task from
            // yielding.
            consume_budget().await;
            let received = match readable_or_error(&self.socket).await {
                Ok(()) => receive(&self.socket),
                Err(error) => Err(error),
            };
            match received {
                Ok(response) => self.deliver(response),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Passes a response to its query. A datagram that answers no waiting query is late or forged,
    /// and ignored.
    fn deliver(&self, mut response: Vec<u8>) {
        let Some(id) = response.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else { return };
        let mut waiting = self.waiting();
        let Entry::Occupied(found) = waiting.entry(id) else { return };
        response[..2].copy_from_slice(&found.get().query.bytes()[..2]);
        if found.get().query.is_answered_by(&response) {
            // The receiver is gone if the query was given up meanwhile.
            let _ = found.remove().response.send(Ok(response));
        }
    }

    /// Ends all queries on the socket: an ICMP error or an error of the socket concerns all of
    /// them.
    fn fail(&self, error: &io::Error) {
        for (_, query) in self.waiting().drain() {
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            let _ = query.response.send(Err(copy));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u16, WaitingQuery>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_u16() -> io::Result<u16> {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: u16) -> Arc<Query> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend_from_slice(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x00\x00\x01\x00\x01");
        Arc::new(Query::parse(message).unwrap())
    }

    /// A resolver on the loopback that answers `queries` queries once all of them have arrived.
    async fn resolver(queries: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20)).unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut received = Vec::new();
            let mut buffer = [0; 512];
            while received.len() < queries {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                received.push((buffer[..length].to_vec(), client));
            }
            for (mut message, client) in received {
                message[2] |= 0x80;
                socket.send_to(&message, client).await.unwrap();
            }
        });
        at
    }

    #[tokio::test]
    async fn many_queries_share_few_sockets_and_the_last_closes_them() {
        let sockets = ResolverSockets::new(4);
        let resolver = resolver(100).await;
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let sockets = sockets.clone();
                // All with the same id: clients choose theirs independently.
                tokio::spawn(async move { sockets.exchange(resolver, query(7)).await })
            })
            .collect();
        let mut most = 0;
        for task in tasks {
            most = most.max(sockets.lock().values().map(Vec::len).sum::<usize>());
            assert_eq!(task.await.unwrap().unwrap()[..2], [0, 7]);
        }
        assert!(most <= 4, "{most}");
        assert!(sockets.lock().is_empty());
    }

    #[tokio::test]
    async fn a_query_that_is_given_up_frees_its_socket() {
        let sockets = ResolverSockets::new(4);
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = silent.local_addr().unwrap();
        let mut exchange = Box::pin(sockets.exchange(resolver, query(1)));
        let mut buffer = [0; 512];
        tokio::select! {
            biased;
            response = &mut exchange => panic!("{response:?}"),
            received = silent.recv(&mut buffer) => assert!(received.is_ok()),
        }
        assert_eq!(sockets.lock().len(), 1);
        drop(exchange);
        assert!(sockets.lock().is_empty());
    }

    #[tokio::test]
    async fn a_closed_port_fails_the_query() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = ResolverSockets::new(4).exchange(closed, query(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
