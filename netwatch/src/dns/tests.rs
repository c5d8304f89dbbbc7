//! The forwarder against real sockets: each test in a network namespace of its own, made by a thread of its own.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::exchange::{framed, read_message};
use super::forwarder::{Forwarder, Running};
use super::upstream::Upstream;

const GATEWAY: &str = "203.0.113.1";
const GATEWAY6: &str = "2001:db8:1::1";

/// Runs this in a fresh namespace whose loopback also has the gateway addresses.
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
        until_reachable(GATEWAY6);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            tokio::time::timeout(Duration::from_secs(30), test()).await.expect("the test ends in time");
        });
    };
    std::thread::spawn(body).join().unwrap();
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// An IPv6 address is there when netlink says so, but its local route comes from a work queue a moment later (addrconf_dad_work); until then,
/// packets to it are dropped.
fn until_reachable(address: &str) {
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

fn rcode(answer: &[u8]) -> u8 {
    answer[3] & 0x0f
}

/// How a made-up resolver behaves.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Answers, with so many bytes of padding behind the question, after so many milliseconds.
    Answers { padding: usize, after_ms: u64 },
    /// Says this RCODE.
    Says(u8),
    /// Says first something that answers another question.
    Lies,
    /// Says nothing.
    Silent,
}

impl Manner {
    async fn answers(self, query: &[u8]) -> Vec<Vec<u8>> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[3] |= 0x80;
        match self {
            Self::Answers { padding, after_ms } => {
                if after_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                }
                answer.resize(answer.len() + padding, 0x5a);
            }
            Self::Says(code) => answer[3] |= code,
            Self::Lies => {
                let mut lie = answer.clone();
                lie[0] ^= 0xff;
                return vec![lie, answer];
            }
            Self::Silent => return Vec::new(),
        }
        vec![answer]
    }
}

const PLAIN: Manner = Manner::Answers { padding: 16, after_ms: 0 };

async fn resolver(address: &str, manner: Manner) -> SocketAddr {
    let udp = Arc::new(UdpSocket::bind((address, 0)).await.unwrap());
    let at = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let (udp, query) = (Arc::clone(&udp), buffer[..length].to_vec());
            tokio::spawn(async move {
                for answer in manner.answers(&query).await {
                    udp.send_to(&answer, client).await.unwrap();
                }
            });
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(query) = read_message(&mut stream).await {
                    for answer in manner.answers(&query).await {
                        stream.write_all(&framed(&answer)).await.unwrap();
                    }
                }
            });
        }
    });
    at
}

fn forward(to: Vec<SocketAddr>) -> Running {
    forward_to(Upstream::fixed(to))
}

fn forward_to(upstream: Upstream) -> Running {
    let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
    let forwarder = Forwarder::bind(&gateways, None).unwrap();
    assert_eq!(forwarder.listening(), gateways.map(|gateway| (gateway, 53)));
    forwarder.run(upstream).unwrap()
}

async fn ask_udp(server: (&str, u16), message: &[u8]) -> Vec<u8> {
    let any = if server.0.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    // Connected: an answer from another address than the one asked would not be heard.
    socket.connect(server).await.unwrap();
    socket.send(message).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask_tcp(server: (&str, u16), messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let all: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    while let Ok(answer) = read_message(&mut stream).await {
        answers.push(answer);
    }
    answers
}

#[test]
fn forwards_by_udp_and_tcp_in_both_families() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.53", Manner::Answers { padding: 4000, after_ms: 0 }).await]);
        let question = query(7, "app.example");
        for gateway in [GATEWAY, GATEWAY6] {
            let answer = ask_udp((gateway, 53), &question).await;
            assert_eq!(answer.len(), question.len() + 4000);
            assert_eq!(answer[12..question.len()], question[12..]);
            let pipelined: Vec<_> = (0..40).map(|id| query(id, "app.example")).collect();
            let mut ids: Vec<_> = ask_tcp((gateway, 53), &pipelined).await.iter().map(|answer| answer[1]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..40).collect::<Vec<u8>>());
        }
        let stats = running.stats();
        assert_eq!((stats.queries_udp, stats.queries_tcp, stats.answers), (2, 80, 82));
        assert_eq!(serde_json::to_value(&stats).unwrap()["failed"]["timeout"], 0);
    });
}

#[test]
fn the_largest_answers_pass() {
    in_namespace(|| async {
        let question = query(7, "app.example");
        let udp = resolver("::1", Manner::Answers { padding: 65507 - question.len(), after_ms: 0 }).await;
        let running = forward(vec![udp]);
        assert_eq!(ask_udp((GATEWAY, 53), &question).await.len(), 65507);
        drop(running);
        let tcp = resolver("::1", Manner::Answers { padding: 65535 - question.len(), after_ms: 0 }).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let _running = forward(vec![tcp]);
        assert_eq!(ask_tcp((GATEWAY, 53), &[question]).await[0].len(), 65535);
    });
}

#[test]
fn five_hundred_at_once_are_all_answered() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Manner::Answers { padding: 16, after_ms: 20 }).await]);
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
        assert_eq!((stats.queries_udp, stats.answers, stats.dropped_in_flight), (500, 500, 0));
    });
}

#[test]
fn a_resolver_that_helps_is_found() {
    in_namespace(|| async {
        let good = resolver("127.0.0.1", PLAIN).await;
        let nobody: SocketAddr = "127.0.0.9:9".parse().unwrap();
        let nowhere: SocketAddr = "198.51.100.1:53".parse().unwrap();
        let sorry = resolver("127.0.0.2", Manner::Says(2)).await;
        let running = forward(vec![nobody, nowhere, sorry, good]);
        let started = Instant::now();
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
        assert_eq!(rcode(&ask_tcp((GATEWAY, 53), &[query(1, "app.example")]).await[0]), 0);
        assert!(started.elapsed() < Duration::from_millis(500), "a clear no hands over at once");
        let stats = running.stats();
        assert_eq!((stats.failed.refused, stats.failed.unreachable, stats.failed.unhelpful), (2, 2, 2));
        assert_eq!(stats.answers_by_resolver[&good], 2);
    });
}

#[test]
fn a_dead_first_resolver_costs_its_share_of_the_clients_patience() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions timeout:1\n").unwrap();
        let dead = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let good = UdpSocket::bind("127.0.0.3:53").await.unwrap();
        let _running = forward_to(Upstream::at(&path));
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = good.recv_from(&mut buffer).await.unwrap();
            let answer = PLAIN.answers(&buffer[..length]).await;
            good.send_to(&answer[0], client).await.unwrap();
        });
        let started = Instant::now();
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
        let took = started.elapsed();
        assert!((400..900).contains(&took.as_millis()), "half of nine tenths of a second: {took:?}");
        drop(dead);
    });
}

#[test]
fn when_nobody_answers_the_client_hears_so_before_it_gives_up() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\noptions timeout:2\n").unwrap();
        let dead = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let running = forward_to(Upstream::at(&path));
        let started = Instant::now();
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &query(1, "app.example")).await), 2);
        assert!((1750..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        drop(dead);
        let started = Instant::now();
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &query(2, "app.example")).await), 2);
        assert_eq!(rcode(&ask_tcp((GATEWAY, 53), &[query(3, "app.example")]).await[0]), 2);
        assert!(started.elapsed() < Duration::from_millis(200), "refused is known at once");
        let stats = running.stats();
        assert_eq!((stats.servfail, stats.failed.timeout, stats.failed.refused), (3, 1, 2));
    });
}

#[test]
fn answers_to_other_questions_are_not_taken() {
    in_namespace(|| async {
        let _running = forward(vec![resolver("127.0.0.1", Manner::Lies).await]);
        let question = query(0x1234, "app.example");
        assert_eq!(ask_udp((GATEWAY, 53), &question).await[..2], question[..2]);
        assert_eq!(ask_tcp((GATEWAY, 53), std::slice::from_ref(&question)).await[0][..2], question[..2]);
    });
}

#[test]
fn what_is_no_query_is_counted_and_told_so() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Manner::Silent).await]);
        let mut two = query(9, "app.example");
        two[5] = 2;
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &two).await), 1);
        assert_eq!(rcode(&ask_tcp((GATEWAY, 53), &[two]).await[0]), 1);
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.send_to(b"short", (GATEWAY, 53)).await.unwrap();
        assert!(ask_tcp((GATEWAY, 53), &[b"short".to_vec()]).await.is_empty());
        assert_eq!(running.stats().malformed, 4);
    });
}

#[test]
fn beside_a_server_on_all_addresses_a_port_of_our_own() {
    in_namespace(|| async {
        for taken in ["0.0.0.0:53", "[::]:53"] {
            let udp = UdpSocket::bind(taken).await.unwrap();
            let tcp = TcpListener::bind(taken).await.unwrap();
            let gateways: [IpAddr; 2] = [GATEWAY.parse().unwrap(), GATEWAY6.parse().unwrap()];
            let forwarder = Forwarder::bind(&gateways, None).unwrap();
            let ports = forwarder.listening();
            assert!(ports.iter().any(|(_, port)| *port != 53), "{taken}: {ports:?}");
            let running = forwarder.run(Upstream::fixed(vec![resolver("::1", PLAIN).await])).unwrap();
            for (gateway, port) in &ports {
                let gateway = gateway.to_string();
                assert_eq!(rcode(&ask_udp((&gateway, *port), &query(1, "app.example")).await), 0);
                assert_eq!(ask_tcp((&gateway, *port), &[query(1, "app.example")]).await.len(), 1);
            }
            drop((udp, tcp, running));
            // The tasks end, and close their sockets, when they are next scheduled.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn hears_only_its_interface() {
    in_namespace(|| async {
        ip("link add nwtest0 type veth peer name nwtest1");
        let upstream = resolver("127.0.0.1", PLAIN).await;
        let elsewhere = Forwarder::bind(&[GATEWAY.parse().unwrap()], Some("nwtest0")).unwrap();
        let running = elsewhere.run(Upstream::fixed(vec![upstream])).unwrap();
        let asked = tokio::time::timeout(
            Duration::from_millis(200),
            tokio::spawn(async {
                let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
                socket.send_to(&query(1, "app.example"), (GATEWAY, 53)).await.unwrap();
                socket.recv(&mut [0; 512]).await
            }),
        );
        assert!(asked.await.is_err(), "came in by lo, so from this host");
        assert!(TcpStream::connect((GATEWAY, 53)).await.is_err());
        assert_eq!(running.stats().queries_udp, 0);
    });
}

/// Asks from a namespace at the other end of a link, with blocking sockets; returns the answers of all servers by UDP.
fn asked_from_beyond(link: &'static str, servers: Vec<SocketAddr>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
    let (say, hear) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        say.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        ip(&format!("address add 203.0.113.2/30 dev {link}"));
        ip(&format!("address add 2001:db8:1::2/126 dev {link} nodad"));
        ip(&format!("link set {link} up"));
        servers.into_iter().map(ask_blocking).collect()
    });
    ip(&format!("link set {link} netns {}", hear.recv().unwrap()));
    go.send(()).unwrap();
    thread
}

fn ask_blocking(server: SocketAddr) -> Vec<u8> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(server).unwrap();
    let mut buffer = [0; 2048];
    let mut length = 0;
    let started = Instant::now();
    for id in 0..100 {
        socket.send(&query(id, "app.example")).unwrap();
        length = socket.recv(&mut buffer).unwrap();
    }
    eprintln!("{server}: {:?} a query", started.elapsed() / 100);
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
        let running = forwarder.run(Upstream::fixed(vec![resolver("127.0.0.53", PLAIN).await])).unwrap();
        let servers = running.listening().iter().map(|at| SocketAddr::from(*at)).collect();
        let answers =
            tokio::task::spawn_blocking(|| asked_from_beyond("nwtest1", servers).join().unwrap()).await.unwrap();
        assert!(answers.iter().all(|answer| rcode(answer) == 0 && answer[1] == 99));
        assert_eq!(running.stats().queries_udp, 200);
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real one on 127.0.0.53, as systemd-resolved would be.
async fn dnsmasq() -> Option<Killed> {
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
    let child = Killed(child);
    for _ in 0..200 {
        if TcpStream::connect("127.0.0.53:53").await.is_ok() {
            return Some(child);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("dnsmasq does not answer");
}

#[test]
fn a_real_server_answers_through_it() {
    in_namespace(|| async {
        let Some(_server) = dnsmasq().await else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.53\noptions edns0 trust-ad\n").unwrap();
        let running = forward_to(Upstream::at(&path));
        assert_eq!(running.resolvers(), ["127.0.0.53:53".parse().unwrap()]);
        let small = ask_udp((GATEWAY6, 53), &query(1, "app.example")).await;
        assert!(small.ends_with(b"\x05hello"));
        let big = query(2, "big.example");
        let cut = ask_udp((GATEWAY, 53), &big).await;
        assert!(cut[2] & 0x02 != 0 && cut.len() <= 512, "truncated without EDNS");
        assert!(ask_tcp((GATEWAY, 53), std::slice::from_ref(&big)).await[0].len() > 3600);
        let mut with_edns = big.clone();
        with_edns[11] = 1;
        with_edns.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        let whole = ask_udp((GATEWAY, 53), &with_edns).await;
        assert!(whole[2] & 0x02 == 0 && whole.len() > 3600, "whole with EDNS 4096: {}", whole.len());
        assert_eq!(rcode(&ask_udp((GATEWAY, 53), &query(3, "no.example")).await), 3);
    });
}
