//! Servers for traffic of exactly known size, as threads of the test: echo, sink, source.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::addresses::*;
use crate::namespace::TestNamespace;

/// Interval at which a server checks whether it has to end.
const TICK: Duration = Duration::from_millis(20);

/// The running servers. They end when this is dropped.
#[derive(Debug)]
pub struct TrafficServers {
    stop: Arc<AtomicBool>,
    sunk: Arc<Mutex<Vec<u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl TrafficServers {
    /// Starts all servers on both addresses of the application server. They listen when this
    /// returns.
    pub fn start(inet: &TestNamespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sunk = Arc::new(Mutex::new(Vec::new()));
        let mut threads = Vec::new();
        for address in [IpAddr::V4(APP_V4), IpAddr::V6(APP_V6)] {
            let bound =
                inet.inside(move || ServerSockets::bind(address)).join().expect("the thread ends").expect("bind");
            threads.extend(bound.serve(&stop, &sunk));
        }
        Self { stop, sunk, threads }
    }

    /// Bytes of each finished connection to the sink.
    pub fn sunk(&self) -> Vec<u64> {
        self.sunk.lock().expect("no thread panics with the lock").clone()
    }
}

impl Drop for TrafficServers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct ServerSockets {
    udp_echo: UdpSocket,
    tcp_echo: TcpListener,
    sink: TcpListener,
    source: TcpListener,
}

impl ServerSockets {
    fn bind(address: IpAddr) -> io::Result<Self> {
        let at = |port| SocketAddr::new(address, port);
        let listen = |port| {
            let listener = TcpListener::bind(at(port))?;
            listener.set_nonblocking(true).map(|()| listener)
        };
        let udp_echo = UdpSocket::bind(at(ECHO))?;
        udp_echo.set_read_timeout(Some(TICK))?;
        Ok(Self { udp_echo, tcp_echo: listen(ECHO)?, sink: listen(SINK)?, source: listen(SOURCE)? })
    }

    fn serve(self, stop: &Arc<AtomicBool>, sunk: &Arc<Mutex<Vec<u64>>>) -> Vec<JoinHandle<()>> {
        let (udp_stop, sunk) = (Arc::clone(stop), Arc::clone(sunk));
        vec![
            thread::spawn(move || echo_datagrams(&self.udp_echo, &udp_stop)),
            accept(self.tcp_echo, stop, echo_stream),
            accept(self.sink, stop, move |mut stream| {
                let bytes = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
                sunk.lock().expect("no thread panics with the lock").push(bytes);
            }),
            accept(self.source, stop, |mut stream| {
                let _ = stream.write_all(&vec![b'x'; SOURCE_BYTES]);
            }),
        ]
    }
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Each connection has a thread of its own with timeouts, because the peer may disappear with its
/// namespace.
fn accept<F>(listener: TcpListener, stop: &Arc<AtomicBool>, serve: F) -> JoinHandle<()>
where
    F: Fn(TcpStream) + Clone + Send + 'static,
{
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let serve = serve.clone();
                    thread::spawn(move || prepare(&stream).map(|()| serve(stream)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK / 4),
                Err(_) => thread::sleep(TICK),
            }
        }
    })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))
}
