//! Lists the IPv4 and IPv6 sockets of a network namespace and the processes that have them, from
//! sock_diag and /proc. Reads only.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::netlink::{Netlink, SOCK_DIAG_BY_FAMILY, SOCK_DIAG_FAMILIES, attribute, sock_diag_request, u32_at, u64_at};
use crate::error::Result;

/// Every state of `enum tcp_states` (net/tcp_states.h) but TIME_WAIT and NEW_SYN_RECV, in which
/// there is no socket of a process.
const STATES: u32 = !(1 << 6 | 1 << 12);
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;
/// The states of a connection that waits to be accepted: `TCP_ESTABLISHED`, `TCP_SYN_RECV`,
/// `TCP_CLOSE_WAIT`. One that its process has closed is in others.
const WAITING_STATES: u32 = 1 << 1 | 1 << 3 | 1 << 8;

/// A socket that a process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExistingSocket {
    /// The kernel's number of the socket, which it never reuses.
    pub cookie: u64,
    /// IANA protocol number.
    pub protocol: u8,
    /// Its own end; the port is 0 if it has none.
    pub local: SocketAddr,
    /// Whether it is connected.
    pub is_connected: bool,
    /// Whether it accepts connections.
    pub is_listening: bool,
    /// Identifies it in /proc/PID/fd; 0 of a connection that no process has accepted yet.
    pub inode: u32,
    /// The inode of the cgroup (v2) that it belongs to: that of the process that created it. `None`
    /// before Linux 5.9.
    pub cgroup: Option<u64>,
}

/// The sockets of the network namespace of this sock_diag socket: TCP and UDP.
pub fn all(sock_diag: &mut Netlink) -> Result<Vec<ExistingSocket>> {
    let mut found = Vec::new();
    for family in SOCK_DIAG_FAMILIES {
        for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
            let each = |body: &[u8]| found.extend(parse(body, protocol as u8));
            match sock_diag.dump(SOCK_DIAG_BY_FAMILY, &sock_diag_request(family, protocol, STATES), each) {
                // A kernel without udp_diag lists TCP sockets only.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                listed => listed?,
            }
        }
    }
    Ok(found)
}

/// Size of `struct inet_diag_msg`, which attributes follow.
const MESSAGE_BYTES: usize = 72;
/// `INET_DIAG_CGROUP_ID` (linux/inet_diag.h).
const CGROUP_ID: u16 = 21;

/// `struct inet_diag_msg`: family in byte 0, state in byte 1; in network order both ports from 4,
/// the addresses from 8; the cookie at 44, the inode at 68.
fn parse(body: &[u8], protocol: u8) -> Option<ExistingSocket> {
    let is_v4 = i32::from(*body.first()?) == libc::AF_INET;
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address: IpAddr = match is_v4 {
        true => Ipv4Addr::from(<[u8; 4]>::try_from(body.get(8..12)?).ok()?).into(),
        false => Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?).into(),
    };
    let cookie = u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32;
    let (local, is_connected) = (SocketAddr::new(address, port(4)?), port(6)? != 0);
    let (state, is_tcp) = (*body.get(1)?, i32::from(protocol) == libc::IPPROTO_TCP);
    let is_listening = is_tcp && state == LISTEN;
    let is_waiting = is_tcp && WAITING_STATES.checked_shr(state.into()).is_some_and(|states| states & 1 != 0);
    let inode = u32_at(body, 68)?;
    let cgroup = attribute(body.get(MESSAGE_BYTES..)?, CGROUP_ID).and_then(|value| u64_at(value, 0));
    // A socket that no process has any more has none.
    let is_used = inode != 0 || is_waiting;
    is_used.then_some(ExistingSocket { cookie, protocol, local, is_connected, is_listening, inode, cgroup })
}

/// The processes that have these sockets, by inode, as far as their descriptors can be read.
pub fn owners(inodes: &HashSet<u32>) -> HashMap<u32, Vec<u32>> {
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        // It may have ended.
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for inode in descriptors.filter_map(|entry| socket_of(fs::read_link(entry.path()).ok()?.to_str()?)) {
            let owners = inodes.contains(&inode).then(|| found.entry(inode).or_default());
            owners.filter(|owners| !owners.contains(&pid)).into_iter().for_each(|owners| owners.push(pid));
        }
    }
    found
}

/// What the kernel calls the protocols of the sockets that [`all`] lists if they are bound or
/// connected.
const LISTED_PROTOCOLS: [&[u8]; 4] = [b"TCP", b"TCPv6", b"UDP", b"UDPv6"];

/// The inodes of the TCP and UDP sockets of a process, as far as its descriptors can be read: also
/// of those that are neither bound nor connected, which [`all`] does not list.
pub fn of_process(pid: u32) -> HashSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets = descriptors.filter_map(|entry| {
        let inode = socket_of(fs::read_link(entry.path()).ok()?.to_str()?)?;
        let path = CString::new(entry.path().into_os_string().into_encoded_bytes()).ok()?;
        let protocol = protocol_name(&path)?;
        LISTED_PROTOCOLS.contains(&&protocol[..]).then_some(inode)
    });
    sockets.collect()
}

/// The name of the protocol of the socket that this path leads to: a descriptor in /proc.
fn protocol_name(path: &CString) -> Option<Vec<u8>> {
    let mut name = [0; 32];
    // SAFETY: two C strings, and a buffer with its length.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), c"system.sockprotoname".as_ptr(), name.as_mut_ptr().cast(), name.len())
    };
    let name = name.get(..usize::try_from(length).ok()?)?;
    Some(name.split(|byte| *byte == 0).next()?.to_vec())
}

/// The inode in `socket:[4242]`.
fn socket_of(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsRawFd, FromRawFd};

    use super::*;
    use crate::host::testing::in_fresh_namespace;

    #[test]
    fn lists_sockets_with_their_processes() {
        in_fresh_namespace(|| {
            let listener = TcpListener::bind("127.0.0.1:81").unwrap();
            let _client = TcpStream::connect("127.0.0.1:81").unwrap();
            let _accepted = listener.accept().unwrap();
            let _udp = UdpSocket::bind("[::1]:84").unwrap();
            let sockets = all(&mut Netlink::sock_diag().unwrap()).unwrap();
            let mut shown: Vec<_> =
                sockets.iter().map(|one| (one.protocol, one.local.port(), one.is_connected)).collect();
            shown.sort_unstable();
            let client_port = shown.iter().map(|(_, port, _)| *port).find(|port| ![81, 84].contains(port)).unwrap();
            assert_eq!(shown, [(6, 81, false), (6, 81, true), (6, client_port, true), (17, 84, false)]);
            let inodes: HashSet<u32> = sockets.iter().map(|one| one.inode).collect();
            let owners = owners(&inodes);
            assert_eq!(owners.len(), 4);
            // Another test may fork in this moment.
            assert!(owners.values().all(|pids| pids.contains(&std::process::id())));
            let cookies: HashSet<u64> = sockets.iter().map(|one| one.cookie).collect();
            assert!(cookies.len() == 4 && !cookies.contains(&0));
        });
    }

    #[test]
    fn a_connection_is_listed_before_it_is_accepted_and_not_after_its_end() {
        in_fresh_namespace(|| {
            let listener = TcpListener::bind("127.0.0.1:81").unwrap();
            let listed = || {
                let all = all(&mut Netlink::sock_diag().unwrap()).unwrap();
                let of_listener = all.into_iter().filter(|socket| socket.local.port() == 81);
                let mut shown: Vec<_> = of_listener.map(|one| (one.is_listening, one.inode != 0)).collect();
                shown.sort_unstable();
                shown
            };
            let client = TcpStream::connect("127.0.0.1:81").unwrap();
            assert_eq!(listed(), [(false, false), (true, true)]);
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(listed(), [(false, true), (true, true)]);
            // The kernel waits for the FIN of the client.
            drop(accepted);
            assert_eq!(listed(), [(true, true)]);
            drop(client);
        });
    }

    #[test]
    fn a_process_has_sockets_that_are_listed_nowhere() {
        let unbound = |domain| {
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
            // SAFETY: the descriptor is new.
            unsafe { std::os::fd::OwnedFd::from_raw_fd(libc::socket(domain, kind, 0)) }
        };
        let inode = |socket: &std::os::fd::OwnedFd| {
            let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a link");
            socket_of(link.to_str().expect("text")).expect("a socket")
        };
        let [udp, unix] = [libc::AF_INET6, libc::AF_UNIX].map(unbound);
        let listed = all(&mut Netlink::sock_diag().expect("a socket")).expect("listed");
        assert!(!listed.iter().any(|socket| socket.inode == inode(&udp)));
        let own = of_process(std::process::id());
        assert!(own.contains(&inode(&udp)) && !own.contains(&inode(&unix)), "{own:?}");
    }

    #[test]
    fn parses_links_of_descriptors() {
        assert_eq!(socket_of("socket:[4242]"), Some(4242));
        for other in ["pipe:[1]", "socket:[]", "socket:[1", "/dev/null"] {
            assert_eq!(socket_of(other), None, "{other}");
        }
    }
}
