//! How messages reach a collector: datagrams, a connection, or a file. None of them waits for a
//! receiver, except for a moment at the end of a run.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid};

use super::tcp::TcpTransport;
use crate::consumer::Discards;
use crate::error::{Error, Result};
use crate::format::ipfix::MAX_MESSAGE_BYTES;
use crate::rights::as_user;

/// The port of IPFIX (RFC 7011).
const PORT: u16 = 4739;
/// Bytes of the largest datagram: the smallest MTU of IPv6 without its headers, so that no path
/// fragments it.
const MAX_DATAGRAM_BYTES: usize = 1280 - 40 - 8;
/// Datagrams without a pause: flows end in bursts, once a second, and the buffer of a collector's
/// socket has room for about 100.
const MAX_BURST: u32 = 16;
const BURST_PAUSE: Duration = Duration::from_millis(1);
/// How long the end waits for the answer of the collector's host to the last datagram, in
/// milliseconds. A collector that listens does not answer.
const LAST_ANSWER_MS: u16 = 50;
/// Why datagrams are lost that the collector's host answers by ICMP.
const REFUSED: &str = "refused by the collector's host";

/// Where flow records go, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpfixTarget {
    /// A host and a port, by UDP.
    Udp(String),
    /// A host and a port, by TCP.
    Tcp(String),
    /// A file.
    File(PathBuf),
}

impl IpfixTarget {
    /// `[udp:|tcp:]HOST[:PORT]` or `file:PATH`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let target = match kind {
            "file" => {
                return if rest.is_empty() {
                    Err("file: needs a PATH".to_owned())
                } else {
                    Ok(Self::File(rest.into()))
                };
            }
            "tcp" => Self::Tcp(with_port(rest)?),
            "udp" => Self::Udp(with_port(rest)?),
            _ => Self::Udp(with_port(text)?),
        };
        Ok(target)
    }
}

impl fmt::Display for IpfixTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Tcp(place) => write!(f, "tcp:{place}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Adds the port of IPFIX if there is none.
fn with_port(place: &str) -> std::result::Result<String, String> {
    let invalid = || "expected [udp:|tcp:]HOST[:PORT] or file:PATH".to_owned();
    let is_v6 = place.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match place.rsplit_once(':') {
        _ if is_v6 => return Ok(format!("[{place}]:{PORT}")),
        Some((host, port)) if !place.ends_with(']') => (host, port.parse::<u16>().map_err(|_| invalid())?),
        _ => (place, PORT),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || port == 0 || (host.contains(':') && !is_bracketed) || host.contains(['/', ' ']) {
        return Err(invalid());
    }
    Ok(format!("{host}:{port}"))
}

/// A destination that was found and opened before the run starts.
#[derive(Debug)]
pub struct IpfixDestination {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Udp(UdpSocket),
    Tcp(SocketAddr),
    File(File),
}

impl IpfixDestination {
    /// Resolves the host, or creates the file with the rights of its owner.
    pub fn open(target: &IpfixTarget, owner: (Uid, Gid)) -> Result<Self> {
        let name = target.to_string();
        let failed = |error| Error::os("export flows to", name.clone(), error);
        let kind = match target {
            IpfixTarget::Udp(place) => Kind::Udp(udp_socket(resolve(place, &name)?).map_err(failed)?),
            IpfixTarget::Tcp(place) => Kind::Tcp(resolve(place, &name)?),
            IpfixTarget::File(path) => {
                let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                let file = as_user(owner, create).map_err(failed);
                Kind::File(file.map_err(|error| error.hint("choose another file: an existing one is not replaced"))?)
            }
        };
        Ok(Self { name, kind })
    }

    /// As it is written.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn transport(self, discards: Arc<Discards>) -> Box<dyn MessageTransport> {
        match self.kind {
            Kind::Udp(socket) => Box::new(UdpTransport { socket, last_flows: 0, burst: 0, discards }),
            Kind::Tcp(address) => Box::new(TcpTransport::new(address, discards)),
            Kind::File(file) => Box::new(FileTransport { name: self.name, file: io::BufWriter::new(file) }),
        }
    }
}

fn resolve(place: &str, name: &str) -> Result<SocketAddr> {
    let mut found = place.to_socket_addrs().map_err(|error| Error::other("find", name, error.to_string()))?;
    found.next().ok_or_else(|| Error::other("find", name, "the host has no address"))
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A message, and the flows in it.
#[derive(Debug, Default)]
pub(super) struct FlowMessage {
    pub bytes: Vec<u8>,
    pub flows: u64,
    pub packets: u64,
    pub octets: u64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// It was sent.
    Sent,
    /// It waits, and is part of [`QueueCounts`] later.
    Queued,
    /// It was dropped, for this reason.
    Dropped(&'static str),
}

/// What became of messages that waited.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueCounts {
    /// Messages that were sent, and the flows in them.
    pub sent_messages: u64,
    pub sent_flows: u64,
    /// Flows that were dropped, with their packets and octets.
    pub dropped_flows: u64,
    pub dropped_packets: u64,
    pub dropped_octets: u64,
}

/// A way to a collector.
pub(super) trait MessageTransport: fmt::Debug + Send {
    /// Bytes of the largest message.
    fn max_message_bytes(&self) -> usize;

    /// The number of the transport session. Another one lacks the templates.
    fn session(&self) -> u64 {
        0
    }

    /// Whether templates can get lost.
    fn needs_refresh(&self) -> bool {
        false
    }

    /// Sends a message, or drops it. Only errors of a file are errors.
    fn send(&mut self, message: FlowMessage) -> Result<SendOutcome>;

    /// Takes what became of queued messages since the last call.
    fn take_counts(&mut self) -> QueueCounts {
        QueueCounts::default()
    }

    /// Connects, or sends what waits, without waiting itself.
    fn poll(&mut self) {}

    /// Sends what waits.
    fn finish(&mut self) -> Result<()>;
}

#[derive(Debug)]
struct UdpTransport {
    socket: UdpSocket,
    /// Flows of the message before, which an error of the next one concerns.
    last_flows: u64,
    /// Datagrams since the last pause.
    burst: u32,
    discards: Arc<Discards>,
}

impl UdpTransport {
    /// The answer to the datagram before, which was sent: only the note counts its flows.
    fn was_refused(&mut self) {
        self.discards.add(REFUSED, std::mem::take(&mut self.last_flows));
    }

    /// Waits for the answer to the last datagram.
    fn wait_for_refusal(&mut self) {
        if self.last_flows == 0 {
            return;
        }
        // Without events of interest, only an error ends the wait.
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        while poll(&mut ready, PollTimeout::from(LAST_ANSWER_MS)) == Err(Errno::EINTR) {}
        let error = self.socket.take_error().ok().flatten();
        if error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            self.was_refused();
        }
    }
}

impl MessageTransport for UdpTransport {
    fn max_message_bytes(&self) -> usize {
        MAX_DATAGRAM_BYTES
    }

    fn needs_refresh(&self) -> bool {
        true
    }

    fn send(&mut self, message: FlowMessage) -> Result<SendOutcome> {
        self.burst += 1;
        if self.burst > MAX_BURST {
            thread::sleep(BURST_PAUSE);
            self.burst = 0;
        }
        let mut sent = self.socket.send(&message.bytes);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            self.was_refused();
            sent = self.socket.send(&message.bytes);
        }
        Ok(match sent {
            Ok(_) => {
                self.last_flows = message.flows;
                SendOutcome::Sent
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SendOutcome::Dropped("beyond the send buffer"),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => SendOutcome::Dropped(REFUSED),
            Err(_) => SendOutcome::Dropped("that the host could not send"),
        })
    }

    fn finish(&mut self) -> Result<()> {
        self.wait_for_refusal();
        Ok(())
    }
}

/// A file of messages (RFC 5655).
#[derive(Debug)]
struct FileTransport {
    name: String,
    file: io::BufWriter<File>,
}

impl FileTransport {
    fn checked<T>(&self, done: io::Result<T>) -> Result<T> {
        done.map_err(|error| Error::os("export flows to", self.name.clone(), error))
    }
}

impl MessageTransport for FileTransport {
    fn max_message_bytes(&self) -> usize {
        MAX_MESSAGE_BYTES
    }

    fn send(&mut self, message: FlowMessage) -> Result<SendOutcome> {
        let written = self.file.write_all(&message.bytes);
        self.checked(written).map(|()| SendOutcome::Sent)
    }

    fn finish(&mut self) -> Result<()> {
        let written = self.file.flush();
        self.checked(written)
    }
}
