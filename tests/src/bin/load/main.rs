//! Load for benches: many short connections, bursts of them, datagrams to many ports. Everything is
//! bounded by a count, and the rate is printed at the end.
//!
//! ```text
//! load serve ADDRESS          answers every request on every connection until it is killed
//! load connections KEY=VALUE…
//!     to=ADDRESS              the server
//!     hosts=64                successive addresses in turn, the server's first
//!     count=1000              connections: one request, one response, closed by a reset
//!     at_once=32              connections that are open at the same time
//!     rate=0                  connections per second; 0: as many as possible
//!     times=1                 repeats all that, each after a pause
//!     pause=1000              idle milliseconds before the first and before each repeat
//!     request=small           `hello`: a TLS ClientHello
//!     serve=no                `yes`: starts the server too
//! load datagrams KEY=VALUE…
//!     to=ADDRESS              the first port
//!     ports=1000              successive ports in turn
//!     count=1000              datagrams
//!     rate=0                  datagrams per second; 0: as many as possible
//! ```
//!
//! All print `begin` before the first packet and `rate NUMBER` (per second) after the last, and
//! then wait for `hold` milliseconds (0 by default).

mod arguments;
mod client;
mod server;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use arguments::LoadArguments;
use client::{Client, ConnectionPlan};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((kind, rest)) = arguments.split_first() else { return Err(unknown("no kind of load")) };
    match kind.as_str() {
        "serve" => server::serve(arguments::address(rest.first().map_or("", String::as_str))?),
        "connections" => connections(&mut LoadArguments::parse(rest)?),
        "datagrams" => datagrams(&mut LoadArguments::parse(rest)?),
        other => Err(unknown(other)),
    }
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("unknown load: {what}"))
}

fn connections(given: &mut LoadArguments) -> io::Result<()> {
    let plan = ConnectionPlan {
        to: given.address("to")?,
        hosts: given.number("hosts", 64)?,
        count: given.number("count", 1000)?,
        at_once: given.number("at_once", 32)? as usize,
        rate: given.number("rate", 0)?,
        request: if given.is("request", "hello") { arguments::client_hello() } else { vec![b'r'; 64] },
    };
    let (times, pause) = (given.number("times", 1)?, given.millis("pause", 1000)?);
    let (hold, serves) = (given.millis("hold", 0)?, given.is("serve", "yes"));
    given.finish()?;
    let _server = serves.then(|| Server::start(plan.to)).transpose()?;
    println!("begin");
    let mut client = Client::new()?;
    let mut busy = Duration::ZERO;
    for _ in 0..times {
        thread::sleep(pause);
        let started = Instant::now();
        client.run(&plan)?;
        busy += started.elapsed();
    }
    finish(plan.count * times, busy, hold);
    Ok(())
}

fn datagrams(given: &mut LoadArguments) -> io::Result<()> {
    let (to, ports) = (given.address("to")?, given.number("ports", 1000)?);
    let (count, rate, hold) = (given.number("count", 1000)?, given.number("rate", 0)?, given.millis("hold", 0)?);
    given.finish()?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    println!("begin");
    let started = Instant::now();
    for number in 0..count {
        // Short sleeps, so that the rate is right over a few milliseconds.
        while rate > 0 && number as f64 > started.elapsed().as_secs_f64() * rate as f64 {
            thread::sleep(Duration::from_micros(100));
        }
        let port = to.port() + (number % ports) as u16;
        socket.send_to(b"small datagram", SocketAddr::new(to.ip(), port))?;
    }
    finish(count, started.elapsed(), hold);
    Ok(())
}

fn finish(count: u64, busy: Duration, hold: Duration) {
    println!("rate {:.1}", count as f64 / busy.as_secs_f64());
    thread::sleep(hold);
}

/// A server in a process of its own, killed when dropped.
struct Server(Child);

impl Server {
    fn start(at: SocketAddr) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.args(["serve", &at.to_string()]).stdout(Stdio::piped()).spawn()?;
        let mut server = Self(child);
        let mut line = String::new();
        let output = server.0.stdout.take().ok_or_else(|| unknown("a server without output"))?;
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}
