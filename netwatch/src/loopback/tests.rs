//! The proxy between two namespaces: connections and datagrams reach the host's services,
//! regardless of what its peers do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

use super::{LoopbackCounts, LoopbackSockets, RunningProxy};
use crate::host::namespace::Namespace;
use crate::host::testing::in_fresh_namespace;
use crate::undo::{Exclusive, Journal, RunDir};

/// Bounds every wait for a peer.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for [`RunningProxy::finish`] in tests that have something to wait for.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

const TCP: [&str; 2] = ["127.0.0.1:5432", "[::1]:5432"];
const UDP: [&str; 2] = ["127.0.0.1:5353", "[::1]:5353"];

/// A host, and a namespace whose proxy serves [`TCP`] and [`UDP`].
struct Proxied {
    namespace: Namespace,
    proxy: RunningProxy,
}

impl Proxied {
    fn start() -> Self {
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
        namespace.run_in(|| crate::host::testing::ip("link set lo up")).unwrap();
        let services = TCP.map(|at| format!("tcp {at}")).into_iter().chain(UDP.map(|at| format!("udp {at}")));
        let services: Vec<_> = services.map(|text| text.parse().unwrap()).collect();
        let sockets = LoopbackSockets::bind(&namespace, &services).unwrap();
        assert_eq!(sockets.services(), services);
        Self { namespace, proxy: RunningProxy::start(sockets).unwrap() }
    }

    fn connect(&self, to: &str) -> TcpStream {
        let stream = self.namespace.run_in(|| TcpStream::connect(to).unwrap()).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream
    }

    fn udp(&self, to: &str) -> UdpSocket {
        let to: SocketAddr = to.parse().unwrap();
        let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = self.namespace.run_in(|| UdpSocket::bind(any).unwrap()).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket
    }

    fn finish(self) -> LoopbackCounts {
        self.proxy.finish(FINISH_TIMEOUT)
    }
}

/// Accepts a connection, reads to its end, and answers with what it read.
fn answer_at_the_end(listener: TcpListener) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        stream.write_all(&read).unwrap();
        read
    })
}

/// Binds a UDP socket as a program that wants to share the port.
fn bind_reusing(at: &str) -> nix::Result<()> {
    let at: SocketAddr = at.parse().unwrap();
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))
}

#[test]
fn no_program_of_the_namespace_can_share_a_port_of_the_proxy() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        for at in UDP.into_iter().chain(["0.0.0.0:5353", "[::]:5353"]) {
            let bound = proxied.namespace.run_in(|| bind_reusing(at)).unwrap();
            assert_eq!(bound, Err(Errno::EADDRINUSE), "{at}");
        }
        proxied.finish();
    });
}

#[test]
fn a_half_closed_connection_stays_half_closed() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        for at in TCP {
            let server = answer_at_the_end(TcpListener::bind(at).unwrap());
            let mut client = proxied.connect(at);
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "question", "{at}");
            server.join().unwrap();
        }
        assert_eq!(proxied.finish(), LoopbackCounts { connections: 2, ..LoopbackCounts::default() });
    });
}

#[test]
fn a_refused_connection_is_reset_and_counted_and_the_other_family_is_tried() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        let mut refused = proxied.connect(TCP[1]);
        assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let server = answer_at_the_end(TcpListener::bind(TCP[0]).unwrap());
        proxied.connect(TCP[1]).write_all(b"x").unwrap();
        assert_eq!(server.join().unwrap(), b"x");
        let counts = proxied.finish();
        assert_eq!((counts.refused, counts.connections, counts.cut_off), (1, 1, 0), "{counts:?}");
        assert!(counts.last_refusal.unwrap().starts_with("tcp [::1]:5432: Connection refused"));
    });
}

#[test]
fn what_was_sent_before_the_end_arrives_at_a_slow_service() {
    in_fresh_namespace(|| {
        const SENT: usize = 300_000;
        let proxied = Proxied::start();
        let listener = TcpListener::bind(TCP[0]).unwrap();
        let mut client = proxied.connect(TCP[0]);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&vec![7; SENT]).unwrap();
        drop(client);
        let server = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut read = Vec::new();
            server.read_to_end(&mut read).unwrap();
            read.len()
        });
        assert_eq!(proxied.finish().cut_off, 0);
        assert_eq!(server.join().unwrap(), SENT);
    });
}

#[test]
fn a_service_that_reads_nothing_delays_the_end_by_the_limit_only() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        let listener = TcpListener::bind(TCP[0]).unwrap();
        let mut client = proxied.connect(TCP[0]);
        let _reads_nothing = listener.accept().unwrap();
        // All buffers are full when nothing can be written for this long.
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while client.write(&[7; 64 * 1024]).is_ok() {}
        assert_eq!(proxied.proxy.finish(Duration::from_millis(50)).cut_off, 1);
    });
}

#[test]
fn an_idle_connection_does_not_delay_the_end() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        let listener = TcpListener::bind(TCP[0]).unwrap();
        let _client = proxied.connect(TCP[0]);
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(proxied.proxy.finish(Duration::from_secs(3600)).cut_off, 0);
        assert_eq!(server.read(&mut [0]).unwrap(), 0, "closed");
    });
}

#[test]
fn connections_beyond_the_limit_wait() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        let listener = TcpListener::bind(TCP[0]).unwrap();
        // More than the proxy serves at a time. Each is echoed and closed in turn.
        const CLIENTS: usize = 300;
        let clients: Vec<_> = (0..CLIENTS).map(|_| proxied.connect(TCP[0])).collect();
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(CLIENTS) {
                stream.unwrap().write_all(b"x").unwrap();
            }
        });
        for mut client in clients {
            client.read_exact(&mut [0]).unwrap();
        }
        server.join().unwrap();
        let counts = proxied.finish();
        assert_eq!((counts.connections, counts.refused, counts.cut_off), (CLIENTS as u64, 0, 0));
    });
}

#[test]
fn datagrams_and_their_answers_keep_their_clients() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        for at in UDP {
            let server = UdpSocket::bind(at).unwrap();
            server.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
            let clients = [proxied.udp(at), proxied.udp(at)];
            for (number, client) in clients.iter().enumerate() {
                client.send(&vec![number as u8; 60_000]).unwrap();
            }
            let mut buffer = vec![0; 65_536];
            for _ in &clients {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&buffer[..length], from).unwrap();
            }
            for (number, client) in clients.iter().enumerate() {
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!((length, buffer[0]), (60_000, number as u8), "{at}");
            }
        }
        assert_eq!(proxied.finish(), LoopbackCounts::default());
    });
}

#[test]
fn a_refused_datagram_is_counted() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        proxied.udp(UDP[0]).send(b"x").unwrap();
        let refused = || proxied.proxy.counts().dropped_datagrams == 1;
        let deadline = std::time::Instant::now() + WAIT_TIMEOUT;
        while !refused() {
            assert!(std::time::Instant::now() < deadline);
            thread::yield_now();
        }
    });
}

#[test]
fn new_clients_replace_the_oldest() {
    in_fresh_namespace(|| {
        let proxied = Proxied::start();
        let server = UdpSocket::bind(UDP[0]).unwrap();
        server.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        const CLIENTS: usize = 300;
        let clients: Vec<_> = (0..CLIENTS).map(|_| proxied.udp(UDP[0])).collect();
        for client in &clients {
            client.send(b"x").unwrap();
            server.recv(&mut [0]).unwrap();
        }
        let counts = proxied.finish();
        assert!(counts.evicted_clients > 0 && counts.dropped_datagrams == 0, "{counts:?}");
    });
}
