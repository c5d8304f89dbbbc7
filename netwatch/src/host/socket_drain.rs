//! Waits until data that exited processes left in their sockets is delivered, before the link is
//! taken down: a program may send a megabyte and exit at once.
//!
//! After `exit` a TCP socket stays in the kernel until its data and its FIN are acknowledged. Only
//! TCP needs this: a UDP datagram is at the other end of the veth when `sendto` returns, because no
//! queue discipline is in between.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::netlink::{Netlink, SOCK_DIAG_BY_FAMILY, SOCK_DIAG_FAMILIES, sock_diag_request, u32_at};
use crate::error::{Error, Result};

/// `TCP_FIN_WAIT1`, `TCP_LAST_ACK`, `TCP_CLOSING`: closed by the program, its FIN not yet
/// acknowledged.
const CLOSING_STATES: u32 = 1 << 4 | 1 << 9 | 1 << 11;
/// `TCP_ESTABLISHED`, `TCP_CLOSE_WAIT`.
const OPEN_STATES: u32 = 1 << 1 | 1 << 8;

/// Data that is not delivered yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Closed sockets whose data or FIN is not acknowledged.
    pub sockets: u32,
    /// Bytes not acknowledged, without FINs.
    pub bytes: u64,
}

/// The result of [`drain`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Time from the first data that was found; zero if there was none.
    pub waited: Duration,
    /// What was not delivered within the limit; zero if everything was.
    pub left: Backlog,
}

/// Waits until no closed socket in the namespace of this sock_diag socket has unsent data, for
/// `limit` at most. Costs two dumps of an empty list when there is nothing to wait for; with many
/// sockets a dump takes long, so this is for a thread of its own. `pause` waits for a time, and
/// returns whether to continue.
pub fn drain(
    sock_diag: &mut Netlink,
    limit: Duration,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<DrainOutcome> {
    // The time of the dumps counts as a wait only if the first one finds something.
    let mut started: Option<Instant> = None;
    let mut interval = Duration::from_micros(200);
    loop {
        let left = backlog(sock_diag)?;
        let waited = started.map(|started| started.elapsed()).unwrap_or_default();
        if left.sockets == 0 || waited >= limit {
            return Ok(DrainOutcome { waited, left });
        }
        started.get_or_insert_with(Instant::now);
        if !pause(interval.min(limit - waited)) {
            return Err(interrupted());
        }
        interval = (interval * 2).min(Duration::from_millis(10));
    }
}

/// The error of a wait that a signal ended.
pub fn interrupted() -> Error {
    Error::other("wait for", "the command's sockets", "interrupted by a signal")
}

/// The data that is not delivered at this moment.
pub fn backlog(sock_diag: &mut Netlink) -> Result<Backlog> {
    let mut found = Backlog::default();
    let mut open = false;
    for family in SOCK_DIAG_FAMILIES {
        let each = |body: &[u8]| if is_closing(body) { found.add(body) } else { open = true };
        let body = sock_diag_request(family, libc::IPPROTO_TCP, CLOSING_STATES | OPEN_STATES);
        sock_diag.dump(SOCK_DIAG_BY_FAMILY, &body, each).map_err(no_diag)?;
    }
    // The processes have exited, so an open socket can be part of a multipath connection, which
    // closes as a whole. Without an open socket multipath connections are not requested, because
    // the kernel would try to load a module that may not exist.
    if open {
        for family in SOCK_DIAG_FAMILIES {
            found.add_multipath(sock_diag, family)?;
        }
    }
    Ok(found)
}

/// `struct inet_diag_msg`: family, state, …
fn is_closing(body: &[u8]) -> bool {
    body.get(1).is_some_and(|state| CLOSING_STATES & 1 << (state & 31) != 0)
}

fn no_diag(error: Error) -> Error {
    error.hint("unsent data of exited processes may be lost: the kernel needs CONFIG_INET_DIAG")
}

impl Backlog {
    /// From a `struct inet_diag_msg`, whose `idiag_wqueue` is at 60. It counts sequence numbers:
    /// the FIN is one of them.
    fn add(&mut self, body: &[u8]) {
        let queued = u32_at(body, 60).unwrap_or(0);
        self.sockets += 1;
        self.bytes += u64::from(queued.saturating_sub(1));
    }

    /// Adds the multipath connections that are closing. The kernel does not report how many bytes
    /// these hold.
    fn add_multipath(&mut self, sock_diag: &mut Netlink, family: u8) -> Result<()> {
        const INET_DIAG_REQ_PROTOCOL: u16 = 3;
        let mut body = sock_diag_request(family, libc::IPPROTO_TCP, CLOSING_STATES);
        body.extend(8u16.to_ne_bytes());
        body.extend(INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        body.extend(libc::IPPROTO_MPTCP.to_ne_bytes());
        match sock_diag.dump(SOCK_DIAG_BY_FAMILY, &body, |found| self.add(found)) {
            // A kernel without multipath TCP has no such connections; one that does not support the
            // attribute reports plain TCP.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            other => other.map_err(no_diag),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::thread;

    use super::*;
    use crate::host::forwarding::Families;
    use crate::host::link::{Link, LinkPlan, take_down_and_count};
    use crate::host::namespace::Namespace;
    use crate::host::subnet::{Occupied, Subnets, WantedSubnets};
    use crate::host::testing::in_fresh_namespace;
    use crate::undo::{Exclusive, Journal, RunDir};

    fn sleep(pause: Duration) -> bool {
        thread::sleep(pause);
        true
    }

    /// Begins to close the connection, even if a process that another test forked still holds the
    /// socket until its execve.
    fn close(sender: TcpStream) {
        sender.shutdown(Shutdown::Write).unwrap();
    }

    fn drain_here(limit: Duration) -> DrainOutcome {
        drain(&mut Netlink::sock_diag().unwrap(), limit, sleep).unwrap()
    }

    #[test]
    fn an_empty_backlog_needs_no_wait() {
        in_fresh_namespace(|| {
            let mut sock_diag = Netlink::sock_diag().unwrap();
            let outcome = drain(&mut sock_diag, Duration::from_secs(5), |_| panic!("it waits")).unwrap();
            assert_eq!(outcome.left, Backlog::default());
        });
    }

    #[test]
    fn waits_for_a_slow_reader() {
        in_fresh_namespace(|| {
            const SENT: usize = 1 << 20;
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(address).unwrap();
                let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut reader, _) = listener.accept().unwrap();
                nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::SndBuf, &(4 * SENT)).unwrap();
                sender.write_all(&vec![7; SENT]).unwrap();
                close(sender);
                // The receive buffer holds less than was sent, so there is a backlog until the
                // reader has read.
                assert_eq!(backlog(&mut Netlink::sock_diag().unwrap()).unwrap().sockets, 1);
                let reader = thread::spawn(move || {
                    let mut total = 0;
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(count @ 1..) = reader.read(&mut buffer) {
                        total += count;
                    }
                    total
                });
                assert_eq!(drain_here(Duration::from_secs(5)).left, Backlog::default());
                assert_eq!(reader.join().unwrap(), SENT);
            }
        });
    }

    /// Sends from a namespace over its link, drains, and takes the link down at once: the reader
    /// has received everything.
    #[test]
    fn a_megabyte_sent_just_before_the_end_arrives() {
        in_fresh_namespace(|| {
            const SENT: usize = 1 << 20;
            let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
            let mut namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
            let both = Families { ipv4: true, ipv6: true };
            let subnets = Subnets::choose(&WantedSubnets::default(), both, &Occupied::default(), 9).unwrap();
            let plan = LinkPlan { interface: &run.id().interface(), mtu: 1500, subnets, link_local: false };
            let link = Link::create(&plan, &mut namespace, |_, _| Ok(())).unwrap();
            let listener = TcpListener::bind((subnets.v6.unwrap().gateway(), 0)).unwrap();
            let to = listener.local_addr().unwrap();
            namespace
                .run_in(|| {
                    let mut sender = TcpStream::connect(to).unwrap();
                    nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::SndBuf, &(2 * SENT)).unwrap();
                    sender.write_all(&vec![7; SENT]).unwrap();
                    close(sender);
                })
                .unwrap();
            let reader = thread::spawn(move || {
                let (mut reader, _) = listener.accept().unwrap();
                thread::sleep(Duration::from_millis(30));
                io::copy(&mut reader, &mut io::sink()).unwrap()
            });
            let mut sock_diag = namespace.take_sock_diag().unwrap();
            let outcome = drain(&mut sock_diag, Duration::from_secs(5), sleep).unwrap();
            assert_eq!(outcome.left, Backlog::default());
            assert!(take_down_and_count(link.name()).unwrap().unwrap().rx_bytes > SENT as u64);
            assert_eq!(reader.join().unwrap(), SENT as u64);
        });
    }

    fn multipath_socket() -> Option<OwnedFd> {
        // SAFETY: the call takes three numbers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
        // SAFETY: a descriptor that is not negative was just created, and nothing else owns it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    #[test]
    fn waits_for_multipath_connections_too() {
        in_fresh_namespace(|| {
            use nix::sys::socket::{Backlog as Queue, SockaddrIn, bind, connect, listen, setsockopt, sockopt};
            let (Some(listener), Some(sender)) = (multipath_socket(), multipath_socket()) else {
                eprintln!("skipped: this kernel has no multipath TCP");
                return;
            };
            bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
            listen(&listener, Queue::new(1).unwrap()).unwrap();
            let listener = TcpListener::from(listener);
            let to = listener.local_addr().unwrap();
            setsockopt(&sender, sockopt::SndBuf, &(4 << 20)).unwrap();
            connect(sender.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, to.port())).unwrap();
            let (mut reader, _) = listener.accept().unwrap();
            let mut sender = TcpStream::from(sender);
            sender.write_all(&vec![7; 1 << 20]).unwrap();
            close(sender);
            assert_eq!(drain_here(Duration::from_millis(20)).left.sockets, 1);
            let reader = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
            assert_eq!(drain_here(Duration::from_secs(5)).left, Backlog::default());
            assert_eq!(reader.join().unwrap(), 1 << 20);
        });
    }

    #[test]
    fn a_namespace_without_data_is_no_wait() {
        in_fresh_namespace(|| assert_eq!(drain_here(Duration::from_secs(5)), DrainOutcome::default()));
    }

    #[test]
    fn stops_at_the_limit_and_reports_what_is_left() {
        in_fresh_namespace(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let _reads_nothing = listener.accept().unwrap();
            sender.set_nonblocking(true).unwrap();
            while sender.write(&[7; 64 * 1024]).is_ok() {}
            close(sender);
            let mut sock_diag = Netlink::sock_diag().unwrap();
            let error = drain(&mut sock_diag, Duration::from_secs(3600), |_| false).expect_err("interrupted");
            assert!(error.to_string().contains("interrupted by a signal"), "{error}");
            let outcome = drain_here(Duration::from_millis(30));
            assert!(outcome.waited >= Duration::from_millis(30), "{outcome:?}");
            assert_eq!(outcome.left.sockets, 1);
            assert!(outcome.left.bytes > 0);
        });
    }
}
