//! The sockets and the thread of the forwarder, and real servers and links.

use std::process::{Child, Stdio};

use super::*;

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
        assert_eq!(running.status().stats().queries_udp, 0);
    });
}

#[test]
fn answers_only_its_client() {
    in_namespace(|| async {
        let upstream = resolver("127.0.0.1", RESPONDS).await;
        ip("link add nwtest0 type veth peer name nwtest1");
        ip("addr add 192.0.2.1/30 dev nwtest0");
        ip("addr add 192.0.2.5/30 dev nwtest0");
        ip("link set nwtest0 up");
        let start = |gateway: &str, client: &str| {
            let forwarder = Forwarder::bind(&[gateway.parse().unwrap()], Some("nwtest0")).unwrap();
            forwarder.only_for(client.parse().unwrap()).start(Upstream::fixed(vec![upstream])).unwrap()
        };
        // For the kernel, what a program of the host sends to the address arrives by its interface.
        let _of_the_host = start("192.0.2.1", "192.0.2.1");
        assert_eq!(rcode(&query_udp(("192.0.2.1", 53), &query(1, "app.example")).await), 0);
        let running = start("192.0.2.5", "192.0.2.6");
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.connect("192.0.2.5:53").await.unwrap();
        socket.send(&query(2, "app.example")).await.unwrap();
        let mut stream = TcpStream::connect("192.0.2.5:53").await.unwrap();
        assert_eq!(stream.read(&mut [0; 512]).await.unwrap(), 0, "closed");
        while running.status().stats().strangers < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = running.status().stats();
        assert_eq!((stats.queries_udp, stats.queries_tcp, stats.responses), (0, 0, 0));
        assert_eq!(socket.try_recv(&mut [0; 512]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    });
}

/// A resolver in its own thread, which ends when `queries` have been answered.
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
        assert_eq!(running.status().stats().responses, u64::from(QUERIES_OF_BLOCKING_CLIENT));
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

/// Queries each server by UDP from a namespace at the other end of `link`, with blocking sockets.
/// Returns the last response of each.
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
        assert_eq!(running.status().stats().queries_udp, 200);
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
    let accepts = async {
        while TcpStream::connect("127.0.0.53:53").await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, accepts).await.expect("dnsmasq does not accept connections");
    Some(child)
}

#[test]
fn forwards_to_a_real_server() {
    in_namespace(|| async {
        let Some(_server) = dnsmasq().await else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.53\noptions edns0 trust-ad\n").unwrap();
        let running = forward_to(Upstream::at(&path));
        assert_eq!(running.status().resolvers(), ["127.0.0.53:53".parse().unwrap()]);
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
