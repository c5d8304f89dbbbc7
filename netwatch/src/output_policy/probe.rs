//! Sends the probes: a TCP connect and a UDP datagram from sockets of the user, in parallel.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, send as send_to, socket,
};

use super::Sender;
use crate::error::{Error, Result};
use crate::host::route_check;
use crate::meter::{EgressPlace, EgressWatch};

/// Maximum time that a probe takes to an interface: the kernel may have to resolve the address of a
/// neighbor first.
const ARRIVAL_TIMEOUT: Duration = Duration::from_millis(60);
const CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// Index of the loopback, where redirected probes arrive.
const LOOPBACK: u32 = 1;

/// The protocol of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProbeTransport {
    Tcp,
    Udp,
}

impl fmt::Display for ProbeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

/// The outcome of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    /// It would have left the host.
    Left,
    /// It was redirected to a program of the host.
    Redirected,
    /// The host did not let the user send it.
    Refused,
    /// It has not arrived at any interface so far.
    Unseen,
}

/// Where a probe is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeTarget {
    pub to: SocketAddr,
    pub transport: ProbeTransport,
    /// Whether it is a resolver, which even a host that lets nothing else out may permit.
    pub is_resolver: bool,
}

/// A probe that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub target: ProbeTarget,
    pub outcome: ProbeOutcome,
}

impl Sent {
    /// Whether the kernel may still send it. A SYN is not retransmitted, because the socket of the
    /// connect has been closed.
    pub(super) fn is_pending(&self) -> bool {
        self.outcome == ProbeOutcome::Unseen && self.target.transport == ProbeTransport::Udp
    }
}

/// Sends a probe to each target; returns the outcomes, and the program that discards late probes.
pub(super) fn send(targets: &[ProbeTarget], sender: &Sender) -> Result<(Vec<Sent>, EgressWatch)> {
    let addresses: BTreeSet<_> = targets.iter().map(|target| target.to.ip()).collect();
    let mut interfaces: BTreeSet<u32> = route_check::interfaces_to(addresses.into_iter(), sender.uid)?;
    interfaces.insert(LOOPBACK);
    let watch = EgressWatch::attach(&interfaces.into_iter().collect::<Vec<_>>())?;
    act_as(sender);
    let mut probes = Vec::new();
    for target in targets {
        probes.push(Probe::send(*target, &watch)?);
    }
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    loop {
        let mut is_complete = true;
        for probe in &mut probes {
            is_complete &= probe.update(&watch)?;
        }
        if is_complete || Instant::now() >= deadline {
            break;
        }
        thread::sleep(CHECK_INTERVAL);
    }
    Ok((probes.into_iter().map(|probe| probe.sent).collect(), watch))
}

/// Makes new sockets of this thread belong to the user.
fn act_as(sender: &Sender) {
    // SAFETY: the calls take a number and change only this thread.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, sender.gid);
        libc::syscall(libc::SYS_setfsuid, sender.uid);
    }
}

struct Probe {
    sent: Sent,
    cookie: u64,
    _socket: OwnedFd,
}

impl Probe {
    fn send(target: ProbeTarget, watch: &EgressWatch) -> Result<Self> {
        let ProbeTarget { to, transport, .. } = target;
        let failed = |error: io::Error| Error::os("send", format!("a probe to {to}"), error);
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = if transport == ProbeTransport::Tcp { SockType::Stream } else { SockType::Datagram };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, kind, flags, None).map_err(|errno| failed(errno.into()))?;
        let cookie = cookie(&socket).map_err(failed)?;
        watch.add(cookie)?;
        let address = SockaddrStorage::from(to);
        let mut done = match connect(socket.as_raw_fd(), &address) {
            Err(nix::errno::Errno::EINPROGRESS) => Ok(()),
            done => done,
        };
        if transport == ProbeTransport::Udp {
            done = done.and_then(|()| send_to(socket.as_raw_fd(), &[0], MsgFlags::empty()).map(drop));
        }
        let outcome = if done.is_ok() { ProbeOutcome::Unseen } else { ProbeOutcome::Refused };
        Ok(Self { sent: Sent { target, outcome }, cookie, _socket: socket })
    }

    /// Returns whether its outcome is known.
    fn update(&mut self, watch: &EgressWatch) -> Result<bool> {
        // This overrides a failed call: sending also fails if the watch discards the probe.
        match watch.place(self.cookie)? {
            Some(EgressPlace::Interface) => self.sent.outcome = ProbeOutcome::Left,
            Some(EgressPlace::Loopback) => self.sent.outcome = ProbeOutcome::Redirected,
            None => {}
        }
        Ok(self.sent.outcome != ProbeOutcome::Unseen)
    }
}

fn cookie(socket: &OwnedFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer is valid for the length that is passed.
    let result = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, value, &raw mut length)
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
