//! Sends and receives traffic of exactly known size. Exits with 0 when everything succeeded.
//!
//! ```text
//! traffic udp ADDRESS COUNT SIZE     sends datagrams one by one and waits for the echo of each
//! traffic flows ADDRESS COUNT SIZE   the same, each datagram from a port of its own
//! traffic send ADDRESS BYTES         connects, sends and exits immediately
//! traffic fetch ADDRESS              connects and reads to the end; prints the number of bytes
//! traffic connect ADDRESS MILLIS     connects with a timeout; prints connected, refused or timeout
//! traffic serve ADDRESS              accepts a TCP connection, prints its client, echoes
//! traffic serve-udp ADDRESS          the same for one datagram
//! traffic queries SERVER NAME FILE   DNS queries until the file exists; prints their number, and
//!                                    median, 99th percentile and maximum of their latency
//! traffic raw ADDRESS PROTOCOL       sends one packet without ports; exits when it is sent
//! traffic daemon MILLIS COMMAND…     starts an orphaned daemon that waits and runs COMMAND
//! traffic type                       puts a character into the terminal; prints the errno
//! traffic bomb COUNT                 a fork bomb of COUNT processes, which ignores SIGTERM
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["udp", to, count, size] => udp(address(to), number(count), number(size)),
        ["flows", to, count, size] => (0..number(count)).try_for_each(|_| udp(address(to), 1, number(size))),
        ["send", to, bytes] => send(address(to), number(bytes)),
        ["fetch", from] => fetch(address(from)),
        ["connect", to, millis] => connect(address(to), number(millis) as u64),
        ["serve", at] => serve(address(at)),
        ["serve-udp", at] => serve_udp(address(at)),
        ["queries", server, name, end] => queries(server, name, Path::new(end)),
        ["raw", to, protocol] => raw(to.parse().expect("an address"), number(protocol) as i32),
        ["daemon", millis, command @ ..] => daemon(number(millis) as u64, command),
        ["type"] => type_character(),
        ["bomb", count] => bomb(number(count) as u64),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "unknown traffic")),
    }
}

fn udp(to: SocketAddr, count: usize, size: usize) -> io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let (datagram, mut answer) = (vec![b'u'; size], vec![0; 65_536]);
    for _ in 0..count {
        socket.send(&datagram)?;
        let length = socket.recv(&mut answer)?;
        assert_eq!(length, size, "an echo comes back whole");
    }
    Ok(())
}

/// `server` is an address, or `resolv.conf` for the first one in there.
fn queries(server: &str, name: &str, end: &Path) -> io::Result<()> {
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf")?;
    let listed = resolv_conf.lines().find_map(|line| line.strip_prefix("nameserver "));
    let server = if server == "resolv.conf" { listed.unwrap_or_default() } else { server };
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let query = query(name);
    let mut latencies = Vec::new();
    println!("begun");
    while !end.exists() {
        let sent = Instant::now();
        socket.send(&query)?;
        socket.recv(&mut [0; 512])?;
        latencies.push(sent.elapsed().as_micros());
        thread::sleep(Duration::from_millis(2));
    }
    latencies.sort_unstable();
    let part = |hundredths: usize| latencies[(latencies.len() * hundredths / 100).min(latencies.len() - 1)];
    println!("queries {} {} {} {}", latencies.len(), part(50), part(99), part(100));
    Ok(())
}

/// For the IPv4 addresses of a name, with recursion desired.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x4e, 0x57, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn send(to: SocketAddr, bytes: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.write_all(&vec![b't'; bytes])?;
    std::process::exit(0)
}

fn fetch(from: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&from, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    println!("{}", io::copy(&mut stream, &mut io::sink())?);
    Ok(())
}

fn connect(to: SocketAddr, millis: u64) -> io::Result<()> {
    let outcome = match TcpStream::connect_timeout(&to, Duration::from_millis(millis)) {
        Ok(_) => "connected",
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused",
        Err(error) if error.kind() == ErrorKind::TimedOut => "timeout",
        Err(error) => return Err(error),
    };
    println!("{outcome}");
    Ok(())
}

fn serve(at: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listening");
    let (mut stream, client) = listener.accept()?;
    println!("{}", client.ip());
    let mut buffer = [0; 4096];
    while let length @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..length])?;
    }
    Ok(())
}

fn serve_udp(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("listening");
    let mut buffer = [0; 4096];
    let (length, client) = socket.recv_from(&mut buffer)?;
    println!("{}", client.ip());
    socket.send_to(&buffer[..length], client).map(drop)
}

/// The payload is also a header of GRE, with what NAT may write to.
fn raw(to: IpAddr, protocol: i32) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no pointer. The descriptor is closed at the exit of the process.
    let socket = Errno::result(unsafe { libc::socket(family, libc::SOCK_RAW, protocol) })?;
    sendto(socket, &[0; 16], &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    Ok(())
}

/// A fork bomb of limited size, for a user who has no other processes: every process forks whenever
/// that is permitted. Prints "full" when it is not for the first time.
fn bomb(count: u64) -> io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    setrlimit(Resource::RLIMIT_NPROC, count, count)?;
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }?;
    let first = std::process::id();
    let mut is_full = false;
    loop {
        // SAFETY: the process has one thread.
        let forked = unsafe { nix::unistd::fork() };
        if forked.is_err() {
            if !is_full && std::process::id() == first {
                println!("full");
            }
            is_full = true;
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts this program again and exits, so that the new process is an orphan in a session of its
/// own.
fn daemon(millis: u64, command: &[&str]) -> io::Result<()> {
    let delay = millis.to_string();
    if std::env::var_os("TRAFFIC_DAEMON").is_some() {
        thread::sleep(Duration::from_millis(millis));
        return Err(Command::new(command[0]).args(&command[1..]).exec());
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["daemon", &delay]).args(command).env("TRAFFIC_DAEMON", "1");
    // SAFETY: one system call between fork and exec.
    unsafe { child.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    child.spawn().map(drop)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// On standard input, which need not be a terminal.
fn type_character() -> io::Result<()> {
    // SAFETY: the kernel reads one byte.
    let typed = unsafe { libc::ioctl(0, libc::TIOCSTI, b"x".as_ptr()) };
    println!("{}", nix::errno::Errno::result(typed).map_or_else(|errno| format!("{errno:?}"), |_| "typed".to_owned()));
    Ok(())
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
