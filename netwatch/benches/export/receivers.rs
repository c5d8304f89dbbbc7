//! Receivers on the loopback that count bytes and keep nothing. Their threads have one name, so
//! that their CPU time is not that of a consumer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The name of the threads.
pub const RECEIVER: &str = "receiver";
/// Time between two scrapes. The default of Prometheus is a minute.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(5);
const ANY_PORT: &str = "127.0.0.1:0";

/// Counts what receivers get. They run until the process ends.
#[derive(Clone, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Starts a receiver of datagrams.
    pub fn udp(&self) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind(ANY_PORT)?;
        let (address, received) = (socket.local_addr()?, self.clone());
        start(move || {
            let mut buffer = [0; 65_536];
            while let Ok(length) = socket.recv(&mut buffer) {
                received.add(length);
            }
        })?;
        Ok(address)
    }

    /// Starts a receiver of a stream.
    pub fn tcp(&self) -> io::Result<SocketAddr> {
        self.listen(|received, mut stream| {
            let mut buffer = [0; 65_536];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                received.add(length);
            }
        })
    }

    /// Starts a server that accepts every request.
    pub fn http(&self) -> io::Result<SocketAddr> {
        self.listen(|received, stream| {
            let mut reader = BufReader::new(stream);
            while let Ok(length @ 1..) = answer(&mut reader) {
                received.add(length);
            }
        })
    }

    /// Each connection has a thread of its own: a client may begin another one after a timeout.
    fn listen(&self, serve: fn(&Self, TcpStream)) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(ANY_PORT)?;
        let (address, received) = (listener.local_addr()?, self.clone());
        start(move || {
            for stream in listener.incoming().flatten() {
                let received = received.clone();
                // Without a thread the connection is closed.
                let _ = start(move || serve(&received, stream));
            }
        })?;
        Ok(address)
    }

    /// Scrapes metrics until that fails.
    pub fn scrape(&self, address: SocketAddr) -> io::Result<()> {
        let received = self.clone();
        start(move || {
            let scrape = || -> io::Result<usize> {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
                let mut text = Vec::new();
                stream.read_to_end(&mut text)
            };
            while let Ok(length) = scrape() {
                received.add(length);
                thread::sleep(SCRAPE_INTERVAL);
            }
        })
    }
}

fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(RECEIVER.into()).spawn(work).map(drop)
}

/// Reads a request and accepts it. Returns its length, 0 at the end of the connection.
fn answer(reader: &mut BufReader<TcpStream>) -> io::Result<usize> {
    let (mut length, mut body, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        if read == 0 {
            return Ok(0);
        }
        length += read;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body = value.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
    }
    io::copy(&mut reader.take(body), &mut io::sink())?;
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(length + body as usize)
}
