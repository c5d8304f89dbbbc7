//! Sends by less common system calls. Exits with 0 when everything succeeded.
//!
//! ```text
//! senders sendmmsg ADDRESS COUNT SIZE   sends datagrams by one call, waits for all echoes
//! senders spray ADDRESS COUNT           sends a datagram to each of COUNT ports from this one on
//! senders sendfile ADDRESS BYTES        connects and sends a file
//! senders splice ADDRESS BYTES          connects and sends from a pipe
//! senders io_uring ADDRESS BYTES        connects and sends by a ring, inline in its calls
//! senders io_uring-workers …            the same by the worker threads of the ring
//! senders io_uring-polled …             the same by the polling thread of the ring
//! ```

mod uring;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrStorage, sendmmsg, socket};
use nix::unistd::{pipe, write};
use uring::ExecutionMode;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are written to the pipe at a time.
const CHUNK: usize = 4096;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sendmmsg", to, count, size] => datagrams(address(to), number(count), number(size)),
        ["spray", to, count] => spray(address(to), number(count)),
        ["sendfile", to, bytes] => file(address(to), number(bytes)),
        ["splice", to, bytes] => piped(address(to), number(bytes)),
        ["io_uring", to, bytes] => uring::send(ExecutionMode::Inline, address(to), number(bytes)),
        ["io_uring-workers", to, bytes] => uring::send(ExecutionMode::Workers, address(to), number(bytes)),
        ["io_uring-polled", to, bytes] => uring::send(ExecutionMode::Polled, address(to), number(bytes)),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "unknown sender")),
    }
}

fn datagrams(to: SocketAddr, count: usize, size: usize) -> io::Result<()> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let datagram = vec![b'u'; size];
    let slices = vec![[io::IoSlice::new(&datagram)]; count];
    let addresses = vec![Some(SockaddrStorage::from(to)); count];
    let mut headers = MultiHeaders::preallocate(count, None);
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, [], MsgFlags::empty())?;
    assert_eq!(sent.count(), count, "all of them at once");
    let mut answer = vec![0; 65_536];
    (0..count).try_for_each(|_| socket.recv(&mut answer).map(|length| assert_eq!(length, size)))
}

fn spray(to: SocketAddr, count: usize) -> io::Result<()> {
    // Unbound: the kernel assigns its port with the first datagram.
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = UdpSocket::from(socket(family, SockType::Datagram, SockFlag::empty(), None)?);
    (0..count).try_for_each(|at| socket.send_to(b"x", (to.ip(), to.port() + at as u16)).map(drop))
}

fn file(to: SocketAddr, bytes: usize) -> io::Result<()> {
    let mut file = File::from(memfd_create("file", MFdFlags::empty())?);
    file.write_all(&vec![b'f'; bytes])?;
    file.rewind()?;
    let stream = connect(to)?;
    let mut sent = 0;
    while sent < bytes {
        sent += sendfile(&stream, &file, None, bytes - sent)?;
    }
    finish(stream)
}

fn piped(to: SocketAddr, bytes: usize) -> io::Result<()> {
    let (out, into): (OwnedFd, OwnedFd) = pipe()?;
    let stream = connect(to)?;
    let mut sent = 0;
    while sent < bytes {
        let wanted = CHUNK.min(bytes - sent);
        let mut there = write(&into, &[b'p'; CHUNK][..wanted])?;
        sent += there;
        while there > 0 {
            there -= splice(&out, None, &stream, None, there, SpliceFFlags::empty())?;
        }
    }
    finish(stream)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT)).map(|()| stream)
}

/// Waits until the other end has received everything and closes.
fn finish(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
