//! Frames that BPF_PROG_TEST_RUN rejects, and VLAN tags stored outside the frame: sent unchanged
//! over a real link.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use netwatch_common::parse::{Hook, Meta};

use super::golden;
use super::namespace::{TestLink, ip, with_link};
use super::reference::ReferenceMeter;
use super::{assert_same, default_meter, tables};
use crate::flow::{Counters, PerDirection};

const ETHERNET: usize = 14;
const TAG: usize = 4;

/// Golden frames that a packet socket can send: at least a link header, and no offload. A frame
/// that is truncated inside its tag is dropped by the kernel (`skb_vlan_untag`) before any hook.
fn frames() -> Vec<Vec<u8>> {
    let cases = golden::all().into_iter().filter(|case| case.meta.gso_size == 0);
    cases.flat_map(|case| case.frames).filter(|frame| frame.len() >= ETHERNET && !has_truncated_tag(frame)).collect()
}

/// The frame at the hook: the kernel has moved the outer tag out of the frame.
fn received(frame: &[u8]) -> (Vec<u8>, Meta) {
    let is_tagged = has_tag(frame);
    let bytes = if is_tagged { [&frame[..12], &frame[12 + TAG..]].concat() } else { frame.to_vec() };
    (bytes, Meta { tagged: is_tagged, ..Meta::default() })
}

fn has_tag(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

fn has_truncated_tag(frame: &[u8]) -> bool {
    has_tag(frame) && frame.len() < ETHERNET + TAG
}

/// Sends whole frames on an interface.
pub(in crate::meter::kernel) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(in crate::meter::kernel) fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; a new descriptor is owned by the caller.
        unsafe {
            match libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    pub(in crate::meter::kernel) fn send(&self, frame: &[u8], ifindex: u32) -> io::Result<()> {
        // SAFETY: plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        let (to, length) = ((&raw const address).cast(), size_of_val(&address) as u32);
        // SAFETY: both pointers are valid for the given lengths.
        let sent = unsafe { libc::sendto(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, length) };
        if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Disables IPv6, so that the kernel sends no neighbor discovery.
fn without_ipv6(link: &TestLink) {
    let off = || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let _no_ipv6 = off();
    let _no_ipv6 = link.in_target(off);
}

#[test]
fn injected_frames_are_counted_as_in_user_space() {
    with_link(|link| {
        let Some(mut meter) = default_meter() else { return };
        without_ipv6(link);
        ip("link set h0 mtu 9000");
        link.in_target(|| ip("link set t0 mtu 9000"));
        meter.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let frames = frames();
        let mut host = ReferenceMeter::default();
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
        assert_same(tables(&mut meter), host.entries, "injected");
        let tags: usize = frames.iter().map(|frame| frame.len() - received(frame).0.len()).sum();
        let sum = meter.settle(link, tags as u64).iter().map(|one| one.counters).sum::<PerDirection<Counters>>().egress;
        assert_eq!(sum.wire_bytes, sum.bytes + tags as u64, "a wire carries the tags");
    });
}
