//! Converts records of the ABI to the types of [`crate::process`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use netwatch_common::address::Address;
use netwatch_common::process::{self as abi, EventHead, call, flag, kind};

use crate::flow::{Protocol, TransportAddress};
use crate::meter::clock::Clock;
use crate::process::{
    CallName, CallTarget, ClosedSocket, FailedCall, Image, Origin, ProcessAction, ProcessEvent, SocketOperation,
    SocketUse, ThreadName,
};

/// Parses a record. `None` if its kind or shape is unknown, which never occurs with the object of
/// the same build.
pub(super) fn event(record: &[u8], clock: Clock) -> Option<ProcessEvent> {
    let head: EventHead = read(record)?;
    let action = match head.kind {
        kind::CREATED => socket(SocketOperation::Created, &read(record)?),
        kind::BOUND => socket(SocketOperation::Bound, &read(record)?),
        kind::CONNECT => socket(SocketOperation::Connect, &read(record)?),
        kind::USED => socket(SocketOperation::Used, &read(record)?),
        kind::SEND_FAILED => {
            let record: abi::SocketRecord = read(record)?;
            socket(SocketOperation::SendFailed(record.errno.into()), &record)
        }
        kind::LOCAL_SOCKET => {
            let record: abi::LocalSocketRecord = read(record)?;
            ProcessAction::LocalSocket(unix_name(record.path.get(..record.len as usize)?)?)
        }
        kind::FORK => {
            let record: abi::ForkRecord = read(record)?;
            ProcessAction::Fork(origin(head.start_ns, record.ppid, record.creator, clock))
        }
        kind::EXEC => exec(record, clock)?,
        kind::FAILED_CALL => ProcessAction::FailedCall(failed_call(&read(record)?)),
        kind::CLOSED => ProcessAction::ClosedSocket(closed(&read(record)?)),
        kind::EXIT => ProcessAction::Exit,
        _ => return None,
    };
    let comm = ThreadName(head.comm);
    let time_ns = clock.unix_ns(head.time_ns);
    let EventHead { pid, tid, uid, program, .. } = head;
    Some(ProcessEvent { time_ns, start_ns: start_time(head.start_ns, clock), pid, tid, program, uid, comm, action })
}

/// The creation of the socket that a record reports with the socket's first use.
pub(super) fn creation(record: &[u8], event: &ProcessEvent) -> Option<ProcessEvent> {
    let head: EventHead = read(record)?;
    let ProcessAction::SocketUse(_, socket) = event.action else { return None };
    let created = ProcessAction::SocketUse(SocketOperation::Created, SocketUse { address: None, ..socket });
    (head.flags & flag::CREATED_SOCKET != 0).then(|| ProcessEvent { action: created, ..event.clone() })
}

/// Reads the beginning of a record. `None` if it is too short.
fn read<T: Copy>(record: &[u8]) -> Option<T> {
    // SAFETY: long enough; `T` is a record of the ABI, plain data for which any bytes are valid.
    (record.len() >= size_of::<T>()).then(|| unsafe { record.as_ptr().cast::<T>().read_unaligned() })
}

fn socket(step: SocketOperation, record: &abi::SocketRecord) -> ProcessAction {
    let address = match step {
        SocketOperation::Created => None,
        SocketOperation::Used | SocketOperation::SendFailed(_) if record.port == 0 => None,
        _ => Some(SocketAddr::new(address(&record.address, record.family.into()), record.port)),
    };
    let protocol = protocol(record.protocol);
    ProcessAction::SocketUse(step, SocketUse { cookie: record.cookie, netns: record.netns, protocol, address })
}

fn closed(record: &abi::ClosedRecord) -> ClosedSocket {
    let end =
        |of: &Address, port| (port != 0).then(|| TransportAddress { addr: address(of, record.family.into()), port });
    let (local, remote) = (end(&record.local, record.local_port), end(&record.remote, record.remote_port));
    ClosedSocket { cookie: record.cookie, netns: record.netns, protocol: protocol(record.protocol), local, remote }
}

/// The protocol of a socket. MPTCP's number (262) does not fit a packet's field and gives `None`.
fn protocol(number: u16) -> Option<Protocol> {
    u8::try_from(number).ok().filter(|protocol| *protocol != 0).map(Protocol)
}

/// Converts an address. An IPv6 socket with an IPv4-mapped destination sends IPv4.
fn address(address: &Address, family: i32) -> IpAddr {
    let v6 = Ipv6Addr::from(address.bytes());
    match v6.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None if family == libc::AF_INET => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        None => IpAddr::V6(v6),
    }
}

fn origin(start_ns: u64, ppid: u32, maker: u32, clock: Clock) -> Origin {
    Origin { start_ns: start_time(start_ns, clock), ppid, maker }
}

/// Converts a start time; 0 means unknown.
fn start_time(start_ns: u64, clock: Clock) -> u64 {
    if start_ns == 0 { 0 } else { clock.unix_ns(start_ns) }
}

fn exec(record: &[u8], clock: Clock) -> Option<ProcessAction> {
    let exec: abi::ExecRecord = read(record)?;
    let exe = exec.exe.get(..exec.exe_len as usize).filter(|exe| !exe.is_empty()).map(text);
    // If arguments are not recorded, their total length is 0.
    let is_unreadable = exe.is_none() || exec.arguments_total > 0 && exec.arguments_len == 0;
    let all = record.get(size_of::<abi::ExecRecord>()..)?;
    let stored = all.get(..exec.arguments_len as usize)?;
    let truncated = exec.arguments_len < exec.arguments_total;
    // If the arguments were truncated, the incomplete last one has no zero and is kept.
    let whole = stored.strip_suffix(&[0]).unwrap_or(stored);
    let cmdline = (!stored.is_empty()).then(|| whole.split(|byte| *byte == 0).map(text).collect());
    let comm = text(until_zero(&exec.head.comm));
    let image = Image { comm, exe, cmdline, cmdline_cut: truncated, is_unreadable };
    Some(ProcessAction::Exec(origin(exec.head.start_ns, exec.ppid, exec.head.pid, clock), image))
}

fn failed_call(record: &abi::FailedCallRecord) -> FailedCall {
    let given = record.address.get(..record.len as usize).unwrap_or_default();
    let [family, _, protocol] = record.arguments;
    let (name, target) = match record.call {
        call::SOCKET => (CallName::Socket, unspecified(family as i32)),
        call::CONNECT => (CallName::Connect, sockaddr(given)),
        _ => (CallName::Send, sockaddr(given)),
    };
    let protocol = match (record.call, record.arguments[1] as i32 & 0xf, protocol as u8) {
        (call::SOCKET, libc::SOCK_STREAM, 0) => Some(Protocol::TCP),
        (call::SOCKET, libc::SOCK_DGRAM, 0) => Some(Protocol(17)),
        (call::SOCKET, _, number) if number != 0 => Some(Protocol(number)),
        _ => None,
    };
    FailedCall { name, errno: record.errno as i32, target, protocol }
}

fn unspecified(family: i32) -> CallTarget {
    match family {
        libc::AF_INET => CallTarget::Address(SocketAddr::new([0; 4].into(), 0)),
        libc::AF_INET6 => CallTarget::Address(SocketAddr::new([0; 16].into(), 0)),
        _ => CallTarget::Other,
    }
}

/// A `sockaddr` (unix(7), ip(7), ipv6(7)).
fn sockaddr(bytes: &[u8]) -> CallTarget {
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return CallTarget::Other };
    let port = || rest.first_chunk().map(|port| u16::from_be_bytes(*port));
    let internet = |address: Option<IpAddr>| address.zip(port()).map(|(address, port)| SocketAddr::new(address, port));
    let found = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_UNIX => return unix_name(rest).map_or(CallTarget::Other, CallTarget::LocalSocket),
        libc::AF_INET => internet(rest.get(2..6).and_then(|v4| <[u8; 4]>::try_from(v4).ok()).map(IpAddr::from)),
        libc::AF_INET6 => {
            let v6 = rest.get(6..22).and_then(|v6| <[u8; 16]>::try_from(v6).ok()).map(Ipv6Addr::from);
            internet(v6.map(|v6| v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)))
        }
        _ => None,
    };
    found.map_or(CallTarget::Other, CallTarget::Address)
}

/// Converts `sun_path`. A zero at its start marks an abstract name, which may contain further
/// zeros. `None` for an unnamed socket.
fn unix_name(path: &[u8]) -> Option<String> {
    match path.split_first() {
        None => None,
        Some((0, name)) => Some(format!("@{}", text(name).trim_end_matches('\0').replace('\0', "@"))),
        Some(_) => Some(text(until_zero(path))),
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockaddrs_are_parsed() {
        let mut v4 = [2, 0, 0, 80, 198, 51, 100, 10].to_vec();
        v4.extend([0; 8]);
        assert_eq!(sockaddr(&v4), CallTarget::Address("198.51.100.10:80".parse().unwrap()));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(sockaddr(&v6), CallTarget::Address("[2001:db8::1]:80".parse().unwrap()));
        assert_eq!(sockaddr(b"\x01\0/run/x.sock\0rest"), CallTarget::LocalSocket("/run/x.sock".into()));
        assert_eq!(sockaddr(b"\x01\0\0name"), CallTarget::LocalSocket("@name".into()));
        for short in [&b""[..], b"\x02", b"\x02\0\0", b"\x0a\0\0\x50\0\0", b"\x01\0"] {
            assert_eq!(sockaddr(short), CallTarget::Other, "{short:?}");
        }
    }
}
