//! One query to one resolver, by UDP or by TCP as the client sent it. There is no timeout here; the
//! caller has one.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::coop::consume_budget;

use super::message::Query;

/// Maximum size of a DNS message, bytes; no UDP datagram is larger either.
const MAX_MESSAGE: usize = u16::MAX as usize;

thread_local! {
    /// ForwarderState by all queries in flight: 64 KiB for each of them would be 64 MiB.
    static RECEIVE_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_MESSAGE].into_boxed_slice());
}

/// How a query arrived, and therefore how it is forwarded: a client that uses TCP expects a
/// response that does not fit into UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

pub(super) async fn exchange(transport: Transport, resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => exchange_udp(resolver, query).await,
        Transport::Tcp => exchange_tcp(resolver, query).await,
    }
}

/// Uses a socket for this query alone: the kernel picks a random source port, and because the
/// socket is connected it receives only datagrams and ICMP errors of the resolver. With the id and
/// the question, that is what RFC 5452 requires of a resolver against forged responses.
async fn exchange_udp(resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(query.bytes()).await?;
    loop {
        // Without it, a resolver that keeps sending datagrams would keep this task from yielding.
        consume_budget().await;
        readable_or_error(&socket).await?;
        match receive(&socket) {
            Ok(response) if query.is_answered_by(&response) => return Ok(response),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits for a datagram or an ICMP error. The latter is EPOLLERR without EPOLLIN, for which
/// `readable` does not return.
async fn readable_or_error(socket: &UdpSocket) -> io::Result<()> {
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

fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
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
    let mut message = vec![0; usize::from(length)];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// The message with its length in front, for a single write: two would become two segments.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    debug_assert!(message.len() <= MAX_MESSAGE, "a message arrives in a datagram or after a 16-bit length");
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}
