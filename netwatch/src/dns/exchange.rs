//! One query, one resolver, one answer: by UDP or by TCP, as the client asked. Without a deadline; whoever waits has one.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};

use super::message::Query;

/// The largest DNS message, bytes; no UDP datagram is larger either.
const LARGEST: usize = u16::MAX as usize;

thread_local! {
    /// One for all queries in flight: 64 KiB for each of them would be 32 MiB.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST].into_boxed_slice());
}

/// How a query came, and so how it is forwarded: a client that turned to TCP wants what does not fit into UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

pub(super) async fn exchange(transport: Transport, resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => by_udp(resolver, query).await,
        Transport::Tcp => by_tcp(resolver, query).await,
    }
}

/// A socket for this query alone: the kernel picks a random source port, and being connected it hears only the resolver, and its ICMP
/// errors. With the id and the question that is what RFC 5452 asks of a resolver against forged answers.
async fn by_udp(resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(query.bytes()).await?;
    loop {
        heard(&socket).await?;
        match receive(&socket) {
            Ok(answer) if query.is_answered_by(&answer) => return Ok(answer),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Something has come in, or an ICMP error has. The latter is EPOLLERR without EPOLLIN, for which `readable` does not wake.
async fn heard(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if ready.is_error() {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        // Nothing there: clear the readiness, or this would spin.
        let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
}

fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let length = socket.try_recv(scratch)?;
        Ok(scratch[..length].to_vec())
    })
}

/// The same for the listening socket, which hears from many.
pub(super) fn receive_from(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    SCRATCH.with_borrow_mut(|scratch| {
        let (length, peer) = socket.try_recv_from(scratch)?;
        Ok((scratch[..length].to_vec(), peer))
    })
}

async fn by_tcp(resolver: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.write_all(&framed(query.bytes())).await?;
    loop {
        let answer = read_message(&mut stream).await?;
        if query.is_answered_by(&answer) {
            return Ok(answer);
        }
    }
}

/// One message behind its two bytes of length (RFC 1035 section 4.2.2).
pub(super) async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// The message with its length in front, for one write: two would become two segments.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    debug_assert!(message.len() <= LARGEST, "a message came in a datagram or behind a 16-bit length");
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}
