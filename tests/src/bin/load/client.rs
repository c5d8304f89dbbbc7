//! A client that opens many short connections, in one thread: each sends a request, waits for the
//! response, and is reset, so that no socket stays in TIME_WAIT and uses up a port.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};

/// A response that takes longer than this ends the program.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Connections to open.
pub struct ConnectionPlan {
    pub to: SocketAddr,
    pub hosts: u64,
    pub count: u64,
    pub at_once: usize,
    pub rate: u64,
    pub request: Vec<u8>,
}

impl ConnectionPlan {
    /// The server of a connection: successive addresses in turn.
    fn server(&self, number: u64) -> SocketAddr {
        let host = number % self.hosts.max(1);
        let address = match self.to.ip() {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first) + host as u32).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first) + u128::from(host)).into()),
        };
        SocketAddr::new(address, self.to.port())
    }

    /// Whether the rate permits another connection.
    fn is_due(&self, started: Instant, opened: u64) -> bool {
        self.rate == 0 || started.elapsed().as_secs_f64() * self.rate as f64 >= opened as f64
    }
}

/// Raises the number of open files to the limit.
pub fn raise_file_limit() -> io::Result<()> {
    let (_, max) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, max, max)?)
}

/// An open connection.
struct Open {
    stream: TcpStream,
    has_sent: bool,
}

pub struct Client {
    epoll: Epoll,
    /// Open connections; free places are reused.
    open: Vec<Option<Open>>,
    free: Vec<usize>,
}

impl Client {
    pub fn new() -> io::Result<Self> {
        raise_file_limit()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, open: Vec::new(), free: Vec::new() })
    }

    /// Opens all connections and waits for all responses.
    pub fn run(&mut self, plan: &ConnectionPlan) -> io::Result<()> {
        let (mut opened, mut done, started) = (0, 0, Instant::now());
        let mut last = started;
        let mut events = [EpollEvent::empty(); 256];
        while done < plan.count {
            while opened < plan.count && opened - done < plan.at_once as u64 && plan.is_due(started, opened) {
                self.open(plan.server(opened))?;
                opened += 1;
            }
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(1_u8)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                done += u64::from(self.advance(event.data() as usize, &plan.request)?);
                last = Instant::now();
            }
            if last.elapsed() > TIMEOUT && opened > done {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("{done} of {opened} connections ended")));
            }
        }
        Ok(())
    }

    fn open(&mut self, to: SocketAddr) -> io::Result<()> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
        setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(flags, place as u64))?;
        self.open[place] = Some(Open { stream: TcpStream::from(socket), has_sent: false });
        Ok(())
    }

    /// Sends the request or reads the response. Returns true if the connection has ended.
    fn advance(&mut self, place: usize, request: &[u8]) -> io::Result<bool> {
        let Some(open) = &mut self.open[place] else { return Ok(false) };
        if !open.has_sent {
            match open.stream.write(request) {
                Ok(_) => open.has_sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match open.stream.read(&mut [0; 4096]) {
            Ok(1..) => {}
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        self.open[place] = None;
        self.free.push(place);
        Ok(true)
    }
}
