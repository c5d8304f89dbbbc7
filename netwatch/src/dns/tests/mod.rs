//! The forwarder with real sockets: each test runs in its own thread and network namespace.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::exchange::{framed, read_message};
use super::forwarder::{Forwarder, RunningForwarder};
use super::upstream::Upstream;

mod forwarding;
mod load;
mod sockets;

const GATEWAY: &str = "203.0.113.1";
const GATEWAY6: &str = "2001:db8:1::1";

/// Runs `test` in a new namespace. Its loopback interface also has the gateway addresses.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip(&format!("address add {GATEWAY}/32 dev lo"));
        ip(&format!("address add {GATEWAY6}/128 dev lo nodad"));
        wait_until_reachable(GATEWAY6);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            tokio::time::timeout(Duration::from_secs(30), test()).await.expect("the test is complete within 30 s");
        });
    };
    std::thread::spawn(body).join().unwrap();
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// Bounds every wait for a condition.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for the local route of a new IPv6 address. The kernel adds the route from a work queue, a
/// moment after netlink has confirmed the address (addrconf_dad_work); until then, packets to it
/// are dropped.
fn wait_until_reachable(address: &str) {
    let routes = || Command::new("ip").args("-6 route show table local".split(' ')).output().unwrap().stdout;
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !String::from_utf8_lossy(&routes()).contains(address) {
        assert!(Instant::now() < deadline, "{address} is not reachable");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00");
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(b"\x00\x00\x10\x00\x01");
    message
}

fn rcode(response: &[u8]) -> u8 {
    response[3] & 0x0f
}

/// How a simulated resolver reacts to a query.
#[derive(Debug, Clone, Copy)]
enum Behavior {
    /// Responds after `after_ms`, with `padding` bytes after the question.
    Responds { padding: usize, after_ms: u64 },
    /// Responds with this RCODE.
    Fails(u8),
    /// Sends a response with another id first, then the right one.
    SendsForgedFirst,
    /// Never responds.
    Ignores,
}

impl Behavior {
    async fn responses(self, query: &[u8]) -> Vec<Vec<u8>> {
        let mut response = response_to(query);
        match self {
            Self::Responds { padding, after_ms } => {
                if after_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                }
                response.resize(response.len() + padding, 0x5a);
            }
            Self::Fails(code) => response[3] |= code,
            Self::SendsForgedFirst => {
                let mut forged = response.clone();
                forged[0] ^= 0xff;
                return vec![forged, response];
            }
            Self::Ignores => return Vec::new(),
        }
        vec![response]
    }
}

/// The query with the bits of a response, and "recursion available".
fn response_to(query: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] |= 0x80;
    response[3] |= 0x80;
    response
}

const RESPONDS: Behavior = Behavior::Responds { padding: 16, after_ms: 0 };

async fn resolver(address: &str, behavior: Behavior) -> SocketAddr {
    let udp = Arc::new(UdpSocket::bind((address, 0)).await.unwrap());
    // Packets that a burst loses here must not count against the forwarder.
    nix::sys::socket::setsockopt(&udp, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20)).unwrap();
    let at = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let (udp, query) = (Arc::clone(&udp), buffer[..length].to_vec());
            tokio::spawn(async move {
                for response in behavior.responses(&query).await {
                    udp.send_to(&response, client).await.unwrap();
                }
            });
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(query) = read_message(&mut stream).await {
                    for response in behavior.responses(&query).await {
                        stream.write_all(&framed(&response)).await.unwrap();
                    }
                }
            });
        }
    });
    at
}

fn forward(to: Vec<SocketAddr>) -> RunningForwarder {
    forward_to(Upstream::fixed(to))
}

/// Starts a forwarder on port 53. A child process of another test may still hold an earlier
/// forwarder's sockets, between fork and exec, so this may have to wait until the port is free.
fn forward_to(upstream: Upstream) -> RunningForwarder {
    let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        let forwarder = Forwarder::bind(&gateways, None).unwrap();
        if forwarder.listening() == gateways.map(|gateway| (gateway, 53)) {
            return forwarder.start(upstream).unwrap();
        }
        assert!(Instant::now() < deadline, "port 53 is not free: {:?}", forwarder.listening());
        drop(forwarder);
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn query_udp(server: (&str, u16), message: &[u8]) -> Vec<u8> {
    let any = if server.0.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    // Connected: the kernel discards a response from another address than the one queried.
    socket.connect(server).await.unwrap();
    socket.send(message).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

async fn query_tcp(server: (&str, u16), messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let all: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut responses = Vec::new();
    while let Ok(response) = read_message(&mut stream).await {
        responses.push(response);
    }
    responses
}
