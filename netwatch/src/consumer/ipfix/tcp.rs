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

use super::transport::{FlowMessage, MessageTransport, QueueCounts, SendOutcome};
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
    /// What became of queued messages.
    counts: QueueCounts,
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
            counts: QueueCounts::default(),
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
                self.counts.sent_messages += 1;
                self.counts.sent_flows += first.flows;
                self.queue.pop_front();
                self.sent_of_first = 0;
            }
        }
        Ok(())
    }

    /// Drops what waits, which belongs to a session that has ended.
    fn fail(&mut self, reason: &'static str) {
        let mut flows = 0;
        for message in self.queue.drain(..) {
            flows += message.flows;
            self.counts.dropped_packets += message.packets;
            self.counts.dropped_octets += message.octets;
        }
        self.counts.dropped_flows += flows;
        self.queued_bytes = 0;
        self.sent_of_first = 0;
        if flows > 0 {
            self.discards.add(reason, flows);
        }
        self.wait();
    }

    /// Why messages wait.
    fn delay_reason(&self) -> &'static str {
        if matches!(self.state, ConnectionState::Connected(_)) { QUEUE_FULL } else { NOT_CONNECTED }
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
            // The next connection begins with templates and another sequence number.
            if matches!(self.state, ConnectionState::Waiting(_)) {
                return Ok(SendOutcome::Dropped(NOT_CONNECTED));
            }
        }
        if self.queued_bytes + message.bytes.len() > MAX_QUEUED_BYTES {
            return Ok(SendOutcome::Dropped(self.delay_reason()));
        }
        self.queued_bytes += message.bytes.len();
        self.queue.push_back(message);
        self.advance();
        Ok(SendOutcome::Queued)
    }

    fn take_counts(&mut self) -> QueueCounts {
        std::mem::take(&mut self.counts)
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
            self.fail(self.delay_reason());
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A connection that no message can be written to.
    fn broken() -> (TcpTransport, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).expect("connected");
        stream.shutdown(std::net::Shutdown::Write).expect("shut down");
        let mut transport = TcpTransport::new(address, Arc::new(Discards::new("records".to_owned())));
        transport.state = ConnectionState::Connected(stream);
        (transport, listener)
    }

    fn message(bytes: usize, flows: u64) -> FlowMessage {
        FlowMessage { bytes: vec![0; bytes], flows, packets: 2 * flows, octets: 200 * flows }
    }

    #[test]
    fn no_message_waits_for_the_next_connection() {
        let (mut transport, _listener) = broken();
        let full = message(MAX_QUEUED_BYTES, 3);
        transport.queued_bytes = full.bytes.len();
        transport.queue.push_back(full);
        assert_eq!(transport.send(message(100, 1)).expect("no error"), SendOutcome::Dropped(NOT_CONNECTED));
        assert!(transport.queue.is_empty() && matches!(transport.state, ConnectionState::Waiting(_)));
        let counts =
            QueueCounts { dropped_flows: 3, dropped_packets: 6, dropped_octets: 600, ..QueueCounts::default() };
        assert_eq!(transport.take_counts(), counts, "the outcome is that of the last message");
        assert_eq!(transport.take_counts(), QueueCounts::default());
    }

    #[test]
    fn a_queued_message_that_is_dropped_was_not_sent() {
        let (mut transport, _listener) = broken();
        assert_eq!(transport.send(message(100, 1)).expect("no error"), SendOutcome::Queued);
        let counts = transport.take_counts();
        assert_eq!((counts.sent_messages, counts.sent_flows, counts.dropped_flows), (0, 0, 1));
    }

    #[test]
    fn a_collector_that_never_connected_did_not_read_too_slowly() {
        let (mut transport, _listener) = broken();
        assert_eq!(transport.delay_reason(), QUEUE_FULL);
        let ConnectionState::Connected(stream) =
            std::mem::replace(&mut transport.state, ConnectionState::Waiting(Instant::now()))
        else {
            panic!("connected")
        };
        transport.state = ConnectionState::Connecting(stream);
        assert_eq!(transport.delay_reason(), NOT_CONNECTED);
    }
}
