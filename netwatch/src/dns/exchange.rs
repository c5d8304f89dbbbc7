//! One query to one resolver, by UDP or by TCP as the client sent it. The timeout is that of the
//! caller.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::message::Query;
use super::sockets::ResolverSockets;

/// Maximum size of a DNS message, bytes; no UDP datagram is larger either.
const MAX_MESSAGE: usize = u16::MAX as usize;

thread_local! {
    /// Shared by all queries in flight: 64 KiB for each of them would be hundreds of MiB.
    static RECEIVE_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_MESSAGE].into_boxed_slice());
}

/// How a query arrived, and therefore how it is forwarded: a client that uses TCP expects a
/// response that does not fit into UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The sockets and connections to the resolvers, which all queries share.
#[derive(Debug, Clone)]
pub(super) struct Exchanges {
    sockets: ResolverSockets,
    connections: Arc<Semaphore>,
}

impl Exchanges {
    /// Opens at most `sockets` UDP sockets and `connections` TCP connections at a time.
    pub(super) fn new(sockets: usize, connections: usize) -> Self {
        Self { sockets: ResolverSockets::new(sockets), connections: Arc::new(Semaphore::new(connections)) }
    }

    pub(super) async fn exchange(
        &self,
        transport: Transport,
        resolver: SocketAddr,
        query: Arc<Query>,
    ) -> io::Result<Vec<u8>> {
        match transport {
            Transport::Udp => self.sockets.exchange(resolver, query).await,
            Transport::Tcp => {
                // Never closed; a query waits here no longer than its caller does.
                let _permit = self.connections.acquire().await;
                exchange_tcp(resolver, &query).await
            }
        }
    }
}

/// Waits for a datagram or an ICMP error. The latter is EPOLLERR without EPOLLIN, for which
/// `readable` does not return.
pub(super) async fn readable_or_error(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if ready.is_error() {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        // No error pending: clear the readiness, or the caller's loop would spin.
        let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
}

pub(super) fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    RECEIVE_BUFFER.with_borrow_mut(|buffer| {
        let length = socket.try_recv(buffer)?;
        Ok(buffer[..length].to_vec())
    })
}

/// As [`receive`], with the sender's address, for a listening socket.
pub(super) fn receive_from(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    RECEIVE_BUFFER.with_borrow_mut(|buffer| {
        let (length, peer) = socket.try_recv_from(buffer)?;
        Ok((buffer[..length].to_vec(), peer))
    })
}

async fn exchange_tcp(resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.write_all(&framed(query.bytes())).await?;
    loop {
        let response = read_message(&mut stream).await?;
        if query.is_answered_by(&response) {
            return Ok(response);
        }
    }
}

/// Reads one message and the two bytes of length before it (RFC 1035 section 4.2.2).
pub(super) async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let length = u64::from(length);
    // Grows as bytes arrive: a client that only announces a long message costs no memory.
    let mut message = Vec::new();
    if from.take(length).read_to_end(&mut message).await? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(message)
}

/// The message after its length, for a single write: two writes would become two segments.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    debug_assert!(message.len() <= MAX_MESSAGE, "a message arrives in a datagram or after a 16-bit length");
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}
