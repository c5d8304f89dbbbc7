//! A client with a DNS resolver of its own, as programs in Go have it: `own_resolver NAME PORT`
//! reads resolv.conf, sends a query for an A record, connects and reads to the end. It needs only
//! the standard library, so that a test can link it statically, without the resolver of the C
//! library.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, port] = arguments.as_slice() else { return Err(invalid("own_resolver NAME PORT")) };
    let port = port.parse().map_err(|_| invalid("a port"))?;
    let address = resolve(name)?;
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    println!("{}", stream.read_to_end(&mut Vec::new())?);
    Ok(())
}

fn resolve(name: &str) -> io::Result<IpAddr> {
    let configuration = fs::read_to_string("/etc/resolv.conf")?;
    let server = configuration.lines().find_map(|line| line.strip_prefix("nameserver "));
    let server: IpAddr =
        server.and_then(|server| server.trim().parse().ok()).ok_or_else(|| invalid("a name server"))?;
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    // From an unconnected socket, as some resolvers do.
    socket.send_to(&question(name), (server, 53))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // The message ends with the address of its only record.
    let (_, address) = answer[..length].split_last_chunk::<4>().ok_or_else(|| invalid("an answer"))?;
    Ok(Ipv4Addr::from(*address).into())
}

/// RFC 1035: recursion desired, one question, an A record of class IN.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x4e, 0x57, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}
