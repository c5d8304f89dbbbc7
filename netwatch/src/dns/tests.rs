//! The forwarder with real sockets: each test runs in its own thread and network namespace.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::exchange::{framed, read_message};
use super::forwarder::{Forwarder, RunningForwarder};
use super::stats::FailedExchanges;
use super::upstream::Upstream;

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

/// Waits for the local route of a new IPv6 address. The kernel adds the route from a work queue, a moment after
/// netlink has confirmed the address (addrconf_dad_work); until then, packets to it are dropped.
fn wait_until_reachable(address: &str) {
    let routes = || Command::new("ip").args("-6 route show table local".split(' ')).output().unwrap().stdout;
    while !String::from_utf8_lossy(&routes()).contains(address) {
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

/// How a made-up resolver reacts to a query.
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

/// Starts a forwarder on port 53. A child process of another test may still hold an earlier forwarder's
/// sockets, between fork and exec, so this may have to wait until the port is free.
fn forward_to(upstream: Upstream) -> RunningForwarder {
    let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
    let deadline = Instant::now() + Duration::from_secs(20);
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

#[test]
fn forwards_by_udp_and_tcp_in_both_families() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.53", Behavior::Responds { padding: 4000, after_ms: 0 }).await]);
        let question = query(7, "app.example");
        for gateway in [GATEWAY, GATEWAY6] {
            let response = query_udp((gateway, 53), &question).await;
            assert_eq!(response.len(), question.len() + 4000);
            assert_eq!(response[12..question.len()], question[12..]);
            let pipelined: Vec<_> = (0..40).map(|id| query(id, "app.example")).collect();
            let mut ids: Vec<_> =
                query_tcp((gateway, 53), &pipelined).await.iter().map(|response| response[1]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..40).collect::<Vec<u8>>());
        }
        let stats = running.stats();
        assert_eq!((stats.queries_udp, stats.queries_tcp, stats.responses), (2, 80, 82));
        assert_eq!(stats.failed, FailedExchanges::default());
    });
}

#[test]
fn forwards_the_largest_responses() {
    in_namespace(|| async {
        let question = query(7, "app.example");
        let udp = resolver("::1", Behavior::Responds { padding: 65507 - question.len(), after_ms: 0 }).await;
        let running = forward(vec![udp]);
        assert_eq!(query_udp((GATEWAY, 53), &question).await.len(), 65507);
        drop(running);
        let tcp = resolver("::1", Behavior::Responds { padding: 65535 - question.len(), after_ms: 0 }).await;
        let _running = forward(vec![tcp]);
        assert_eq!(query_tcp((GATEWAY, 53), &[question]).await[0].len(), 65535);
    });
}

#[test]
fn answers_every_query_of_a_burst() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Behavior::Responds { padding: 16, after_ms: 20 }).await]);
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20)).unwrap();
        socket.connect((GATEWAY, 53)).await.unwrap();
        let started = Instant::now();
        for id in 0..500 {
            socket.send(&query(id, "app.example")).await.unwrap();
        }
        let mut seen = std::collections::HashSet::new();
        let mut buffer = [0; 2048];
        while seen.len() < 500 {
            socket.recv(&mut buffer).await.unwrap();
            seen.insert([buffer[0], buffer[1]]);
        }
        eprintln!("500 queries: {:?}", started.elapsed());
        let stats = running.stats();
        assert_eq!((stats.queries_udp, stats.responses, stats.dropped_in_flight), (500, 500, 0));
    });
}

#[test]
fn queries_the_next_resolver_until_one_is_useful() {
    in_namespace(|| async {
        let good = resolver("127.0.0.1", RESPONDS).await;
        let closed_port: SocketAddr = "127.0.0.9:9".parse().unwrap();
        let unreachable: SocketAddr = "198.51.100.1:53".parse().unwrap();
        let failing = resolver("127.0.0.2", Behavior::Fails(2)).await;
        let running = forward(vec![closed_port, unreachable, failing, good]);
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[query(1, "app.example")]).await[0]), 0);
        let stats = running.stats();
        assert_eq!((stats.failed.refused, stats.failed.unreachable, stats.failed.unhelpful), (2, 2, 2));
        assert_eq!(stats.responses_by_resolver[&good], 2);
    });
}

/// How long the forwarder waits is tested in `resolve`, with a paused clock.
#[test]
fn queries_the_second_resolver_when_the_first_ignores_queries() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions timeout:1\n").unwrap();
        let _ignores = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let good = UdpSocket::bind("127.0.0.3:53").await.unwrap();
        let _running = forward_to(Upstream::at(&path));
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = good.recv_from(&mut buffer).await.unwrap();
            good.send_to(&response_to(&buffer[..length]), client).await.unwrap();
        });
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
    });
}

#[test]
fn returns_servfail_when_no_resolver_responds() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\noptions timeout:1\n").unwrap();
        let ignores = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let running = forward_to(Upstream::at(&path));
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 2);
        drop(ignores);
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(2, "app.example")).await), 2);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[query(3, "app.example")]).await[0]), 2);
        let stats = running.stats();
        assert_eq!((stats.servfail, stats.failed.timeout, stats.failed.refused), (3, 1, 2));
    });
}

#[test]
fn ignores_responses_to_other_queries() {
    in_namespace(|| async {
        let _running = forward(vec![resolver("127.0.0.1", Behavior::SendsForgedFirst).await]);
        let question = query(0x1234, "app.example");
        assert_eq!(query_udp((GATEWAY, 53), &question).await[..2], question[..2]);
        assert_eq!(query_tcp((GATEWAY, 53), std::slice::from_ref(&question)).await[0][..2], question[..2]);
    });
}

#[test]
fn counts_malformed_queries_and_returns_formerr() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Behavior::Ignores).await]);
        let mut two = query(9, "app.example");
        two[5] = 2;
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &two).await), 1);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[two]).await[0]), 1);
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.send_to(b"short", (GATEWAY, 53)).await.unwrap();
        assert!(query_tcp((GATEWAY, 53), &[b"short".to_vec()]).await.is_empty());
        assert_eq!(running.stats().malformed, 4);
    });
}

#[test]
fn uses_another_port_where_a_server_has_port_53_of_all_addresses() {
    for taken in ["0.0.0.0:53", "[::]:53"] {
        in_namespace(move || async move {
            let _udp = UdpSocket::bind(taken).await.unwrap();
            let _tcp = TcpListener::bind(taken).await.unwrap();
            let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
            let forwarder = Forwarder::bind(&gateways, None).unwrap();
            let ports = forwarder.listening();
            assert!(ports.iter().any(|(_, port)| *port != 53), "{taken}: {ports:?}");
            let _running = forwarder.start(Upstream::fixed(vec![resolver("::1", RESPONDS).await])).unwrap();
            for (gateway, port) in &ports {
                let gateway = gateway.to_string();
                assert_eq!(rcode(&query_udp((&gateway, *port), &query(1, "app.example")).await), 0);
                assert_eq!(query_tcp((&gateway, *port), &[query(1, "app.example")]).await.len(), 1);
            }
        });
    }
}

#[test]
fn accepts_packets_only_from_its_interface() {
    in_namespace(|| async {
        ip("link add nwtest0 type veth peer name nwtest1");
        let upstream = resolver("127.0.0.1", RESPONDS).await;
        let forwarder = Forwarder::bind(&[GATEWAY.parse().unwrap()], Some("nwtest0")).unwrap();
        let running = forwarder.start(Upstream::fixed(vec![upstream])).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.connect((GATEWAY, 53)).await.unwrap();
        socket.send(&query(1, "app.example")).await.unwrap();
        // The query arrives on lo, where no socket accepts it, so the kernel returns an ICMP error.
        let error = socket.recv(&mut [0; 512]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(TcpStream::connect((GATEWAY, 53)).await.is_err());
        assert_eq!(running.stats().queries_udp, 0);
    });
}

/// A resolver in a thread of its own, which ends when `queries` have been answered.
fn blocking_resolver(queries: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let serve = move || {
        let mut buffer = [0; 512];
        for _ in 0..queries {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&response_to(&buffer[..length]), client).unwrap();
        }
    };
    (address, std::thread::spawn(serve))
}

#[test]
fn answers_while_the_calling_thread_is_blocked() {
    in_namespace(|| async {
        let (upstream, thread) = blocking_resolver(QUERIES_OF_BLOCKING_CLIENT.into());
        let running = forward(vec![upstream]);
        // Blocks this thread, and with it the runtime that started the forwarder.
        let response = query_blocking((GATEWAY.parse::<IpAddr>().unwrap(), 53).into());
        assert_eq!(rcode(&response), 0);
        thread.join().unwrap();
        assert_eq!(running.stats().responses, u64::from(QUERIES_OF_BLOCKING_CLIENT));
    });
}

#[test]
fn dropping_the_forwarder_frees_its_ports() {
    in_namespace(|| async {
        for _ in 0..20 {
            let running = forward(vec![resolver("127.0.0.1", RESPONDS).await]);
            assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
            // The next iteration checks that port 53 is free.
            drop(running);
        }
    });
}

#[test]
fn signals_are_blocked_in_its_thread() {
    in_namespace(|| async {
        let _running = forward(Vec::new());
        let mut masks = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            // Threads of other tests may end meanwhile.
            let Ok(name) = std::fs::read_to_string(task.join("comm")) else { continue };
            let Ok(status) = std::fs::read_to_string(task.join("status")) else { continue };
            if name == "dns\n" {
                let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
                masks.push(u64::from_str_radix(mask.trim(), 16).unwrap());
            }
        }
        let handled = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGXFSZ];
        assert!(!masks.is_empty());
        for mask in masks {
            assert!(handled.iter().all(|signal| mask & 1 << (signal - 1) != 0), "{mask:x}");
        }
    });
}

/// Queries each server by UDP from a namespace at the other end of `link`, with blocking sockets. Returns the
/// last response of each.
fn query_through_link(link: &'static str, servers: Vec<SocketAddr>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
    let (report_id, thread_id) = std::sync::mpsc::channel();
    let (link_moved, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        report_id.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        ip(&format!("address add 203.0.113.2/30 dev {link}"));
        ip(&format!("address add 2001:db8:1::2/126 dev {link} nodad"));
        ip(&format!("link set {link} up"));
        servers.into_iter().map(query_blocking).collect()
    });
    ip(&format!("link set {link} netns {}", thread_id.recv().unwrap()));
    link_moved.send(()).unwrap();
    thread
}

/// How many queries [`query_blocking`] sends.
const QUERIES_OF_BLOCKING_CLIENT: u8 = 100;

/// Sends queries to `server` one after the other; returns the last response.
fn query_blocking(server: SocketAddr) -> Vec<u8> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(server).unwrap();
    let mut buffer = [0; 2048];
    let mut length = 0;
    let started = Instant::now();
    for id in 0..QUERIES_OF_BLOCKING_CLIENT {
        socket.send(&query(id.into(), "app.example")).unwrap();
        length = socket.recv(&mut buffer).unwrap();
    }
    eprintln!("{server}: {:?} a query", started.elapsed() / u32::from(QUERIES_OF_BLOCKING_CLIENT));
    buffer[..length].to_vec()
}

#[test]
fn serves_a_namespace_through_its_link() {
    in_namespace(|| async {
        ip(&format!("address flush to {GATEWAY}"));
        ip(&format!("address flush to {GATEWAY6}"));
        ip("link add nwtest0 type veth peer name nwtest1");
        ip(&format!("address add {GATEWAY}/30 dev nwtest0"));
        ip(&format!("address add {GATEWAY6}/126 dev nwtest0 nodad"));
        ip("link set nwtest0 up");
        let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
        let forwarder = Forwarder::bind(&gateways, Some("nwtest0")).unwrap();
        let running = forwarder.start(Upstream::fixed(vec![resolver("127.0.0.53", RESPONDS).await])).unwrap();
        let servers = running.listening().iter().map(|at| SocketAddr::from(*at)).collect();
        let responses =
            tokio::task::spawn_blocking(|| query_through_link("nwtest1", servers).join().unwrap()).await.unwrap();
        assert!(responses.iter().all(|response| rcode(response) == 0 && response[1] == 99));
        assert_eq!(running.stats().queries_udp, 200);
    });
}

/// A child process that is killed when this is dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts dnsmasq on 127.0.0.53, the address of systemd-resolved.
async fn dnsmasq() -> Option<KillOnDrop> {
    let texts: Vec<String> = (0..15).map(|n| format!("{n:03}{}", "x".repeat(240))).collect();
    let child = Command::new("dnsmasq")
        .args(
            "--no-daemon --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --pid-file= --user=root"
                .split(' '),
        )
        .args(["--listen-address=127.0.0.53", "--local=/example/", "--edns-packet-max=4096"])
        .arg("--txt-record=app.example,hello")
        .arg(format!("--txt-record=big.example,{}", texts.join(",")))
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        eprintln!("skipped: dnsmasq is not installed");
        return None;
    };
    let child = KillOnDrop(child);
    for _ in 0..200 {
        if TcpStream::connect("127.0.0.53:53").await.is_ok() {
            return Some(child);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("dnsmasq does not accept connections");
}

#[test]
fn forwards_to_a_real_server() {
    in_namespace(|| async {
        let Some(_server) = dnsmasq().await else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.53\noptions edns0 trust-ad\n").unwrap();
        let running = forward_to(Upstream::at(&path));
        assert_eq!(running.resolvers(), ["127.0.0.53:53".parse().unwrap()]);
        let small = query_udp((GATEWAY6, 53), &query(1, "app.example")).await;
        assert!(small.ends_with(b"\x05hello"));
        let big = query(2, "big.example");
        let cut = query_udp((GATEWAY, 53), &big).await;
        assert!(cut[2] & 0x02 != 0 && cut.len() <= 512, "truncated without EDNS");
        assert!(query_tcp((GATEWAY, 53), std::slice::from_ref(&big)).await[0].len() > 3600);
        let mut with_edns = big.clone();
        with_edns[11] = 1;
        with_edns.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        let whole = query_udp((GATEWAY, 53), &with_edns).await;
        assert!(whole[2] & 0x02 == 0 && whole.len() > 3600, "whole with EDNS 4096: {}", whole.len());
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(3, "no.example")).await), 3);
    });
}
