//! A synchronous netlink socket that sends many requests in one datagram. It has no model of links
//! or routes: the caller builds the messages.
//!
//! [`super::changes`] uses the asynchronous handle of the rtnetlink crate; this socket does not.
//! The kernel processes a request inside `sendmsg` and has queued every reply when that returns, so
//! there is nothing to wait for. A batch costs one system call instead of one wake-up per message.
//! And the guardian, which has no runtime, uses the same code. The message types are those of
//! rtnetlink.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket, SocketAddr};

use crate::error::{self, Error, Result};

const HEADER: usize = 16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// The dump was not atomic: something changed between two of its parts.
const DUMP_INTERRUPTED: u16 = 0x10;
/// The error message carries attributes (`NETLINK_EXT_ACK`).
const ACK_ATTRIBUTES: u16 = 0x200;
/// The attribute with the error text of the kernel.
const ACK_MESSAGE: u16 = 1;
/// A part of a dump is at most 32 KiB, a reply about one link a few KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The message type by which sock_diag lists sockets.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// IPv4 and IPv6, which sock_diag lists separately.
pub const SOCK_DIAG_FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// The body of a request to sock_diag, `struct inet_diag_req_v2`: family, protocol, extensions,
/// padding, states as a mask, and an identity of zeros, which matches all sockets.
pub fn sock_diag_request(family: u8, protocol: i32, states: u32) -> Vec<u8> {
    let mut body = vec![family, protocol as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend([0; 48]);
    body
}

/// A request to rtnetlink, with the operation and object for its error.
#[derive(Debug)]
pub struct NetlinkRequest {
    operation: &'static str,
    object: String,
    flags: u16,
    message: RouteNetlinkMessage,
}

impl NetlinkRequest {
    /// `operation` is a verb phrase and `object` its object, as in [`Error::os`].
    pub fn new(operation: &'static str, object: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self { operation, object: object.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Makes it a request to create something that must not exist yet.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.flags |= (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        self
    }

    fn error(&self, failure: NetlinkFailure) -> Error {
        let error = Error::os(self.operation, self.object.clone(), io::Error::from_raw_os_error(failure.errno));
        match failure.text {
            Some(text) => error.hint(format!("the kernel reports: {text}")),
            None if failure.errno == libc::EPERM => error.hint(error::needs("CAP_NET_ADMIN")),
            None => error,
        }
    }
}

/// The error of a request, and the error text of the kernel if there is one.
#[derive(Debug)]
struct NetlinkFailure {
    errno: i32,
    text: Option<String>,
}

/// A reply of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkReply {
    /// `nlmsg_type`.
    pub kind: u16,
    /// What follows the netlink header.
    pub payload: Vec<u8>,
}

/// A netlink socket. It belongs to the network namespace of the thread that opened it, even if
/// another thread uses it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens an rtnetlink socket in the calling thread's network namespace.
    pub fn route() -> Result<Self> {
        Self::open(NETLINK_ROUTE)
    }

    /// Opens a sock_diag socket in the calling thread's network namespace.
    pub fn sock_diag() -> Result<Self> {
        Self::open(NETLINK_SOCK_DIAG)
    }

    /// Opens a netfilter socket in the calling thread's network namespace.
    pub fn netfilter() -> Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> Result<Self> {
        let failed = |error| Error::os("open netlink socket", "", error);
        let socket = Socket::new(protocol).map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        // Both options only improve errors (Linux 4.3 and 4.12); older kernels work without them.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends all requests at once and collects their replies; the first failure is the error. The
    /// kernel does not stop at a failure: the rest of the batch has been tried.
    pub fn batch(&mut self, requests: &[NetlinkRequest]) -> Result<Vec<Option<NetlinkReply>>> {
        self.try_batch(requests)?.into_iter().collect()
    }

    /// Sends all requests at once; each has its own reply or error.
    pub fn try_batch(&mut self, requests: &[NetlinkRequest]) -> Result<Vec<Result<Option<NetlinkReply>>>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(256 * requests.len());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            push(&mut datagram, request, self.sequence);
        }
        self.send(&datagram)?;
        let answers = self.collect(first, requests.len())?;
        Ok(answers.into_iter().zip(requests).map(|(answer, request)| answer.map_err(|f| request.error(f))).collect())
    }

    /// The replies to `count` requests, numbered from `first`.
    fn collect(&mut self, first: u32, count: usize) -> Result<Vec<Result<Option<NetlinkReply>, NetlinkFailure>>> {
        let mut answers: Vec<_> = (0..count).map(|_| Ok(None)).collect();
        let mut open = count;
        let mut buffer = Vec::new();
        while open > 0 {
            self.receive(&mut buffer)?;
            for (header, payload) in messages(&buffer) {
                // Sequence numbers of an earlier, abandoned batch are ignored.
                let Some(answer) = answers.get_mut(header.sequence.wrapping_sub(first) as usize) else { continue };
                match (header.kind, failure(header, payload)) {
                    (ERROR, Some(failure)) => (*answer, open) = (Err(failure), open - 1),
                    (ERROR, None) => open -= 1,
                    _ => *answer = Ok(Some(NetlinkReply { kind: header.kind, payload: payload.to_vec() })),
                }
            }
        }
        Ok(answers)
    }

    /// Requests a dump of `kind` with this body, and calls `each` with the body of every message.
    /// When the kernel reports that a change interrupted the dump, it is requested again (at most
    /// three times), so `each` may receive an object twice.
    pub fn dump(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> Result<()> {
        for _ in 0..3 {
            if !self.dump_once(kind, body, &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// True when a change interrupted the dump.
    fn dump_once(&mut self, kind: u16, body: &[u8], each: &mut impl FnMut(&[u8])) -> Result<bool> {
        self.send_raw(kind, NLM_F_REQUEST | NLM_F_DUMP, body)?;
        let mut is_interrupted = false;
        let mut buffer = Vec::new();
        loop {
            self.receive(&mut buffer)?;
            for (header, payload) in messages(&buffer).filter(|(header, _)| header.sequence == self.sequence) {
                is_interrupted |= header.flags & DUMP_INTERRUPTED != 0;
                match (header.kind, failure(header, payload)) {
                    (ERROR | DONE, Some(failure)) => {
                        return Err(Error::os("dump over netlink", "", io::Error::from_raw_os_error(failure.errno)));
                    }
                    (ERROR | DONE, None) => return Ok(is_interrupted),
                    _ => each(payload),
                }
            }
        }
    }

    /// Sends a single message for which there is no [`NetlinkRequest`]; its failure is an error of
    /// `operation`.
    pub fn send_request(&mut self, operation: &'static str, kind: u16, body: &[u8]) -> Result<Option<NetlinkReply>> {
        self.send_raw(kind, NLM_F_REQUEST | NLM_F_ACK, body)?;
        let answer = self.collect(self.sequence, 1)?.swap_remove(0);
        answer.map_err(|failure| Error::os(operation, "", io::Error::from_raw_os_error(failure.errno)))
    }

    /// Sends messages of one kind together, and does not wait for their outcomes.
    pub fn send_unacknowledged(&mut self, kind: u16, bodies: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        let mut datagram = Vec::new();
        for body in bodies {
            self.sequence = self.sequence.wrapping_add(1);
            let header =
                MessageHeader { length: HEADER + body.len(), kind, flags: NLM_F_REQUEST, sequence: self.sequence };
            datagram.extend(header.to_bytes());
            datagram.extend(body);
        }
        if datagram.is_empty() { Ok(()) } else { self.send(&datagram) }
    }

    fn send_raw(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let header = MessageHeader { length: HEADER + body.len(), kind, flags, sequence: self.sequence };
        self.send(&[&header.to_bytes(), body].concat())
    }

    fn send(&self, datagram: &[u8]) -> Result<()> {
        self.socket.send(datagram, 0).map(drop).map_err(|error| Error::os("send to netlink", "", error))
    }

    fn receive(&self, buffer: &mut Vec<u8>) -> Result<()> {
        loop {
            buffer.clear();
            buffer.reserve(RECEIVE_BUFFER);
            match self.socket.recv(buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::os("receive from netlink", "", error)),
            }
        }
    }
}

fn push(datagram: &mut Vec<u8>, request: &NetlinkRequest, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = request.flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.message.clone()));
    message.finalize();
    let start = datagram.len();
    datagram.resize(start + message.buffer_len(), 0);
    message.serialize(&mut datagram[start..]);
}

/// `struct nlmsghdr` without the port.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageHeader {
    length: usize,
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

impl MessageHeader {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = (self.length as u32).to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            length: u32_at(bytes, 0)? as usize,
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
        })
        .filter(|header| (HEADER..=bytes.len()).contains(&header.length))
    }
}

/// The messages of a datagram with their bodies; stops at the first that does not fit.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (MessageHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header = MessageHeader::parse(bytes)?;
        let payload = &bytes[HEADER..header.length];
        bytes = bytes.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// The error in a `NLMSG_ERROR` or `NLMSG_DONE`; `None` for an acknowledgment.
fn failure(header: MessageHeader, payload: &[u8]) -> Option<NetlinkFailure> {
    let code = u32_at(payload, 0).filter(|_| matches!(header.kind, ERROR | DONE))? as i32;
    let errno = Some(code.wrapping_neg()).filter(|errno| *errno != 0)?;
    // With NETLINK_CAP_ACK the attributes follow the request's bare header.
    let attributes_at = if header.kind == ERROR { 4 + HEADER } else { 4 };
    let text = (header.flags & ACK_ATTRIBUTES != 0)
        .then(|| attribute(payload.get(attributes_at..)?, ACK_MESSAGE))
        .flatten()
        .map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned());
    Some(NetlinkFailure { errno, text })
}

/// The attributes in these bytes: type without its flag bits, value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A native-endian number at this offset, if the message is that long.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A native-endian number at this offset, if the message is that long.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A native-endian number at this offset, if the message is that long.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    fn get_link(name: &str) -> NetlinkRequest {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.into()));
        NetlinkRequest::new("read interface", name, RouteNetlinkMessage::GetLink(link))
    }

    #[test]
    fn replies_to_each_request_of_a_batch() {
        let mut netlink = Netlink::route().unwrap();
        let answers = netlink.try_batch(&[get_link("lo"), get_link("nwnotthere"), get_link("lo")]).unwrap();
        let payloads: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(Option::is_some)).collect();
        assert_eq!(payloads, [Some(true), None, Some(true)]);
        assert_eq!(answers[1].as_ref().unwrap_err().errno(), Some(nix::errno::Errno::ENODEV));
        assert_eq!(netlink.batch(&[get_link("lo")]).unwrap().len(), 1);
    }

    #[test]
    fn dumps_links() {
        let mut netlink = Netlink::route().unwrap();
        let mut seen = 0;
        netlink.dump(libc::RTM_GETLINK, &[0; 16], |_| seen += 1).unwrap();
        assert!(seen >= 1);
    }

    #[test]
    fn stops_at_truncated_attributes() {
        assert_eq!(attributes(&[8, 0, 1, 0, 1, 2]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attribute(&[5, 0, 1, 0, 7, 0, 0, 0, 4, 0, 2, 0], 2), Some(&[][..]));
    }
}
