//! Frames that BPF_PROG_TEST_RUN refuses, and VLAN tags beside the frame: sent as they are over a real link.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use netwatch_common::parse::{Hook, Meta};

use super::golden;
use super::host::Host;
use super::namespace::{Link, ip, with_link};
use super::{assert_same, probe, tables};
use crate::flow::{Counters, PerDirection};

const ETHERNET: usize = 14;
const TAG: usize = 4;

/// Golden frames that a packet socket can send: at least a link header, and no offload. A frame cut off inside its tag is
/// dropped by the kernel (`skb_vlan_untag`) before any hook.
fn frames() -> Vec<Vec<u8>> {
    let cases = golden::all().into_iter().filter(|case| case.meta.gso_size == 0);
    cases.flat_map(|case| case.frames).filter(|frame| frame.len() >= ETHERNET && !is_cut_tag(frame)).collect()
}

/// What the hook sees: the kernel has moved the outer tag beside the frame.
fn received(frame: &[u8]) -> (Vec<u8>, Meta) {
    let is_tagged = has_tag(frame);
    let bytes = if is_tagged { [&frame[..12], &frame[12 + TAG..]].concat() } else { frame.to_vec() };
    (bytes, Meta { tagged: is_tagged, ..Meta::default() })
}

fn has_tag(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

fn is_cut_tag(frame: &[u8]) -> bool {
    has_tag(frame) && frame.len() < ETHERNET + TAG
}

struct PacketSocket(OwnedFd);

impl PacketSocket {
    fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; a fresh descriptor is ours.
        unsafe {
            match libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    fn send(&self, frame: &[u8], ifindex: u32) -> io::Result<()> {
        // SAFETY: plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        let (to, length) = ((&raw const address).cast(), size_of_val(&address) as u32);
        // SAFETY: both pointers are valid for the lengths beside them.
        let sent = unsafe { libc::sendto(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, length) };
        if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The kernel would add neighbour discovery of its own.
fn without_ipv6(link: &Link) {
    let off = || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let _none_there = off();
    let _none_there = link.in_target(off);
}

#[test]
fn injected_frames_agree_to_the_bit() {
    with_link(|link| {
        let Some(mut probe) = probe() else { return };
        without_ipv6(link);
        ip("link set h0 mtu 9000");
        link.in_target(|| ip("link set t0 mtu 9000"));
        probe.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let frames = frames();
        let mut host = Host::default();
        link.in_target(|| {
            let socket = PacketSocket::new().expect("a packet socket");
            for frame in &frames {
                socket.send(frame, link.target_ifindex).expect("sent");
            }
        });
        for frame in &frames {
            let (bytes, meta) = received(frame);
            host.run(&bytes, &meta, Hook::FromTarget);
        }
        link.settle();
        assert_same(tables(&mut probe), host.entries, "injected");
        let tags: usize = frames.iter().map(|frame| frame.len() - received(frame).0.len()).sum();
        let sum = probe.settle(link, tags as u64).iter().map(|one| one.counters).sum::<PerDirection<Counters>>().egress;
        assert_eq!(sum.wire_bytes, sum.bytes + tags as u64, "which a wire carries");
    });
}
