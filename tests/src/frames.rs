//! Counts the frames on an interface by a packet socket (packet(7)): an account of the traffic that
//! does not depend on netwatch.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::namespace::TestNamespace;

/// Bytes of a frame that are read: Ethernet and IP headers.
const HEADERS: usize = 14 + 40;
/// Bytes of frames that wait until they are counted.
const BUFFER: libc::c_int = 256 << 20;
/// How often the thread looks whether it has to end.
const INTERVAL_MS: libc::c_int = 20;

/// Frames and their bytes, with the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameCount {
    /// Number of frames.
    pub packets: i64,
    /// Sum of their lengths.
    pub bytes: i64,
}

/// What was counted, by server and IP protocol: to the server, and from it.
#[derive(Debug, Default)]
pub struct FrameCounts {
    by_remote: BTreeMap<(IpAddr, u8), [FrameCount; 2]>,
    /// Frames that were not counted, because the thread was too slow.
    pub lost: u32,
}

impl FrameCounts {
    /// Frames to this server and from it, of an IP protocol.
    pub fn of(&self, server: IpAddr, protocol: u8) -> [FrameCount; 2] {
        self.by_remote.get(&(server, protocol)).copied().unwrap_or_default()
    }

    /// `length` is that of the whole frame.
    fn add(&mut self, frame: &[u8], length: usize, servers: &[IpAddr]) {
        let Some((from, to, protocol)) = addresses(frame) else { return };
        for (direction, server) in [to, from].into_iter().enumerate() {
            if servers.contains(&server) {
                let count = &mut self.by_remote.entry((server, protocol)).or_default()[direction];
                count.packets += 1;
                count.bytes += length as i64;
            }
        }
    }
}

/// A thread that counts.
#[derive(Debug)]
pub struct FrameCounter {
    is_ended: Arc<AtomicBool>,
    thread: JoinHandle<FrameCounts>,
}

impl FrameCounter {
    /// Counts from here on what passes an interface to these addresses and from them.
    pub fn start(namespace: &TestNamespace, interface: &'static str, servers: Vec<IpAddr>) -> Self {
        let is_ended = Arc::new(AtomicBool::new(false));
        let (ready, started) = channel();
        let ended = Arc::clone(&is_ended);
        let count = move || count_frames(interface, &servers, &ended, &ready).expect("count frames");
        let thread = namespace.inside(count);
        started.recv().expect("a packet socket");
        Self { is_ended, thread }
    }

    /// Counts what has arrived, and ends.
    pub fn finish(self) -> FrameCounts {
        self.is_ended.store(true, Ordering::Release);
        self.thread.join().expect("the thread ends")
    }
}

fn count_frames(
    interface: &str,
    servers: &[IpAddr],
    is_ended: &AtomicBool,
    ready: &Sender<()>,
) -> io::Result<FrameCounts> {
    let socket = open(interface)?;
    let _ = ready.send(());
    let mut counts = FrameCounts::default();
    loop {
        // Read first: what arrived before that is counted.
        let is_last = is_ended.load(Ordering::Acquire);
        let mut frame = [0; HEADERS];
        // MSG_TRUNC: the result is the length of the whole frame.
        // SAFETY: the buffer is valid for its length.
        while let length @ 0.. = unsafe {
            libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), HEADERS, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
        } {
            let length = length as usize;
            counts.add(&frame[..length.min(HEADERS)], length, servers);
        }
        if is_last {
            counts.lost = lost(&socket)?;
            return Ok(counts);
        }
        let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor.
        unsafe { libc::poll(&raw mut poll, 1, INTERVAL_MS) };
    }
}

/// A packet socket that receives everything on an interface, in both directions.
fn open(interface: &str) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the calls take a name that ends with NUL, and numbers. The descriptor is new.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        // Without a protocol: otherwise it would receive from every interface until it is bound.
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if index == 0 || socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let buffer = BUFFER;
        let set = libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const buffer).cast(),
            size_of_val(&buffer) as u32,
        );
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32);
        if set != 0 || bound != 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }
}

/// Frames that found the buffer full.
fn lost(socket: &OwnedFd) -> io::Result<u32> {
    const PACKET_STATISTICS: libc::c_int = 6;
    // struct tpacket_stats: packets, drops.
    let mut statistics = [0_u32; 2];
    let mut length = size_of_val(&statistics) as u32;
    // SAFETY: the structure has this size.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if got == 0 { Ok(statistics[1]) } else { Err(io::Error::last_os_error()) }
}

/// Source, destination and protocol of a frame of IP. Extension headers of IPv6 count as the
/// protocol.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr, u8)> {
    let packet = frame.get(14..)?;
    match frame[12..14] {
        [0x08, 0x00] => {
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into());
            Some((address(12)?, address(16)?, *packet.get(9)?))
        }
        [0x86, 0xdd] => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into());
            Some((address(8)?, address(24)?, *packet.get(6)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_server_protocol_and_direction() {
        let mut packet = vec![0; 34];
        packet[12..14].copy_from_slice(&[0x08, 0x00]);
        packet[23] = 17;
        packet[26..30].copy_from_slice(&[10, 0, 0, 1]);
        packet[30..34].copy_from_slice(&[10, 0, 0, 2]);
        let server = IpAddr::from([10, 0, 0, 2]);
        let mut counts = FrameCounts::default();
        counts.add(&packet, 100, &[server]);
        counts.add(&packet, 60, &[server]);
        counts.add(&packet[..20], 60, &[server]);
        assert_eq!(counts.of(server, 17), [FrameCount { packets: 2, bytes: 160 }, FrameCount::default()]);
        assert_eq!(counts.of(server, 6), [FrameCount::default(); 2]);
    }
}
