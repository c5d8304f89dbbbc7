//! Sockets that the command inherits from the caller of netwatch: as standard streams (inetd, a
//! service manager), or as further descriptors. They stay in the namespace in which they were
//! created.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

/// A socket of the internet families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InheritedSocket {
    /// Its descriptor.
    pub fd: RawFd,
    /// Its own address.
    pub local: Option<SocketAddr>,
    /// The remote that it is connected to.
    pub peer: Option<SocketAddr>,
}

/// The descriptors of this process that an executed program inherits, if they are sockets with an
/// IP address. `only_standard` restricts them to the standard streams, if the others are closed.
pub fn sockets(only_standard: bool) -> Vec<InheritedSocket> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    let mut open: Vec<RawFd> = open.filter(|fd| !only_standard || *fd <= libc::STDERR_FILENO).collect();
    open.sort_unstable();
    open.into_iter().filter_map(inherited).collect()
}

fn inherited(fd: RawFd) -> Option<InheritedSocket> {
    // SAFETY: only system calls that fail if another thread closes it meanwhile.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = FdFlag::from_bits_truncate(fcntl(borrowed, FcntlArg::F_GETFD).ok()?);
    let local: SockaddrStorage = getsockname(borrowed.as_raw_fd()).ok()?;
    let is_inherited =
        !flags.contains(FdFlag::FD_CLOEXEC) && (local.as_sockaddr_in().is_some() || local.as_sockaddr_in6().is_some());
    let peer = getpeername::<SockaddrStorage>(fd).ok().as_ref().and_then(address);
    is_inherited.then(|| InheritedSocket { fd, local: address(&local), peer })
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn inherited_sockets_with_an_address_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let kept = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
        let (local, _local) = UnixStream::pair().expect("a pair");
        let inherit = |fd: &dyn AsRawFd| {
            // SAFETY: only a flag changes.
            let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("change the flag");
        };
        inherit(&kept);
        inherit(&local);
        let found = sockets(false);
        let of = |fd: RawFd| found.iter().find(|socket| socket.fd == fd).copied();
        let expected =
            InheritedSocket { fd: kept.as_raw_fd(), local: kept.local_addr().ok(), peer: kept.peer_addr().ok() };
        assert_eq!(of(kept.as_raw_fd()), Some(expected));
        assert_eq!((of(listener.as_raw_fd()), of(local.as_raw_fd())), (None, None));
        assert!(!sockets(true).iter().any(|socket| socket.fd > 2));
    }
}
