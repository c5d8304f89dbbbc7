//! A connection to a collector that is never waited for: messages wait in a bounded queue, and are
//! dropped when it is full.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};

use super::transport::{FlowMessage, MessageTransport, SendOutcome};
use crate::consumer::Discards;
use crate::error::Result;

/// Bytes of the largest message: what a few packets carry, so that the end of a connection costs
/// few records.
const MAX_TCP_MESSAGE_BYTES: usize = 8192;
/// Bytes that wait for the collector.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// Pauses between attempts to connect: the first, and the longest.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// At the end of the run, a collector that reads nothing for this time is left behind.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(1);

const NOT_CONNECTED: &str = "while the collector was not connected";
const QUEUE_FULL: &str = "because the collector read too slowly";

#[derive(Debug)]
pub(super) struct TcpTransport {
    address: SocketAddr,
    state: ConnectionState,
    /// The number of attempts to connect, each of which is a transport session.
    session: u64,
    pause: Duration,
    queue: VecDeque<FlowMessage>,
    queued_bytes: usize,
    /// Bytes of the first message that were sent.
    sent_of_first: usize,
    discards: Arc<Discards>,
}

#[derive(Debug)]
enum ConnectionState {
    /// Not before this time.
    Waiting(Instant),
    Connecting(TcpStream),
    Connected(TcpStream),
}

impl TcpTransport {
    pub(super) fn new(address: SocketAddr, discards: Arc<Discards>) -> Self {
        Self {
            address,
            state: ConnectionState::Waiting(Instant::now()),
            session: 0,
            pause: RETRY_PAUSES.0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_of_first: 0,
            discards,
        }
    }

    /// Moves the connection on: connects, or sends what fits into the socket.
    fn advance(&mut self) {
        if let ConnectionState::Waiting(until) = self.state
            && Instant::now() >= until
        {
            match begin_to_connect(self.address) {
                Ok(stream) => {
                    self.state = ConnectionState::Connecting(stream);
                    self.session += 1;
                }
                Err(_) => self.wait(),
            }
        }
        if let ConnectionState::Connecting(stream) = &self.state {
            match is_connected(stream) {
                Ok(false) => {}
                Ok(true) => {
                    let ConnectionState::Connecting(stream) =
                        std::mem::replace(&mut self.state, ConnectionState::Waiting(Instant::now()))
                    else {
                        return;
                    };
                    self.state = ConnectionState::Connected(stream);
                    self.pause = RETRY_PAUSES.0;
                }
                Err(_) => self.fail(NOT_CONNECTED),
            }
        }
        if self.write().is_err() {
            self.fail("when the connection to the collector broke");
        }
    }

    /// Sends what fits into the socket.
    fn write(&mut self) -> io::Result<()> {
        let ConnectionState::Connected(stream) = &mut self.state else { return Ok(()) };
        while let Some(first) = self.queue.front() {
            match stream.write(&first.bytes[self.sent_of_first..]) {
                Ok(length) => {
                    self.sent_of_first += length;
                    self.queued_bytes -= length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.sent_of_first == first.bytes.len() {
                self.queue.pop_front();
                self.sent_of_first = 0;
            }
        }
        Ok(())
    }

    /// Drops what waits, which belongs to a session that has ended.
    fn fail(&mut self, reason: &'static str) {
        let flows = self.queue.drain(..).map(|message| message.flows).sum();
        self.queued_bytes = 0;
        self.sent_of_first = 0;
        if flows > 0 {
            self.discards.add(reason, flows);
        }
        self.wait();
    }

    fn wait(&mut self) {
        self.state = ConnectionState::Waiting(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RETRY_PAUSES.1);
    }

    /// Waits until the socket has room, or the connection is open. Returns whether it did.
    fn wait_for_room(&self) -> bool {
        let (ConnectionState::Connecting(stream) | ConnectionState::Connected(stream)) = &self.state else {
            return false;
        };
        let timeout = PollTimeout::try_from(PROGRESS_TIMEOUT).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], timeout) {
                Err(Errno::EINTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

impl MessageTransport for TcpTransport {
    fn max_message_bytes(&self) -> usize {
        MAX_TCP_MESSAGE_BYTES
    }

    fn session(&self) -> u64 {
        self.session
    }

    fn send(&mut self, message: FlowMessage) -> Result<SendOutcome> {
        if matches!(self.state, ConnectionState::Waiting(_)) {
            return Ok(SendOutcome::Dropped(NOT_CONNECTED));
        }
        if self.queued_bytes + message.bytes.len() > MAX_QUEUED_BYTES {
            self.advance();
        }
        if self.queued_bytes + message.bytes.len() > MAX_QUEUED_BYTES {
            return Ok(SendOutcome::Dropped(QUEUE_FULL));
        }
        self.queued_bytes += message.bytes.len();
        self.queue.push_back(message);
        self.advance();
        Ok(SendOutcome::Done)
    }

    fn poll(&mut self) {
        self.advance();
    }

    fn finish(&mut self) -> Result<()> {
        self.advance();
        while !self.queue.is_empty() && self.wait_for_room() {
            self.advance();
        }
        if !self.queue.is_empty() {
            self.fail(QUEUE_FULL);
        }
        Ok(())
    }
}

/// Starts a connection without waiting for it.
fn begin_to_connect(address: SocketAddr) -> nix::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let created: OwnedFd = socket::socket(family, SockType::Stream, flags, None)?;
    match socket::connect(created.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(created.into()),
        Err(errno) => Err(errno),
    }
}

/// Whether the connection is open; an error if it was refused.
fn is_connected(stream: &TcpStream) -> nix::Result<bool> {
    let mut ready = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO)? == 0 {
        return Ok(false);
    }
    match socket::getsockopt(stream, sockopt::SocketError)? {
        0 => Ok(true),
        errno => Err(Errno::from_raw(errno)),
    }
}
