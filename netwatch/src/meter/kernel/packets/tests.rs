//! Tests of the capture on a real link.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netwatch_common::capture::MIN_RING_BYTES;
use nix::sys::eventfd::EventFd;

use super::{PacketRing, PacketTap, TapConfig};
use crate::filter::FilterProgram;
use crate::flow::{Direction, PerDirection};
use crate::meter::kernel::tests::{TestLink, bind_again, with_link};
use crate::meter::{AttachMethod, RingPacket};

const METHODS: [&[AttachMethod]; 2] = [&[AttachMethod::Clsact], &[AttachMethod::Tcx]];

fn tap(link: &TestLink, config: &TapConfig, methods: &[AttachMethod]) -> (PacketTap, PacketRing) {
    filtered_tap(link, config, None, methods)
}

/// As [`tap`], with a filter.
pub(super) fn filtered_tap(
    link: &TestLink,
    config: &TapConfig,
    filter: Option<&FilterProgram>,
    methods: &[AttachMethod],
) -> (PacketTap, PacketRing) {
    let tap = PacketTap::attach(link.host_ifindex, config, filter, methods).expect("attached");
    let ring = PacketRing::open(tap.maps().expect("duplicated"), config.ring_bytes).expect("mapped");
    (tap, ring)
}

/// Sends datagrams from the target, each with its number, and with a length that depends on it.
pub(super) fn send(link: &TestLink, count: u32, length: impl Fn(u32) -> usize + Send + Sync) {
    link.in_target(|| {
        let socket = bind_again("198.51.100.2:5000");
        for number in 0..count {
            let mut datagram = vec![7; length(number).max(4)];
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&datagram, "198.51.100.1:4000").expect("sent");
        }
    });
}

/// The UDP datagrams of the test in the ring: direction, original length, captured bytes.
pub(super) fn datagrams(ring: &mut PacketRing) -> Vec<(Direction, u32, Vec<u8>)> {
    let batch = ring.batch(u64::MAX);
    let is_ours =
        |bytes: &[u8]| bytes.get(12..14) == Some(&[8, 0]) && bytes.get(36..38) == Some(&4000_u16.to_be_bytes());
    let ours = batch.packets().filter(|packet| is_ours(packet.bytes));
    ours.map(|packet| (packet.direction, packet.orig_len, packet.bytes.to_vec())).collect()
}

#[test]
fn every_packet_is_captured_with_its_bytes_and_its_socket() {
    with_link(|link| {
        let _receiver = UdpSocket::bind("198.51.100.1:4000").expect("bound");
        let (_tap, mut ring) = tap(link, &TapConfig::default(), METHODS[0]);
        link.up();
        send(link, 10, |number| number as usize);
        let is_ours = |bytes: &[u8]| bytes.get(36..38) == Some(&4000_u16.to_be_bytes());
        let batch = ring.batch(u64::MAX);
        let mut ours = batch.packets().filter(|packet| is_ours(packet.bytes));
        let first = ours.next().expect("a datagram").socket;
        assert!(first.is_some() && ours.all(|packet| packet.socket == first), "one socket sent all of them");
        drop(ours);
        drop(batch);
        assert!(datagrams(&mut ring).is_empty(), "a batch is read once");
        send(link, 1200, |number| number as usize);
        let found = datagrams(&mut ring);
        assert_eq!(found.len(), 1200);
        for (number, (direction, length, bytes)) in (0_u32..).zip(&found) {
            assert_eq!((*direction, *length as usize), (Direction::Egress, 42 + (number as usize).max(4)));
            assert_eq!((bytes.len(), &bytes[42..46]), (*length as usize, &number.to_be_bytes()[..]));
        }
        let stats = ring.stats().expect("read");
        assert_eq!((stats.lost(), stats.too_long), (PerDirection::default(), PerDirection::default()));
    });
}

#[test]
fn a_snap_length_limits_the_copied_bytes_only() {
    with_link(|link| {
        let config = TapConfig { snaplen: 64, ..TapConfig::default() };
        let (_tap, mut ring) = tap(link, &config, METHODS[0]);
        link.up();
        send(link, 3, |_| 1000);
        let found = datagrams(&mut ring);
        assert!(found.iter().all(|(_, length, bytes)| *length == 1042 && bytes.len() == 64), "{found:?}");
        assert_eq!(found.len(), 3);
    });
}

#[test]
fn a_full_ring_loses_packets_and_counts_each() {
    with_link(|link| {
        let config = TapConfig { ring_bytes: MIN_RING_BYTES, ..TapConfig::default() };
        let (_tap, mut ring) = tap(link, &config, METHODS[0]);
        link.up();
        send(link, 2000, |_| 1000);
        let sent = |ring: &mut PacketRing| -> Vec<u64> {
            let batch = ring.batch(u64::MAX);
            // Smaller packets, of the kernel's own, still find room.
            let is_sent = |packet: &RingPacket<'_>| packet.direction == Direction::Egress && packet.orig_len > 1000;
            batch.packets().filter(is_sent).map(|packet| packet.lost).collect()
        };
        let batch = ring.batch(u64::MAX);
        let egress: Vec<_> = batch.packets().filter(|packet| packet.direction == Direction::Egress).collect();
        let is_behind = egress.iter().filter(|packet| packet.orig_len > 1000).all(|packet| packet.lost == 0);
        assert!(is_behind, "the losses are behind what was in the ring: {egress:?}");
        let captured = egress.len();
        drop(batch);
        let stats = ring.stats().expect("read");
        assert!(stats.ring_full.egress > 1000, "{stats:?}");
        assert_eq!(stats.observed.egress, captured as u64 + stats.lost().egress, "{stats:?}");
        send(link, 10, |_| 1000);
        assert_eq!(sent(&mut ring), [stats.lost().both(); 10], "there is room again");
    });
}

/// The captures of a run and of its tails.
#[test]
fn captures_of_a_link_are_independent() {
    for methods in METHODS {
        with_link(|link| {
            if methods == METHODS[1] && !super::super::tests::is_linux(6, 6, "tcx") {
                return;
            }
            let _receiver = UdpSocket::bind("198.51.100.1:4000").expect("bound");
            let (_first, mut whole) = tap(link, &TapConfig::default(), methods);
            let (second, mut heads) = tap(link, &TapConfig { snaplen: 64, slot: 1, ..TapConfig::default() }, methods);
            link.up();
            let lengths = |ring: &mut PacketRing| -> Vec<usize> {
                datagrams(ring).iter().map(|(_, _, bytes)| bytes.len()).collect()
            };
            send(link, 3, |_| 1000);
            assert_eq!((lengths(&mut whole), lengths(&mut heads)), (vec![1042; 3], vec![64; 3]), "{methods:?}");
            second.detach().expect("detached");
            send(link, 2, |_| 1000);
            assert_eq!((lengths(&mut whole), lengths(&mut heads)), (vec![1042; 2], vec![]), "{methods:?}");
        });
    }
}

#[test]
fn only_the_directions_asked_for_are_captured_and_nothing_after_the_end() {
    for methods in METHODS {
        with_link(|link| {
            if methods == METHODS[1] && !super::super::tests::is_linux(6, 6, "tcx") {
                return;
            }
            let receiver = UdpSocket::bind("198.51.100.1:4000").expect("bound");
            let directions = PerDirection { egress: false, ingress: true };
            let (tap, mut ring) = tap(link, &TapConfig { directions, ..TapConfig::default() }, methods);
            link.up();
            send(link, 5, |_| 100);
            receiver.send_to(b"back", "198.51.100.2:5000").expect("sent");
            let captured: Vec<_> = ring.batch(u64::MAX).packets().map(|packet| packet.direction).collect();
            assert!(captured.contains(&Direction::Ingress) && !captured.contains(&Direction::Egress), "{captured:?}");
            // As of a child before its execve.
            let _duplicates = tap.duplicated_links();
            tap.detach().expect("detached");
            // Compares no counters: what the kernel itself sends on a new link, IPv6 reports for
            // example, may have been observed shortly before.
            receiver.send_to(b"unseen", "198.51.100.2:5000").expect("sent");
            let unseen = ring.batch(u64::MAX).packets().filter(|packet| packet.bytes.ends_with(b"unseen")).count();
            assert_eq!(unseen, 0);
        });
    }
}

#[test]
fn a_tap_beside_the_classifier_changes_no_count() {
    with_link(|link| {
        let Some(mut meter) = crate::meter::kernel::tests::default_meter() else { return };
        meter.attach_link(link.host_ifindex).expect("attached");
        let (tap, mut ring) = tap(link, &TapConfig::default(), METHODS[0]);
        link.up();
        send(link, 100, |_| 200);
        assert_eq!(datagrams(&mut ring).len(), 100);
        tap.detach().expect("detached");
        send(link, 50, |_| 200);
        // Compares the drained counts with the counters of the interface.
        meter.settle(link, 0);
        assert!(datagrams(&mut ring).is_empty());
    });
}

#[test]
fn values_that_no_capture_has_are_refused() {
    let config = TapConfig::default();
    assert!(config.check().is_ok());
    let nothing = PerDirection { egress: false, ingress: false };
    for wrong in [
        TapConfig { snaplen: 0, ..config },
        TapConfig { snaplen: super::MAX_CAPLEN + 1, ..config },
        TapConfig { ring_bytes: 4096, ..config },
        TapConfig { ring_bytes: config.ring_bytes + 4096, ..config },
        TapConfig { ring_bytes: 1 << 31, ..config },
        TapConfig { directions: nothing, ..config },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

/// A wake-up for every packet costs more than to read it.
#[test]
fn a_part_of_the_ring_wakes_the_reader_and_a_packet_does_not() {
    with_link(|link| {
        let _receiver = UdpSocket::bind("198.51.100.1:4000").expect("bound");
        let config = TapConfig { ring_bytes: MIN_RING_BYTES, ..TapConfig::default() };
        let (_tap, mut ring) = tap(link, &config, METHODS[0]);
        let wake = EventFd::new().expect("an event descriptor");
        link.up();
        drop(ring.batch(u64::MAX));
        let waited = |ring: &PacketRing, timeout| {
            let began = Instant::now();
            ring.wait(timeout, wake.as_fd()).expect("waited");
            began.elapsed()
        };
        let (short, long) = (Duration::from_millis(10), Duration::from_secs(100));
        // A packet that the kernel generates may fill another part.
        let is_quiet = |ring: &PacketRing| (0..5).any(|_| waited(ring, short) >= short);
        send(link, 1, |_| 10);
        assert!(is_quiet(&ring), "a record is there");
        send(link, 100, |_| 1000);
        assert!(waited(&ring, long) < long);
        assert!(is_quiet(&ring), "the wake-up was taken, and the records are still there");
        assert!(datagrams(&mut ring).len() >= 101);
        wake.write(1).expect("written");
        assert!(waited(&ring, long) < long);
    });
}
