//! Router advertisements: ICMPv6 type 134 (RFC 4861) with a prefix, ten times a second.
//! Solicitations are not answered.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::addresses::ROUTER_V6;
use crate::namespace::TestNamespace;

/// Time between two advertisements.
const INTERVAL: Duration = Duration::from_millis(100);

/// The sending thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Advertiser {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Advertiser {
    /// Advertises a default route and the prefix of [`ROUTER_V6`] on the interface with this index.
    pub fn start(inet: &TestNamespace, interface: u32) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = inet.inside(move || {
            let socket = raw_socket().expect("open a raw ICMPv6 socket");
            let everybody = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, interface);
            let send = || {
                // Fails until the link is up and has its link-local address.
                let _ = socket.send_to(&advertisement(), everybody);
                stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout)
            };
            while send() {}
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Hop limit 64, router lifetime 1800 s, one /64 on-link and autonomous for an hour. The kernel
/// computes the checksum.
fn advertisement() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(3600u32.to_be_bytes());
    message.extend(3600u32.to_be_bytes());
    message.extend([0; 4]);
    let prefix = u128::from(ROUTER_V6) >> 64 << 64;
    message.extend(prefix.to_be_bytes());
    message
}

/// Wrapped as a UDP socket for its safe `send_to`, which is the same system call.
fn raw_socket() -> io::Result<UdpSocket> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMPV6) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor without another owner.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let hops: libc::c_int = 255;
    // SAFETY: the option is an int, passed with its size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_HOPS,
            (&raw const hops).cast(),
            size_of_val(&hops) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
