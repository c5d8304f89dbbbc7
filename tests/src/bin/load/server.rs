//! A server that answers requests on any number of connections, in one thread.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

use crate::client::raise_file_limit;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;

/// Prints `listening` and serves until the process is killed.
pub fn serve(at: SocketAddr) -> io::Result<()> {
    raise_file_limit()?;
    let listener = TcpListener::bind(SocketAddr::new(unspecified(at), at.port()))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    println!("listening");
    let mut open: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            match event.data() {
                LISTENER => accept_all(&listener, &epoll, &mut open)?,
                number => {
                    let is_open = open.get_mut(&number).is_some_and(answer);
                    if !is_open {
                        open.remove(&number);
                    }
                }
            }
        }
    }
}

/// All addresses of the family.
fn unspecified(at: SocketAddr) -> std::net::IpAddr {
    if at.is_ipv4() { [0; 4].into() } else { [0; 16].into() }
}

fn accept_all(listener: &TcpListener, epoll: &Epoll, open: &mut HashMap<u64, TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                let number = stream.as_raw_fd() as u64;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
                open.insert(number, stream);
            }
            // The client reset the connection before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Answers a request. Returns false if the client has closed the connection.
fn answer(stream: &mut TcpStream) -> bool {
    let mut request = [0; 4096];
    match stream.read(&mut request) {
        Ok(1..) => stream.write_all(&[b'a'; 256]).is_ok(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        _ => false,
    }
}
