//! Sends datagrams of many flows, which have no receiver. The bench starts itself again to do this
//! inside a namespace.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args;

use crate::Result;

/// Destination ports from here on are dropped where packets arrive.
pub const FIRST_PORT: u16 = 20_000;
/// Bytes of UDP payload: a small datagram.
const PAYLOAD: usize = 58;
/// Addresses that the flows go to: a documentation range (RFC 5737) without its first and last
/// ones.
const ADDRESSES: u64 = 250;
/// Datagrams between two checks of the clock.
const BURST: u64 = 64;

/// Arguments of the sender.
#[derive(Debug, Args)]
pub struct Send {
    /// Number of flows, which take turns
    #[arg(long, default_value_t = 1)]
    flows: u64,
    /// Stop after this number of datagrams
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Stop after this number of seconds
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Maximum datagrams per second
    #[arg(long)]
    rate: Option<u64>,
    /// Do not exit when everything is sent
    #[arg(long)]
    hold: bool,
}

/// Sends, and prints the rate.
pub fn run(send: &Send) -> Result {
    let failed = |error: io::Error| format!("cannot send: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    print_line("sending")?;
    let started = Instant::now();
    let limit = Duration::from_secs_f64(send.seconds);
    let mut sent = 0;
    while sent < send.count && started.elapsed() < limit {
        for _ in 0..BURST.min(send.count - sent) {
            deliver(&socket, sent % send.flows).map_err(failed)?;
            sent += 1;
        }
        if let Some(rate) = send.rate {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    print_line(&format!("sent {sent} {:.1}", sent as f64 / started.elapsed().as_secs_f64()))?;
    if send.hold {
        std::thread::sleep(Duration::from_secs(60));
    }
    Ok(())
}

fn deliver(socket: &UdpSocket, flow: u64) -> io::Result<()> {
    let address = Ipv4Addr::new(203, 0, 113, 1 + (flow % ADDRESSES) as u8);
    let to = SocketAddrV4::new(address, FIRST_PORT + (flow / ADDRESSES) as u16);
    match socket.send_to(&[b'b'; PAYLOAD], to) {
        // The link's queue is full for a moment.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        done => done.map(drop),
    }
}

/// Prints a line at once: the bench waits for it.
fn print_line(line: &str) -> Result {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| format!("cannot print: {error}"))
}

/// Datagrams per second, from the output of a sender.
pub fn rate(printed: &str) -> Result<f64> {
    let rate = printed.lines().find_map(|line| line.strip_prefix("sent ")?.split(' ').nth(1)?.parse().ok());
    rate.ok_or_else(|| format!("the sender printed: {printed}"))
}
