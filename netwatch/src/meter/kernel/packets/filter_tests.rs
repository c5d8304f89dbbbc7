//! Filters in the kernel: random programs decide as the interpreter, and captures on a link.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use fastrand::Rng;
use netwatch_common::flow::{EGRESS, INGRESS};

use super::tests::{datagrams, filtered_tap, send};
use super::{TapConfig, load_filter};
use crate::filter::{ClassicInstruction, FilterProgram, FilteredFrame, PacketAccess, translate};
use crate::flow::Direction;
use crate::meter::AttachMethod;
use crate::meter::kernel::sys;
use crate::meter::kernel::tests::{PacketSocket, TestLink, with_link};

const METHODS: &[AttachMethod] = &[AttachMethod::Clsact];
/// Number of random programs, and of frames for each.
const PROGRAMS: usize = 300;
const FRAMES: usize = 20;
/// Always the same programs: a kernel has to pass twice in a row.
const SEED: u64 = 0x6e65_7477;

/// Every code, except for jumps.
const CODES: [u16; 43] = [
    0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c,
    0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x07, 0x87,
    0x20, 0x28, 0x30, 0x48, 0x50,
];
const JUMPS: [u16; 9] = [0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d];
/// The type of the packet.
const PACKET_TYPE: u32 = 0xffff_f004;

fn constant(rng: &mut Rng) -> u32 {
    match rng.u8(..10) {
        0 => rng.u32(..),
        1 => [0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX, PACKET_TYPE][rng.usize(..8)],
        2 => rng.u32(28..36),
        _ => rng.u32(..16),
    }
}

/// A valid filter.
fn random_program(rng: &mut Rng) -> FilterProgram {
    let length = rng.usize(2..40);
    let end = |rng: &mut Rng| ClassicInstruction { code: [0x06, 0x16][rng.usize(..2)], jt: 0, jf: 0, k: constant(rng) };
    loop {
        let mut instructions: Vec<_> = (1..length)
            .map(|at| {
                let left = (length - at) as u32;
                match rng.u8(..8) {
                    0 if left > 1 => {
                        let code = JUMPS[rng.usize(..JUMPS.len())];
                        let k = if code == 0x05 { rng.u32(..left.min(4)) } else { constant(rng) };
                        let mut distance = || rng.u8(..left.min(9) as u8);
                        ClassicInstruction { code, jt: distance(), jf: distance(), k }
                    }
                    1 if rng.u8(..8) == 0 => end(rng),
                    _ => ClassicInstruction { code: CODES[rng.usize(..CODES.len())], jt: 0, jf: 0, k: constant(rng) },
                }
            })
            .collect();
        instructions.push(end(rng));
        if let Ok(program) = FilterProgram::new(instructions) {
            return program;
        }
    }
}

#[test]
fn random_programs_decide_in_the_kernel_as_in_user_space() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let mut rng = Rng::with_seed(SEED);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..PROGRAMS {
        let program = random_program(&mut rng);
        let direction = u32::from([EGRESS, INGRESS][rng.usize(..2)]);
        let load =
            |access| load_filter(&program, access, direction).unwrap_or_else(|error| panic!("{error}\n{program}"));
        let loaded = [PacketAccess::Direct, PacketAccess::Helper].map(load);
        for _ in 0..FRAMES {
            let length = rng.usize(14..90);
            let mut frame: Vec<u8> = std::iter::repeat_with(|| rng.u8(..) & 0x8f).take(length).collect();
            // Not IP, of which BPF_PROG_TEST_RUN requires more bytes.
            frame[12] = 0x88;
            let is_egress = Some(direction == u32::from(EGRESS));
            let expected = program.run(&FilteredFrame { bytes: &frame, length: length as u32, is_egress });
            for loaded in &loaded {
                let (result, _) = sys::test_run(loaded.as_fd(), &frame, &[], 1).expect("runs");
                assert_eq!(result.cast_unsigned(), expected, "{frame:02x?}\n{program}");
            }
            *if expected == 0 { &mut rejected } else { &mut accepted } += 1;
        }
    }
    assert!(accepted > 1000 && rejected > 1000, "{accepted} accepted, {rejected} rejected");
}

fn program(text: &str) -> FilterProgram {
    text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Packets of more than 500 bytes, up to `bytes` of each.
fn long_packets(bytes: u32) -> FilterProgram {
    program(&format!("4\n128 0 0 0\n37 0 1 500\n6 0 0 {bytes}\n6 0 0 0"))
}

#[test]
fn packets_that_do_not_match_are_counted_and_not_copied() {
    with_link(|link| {
        let (tap, mut ring) = filtered_tap(link, &TapConfig::default(), Some(&long_packets(262_144)), METHODS);
        assert_eq!(tap.filter_error(), None);
        link.up();
        send(link, 40, |number| if number % 4 == 0 { 1000 } else { 100 });
        let ours = datagrams(&mut ring);
        assert_eq!(ours.len(), 10);
        assert!(ours.iter().all(|(direction, length, bytes)| {
            (*direction, *length, bytes.len()) == (Direction::Egress, 1042, 1042)
        }));
        let stats = ring.stats().expect("read");
        assert!(stats.filtered.egress >= 30, "{stats:?}");
        // The kernel's own packets are shorter.
        assert_eq!(stats.observed.egress, stats.filtered.egress + 10, "{stats:?}");
        assert_eq!(stats.lost(), Default::default());
    });
}

#[test]
fn a_filter_may_accept_a_part_of_a_packet() {
    with_link(|link| {
        let (_tap, mut ring) = filtered_tap(link, &TapConfig::default(), Some(&long_packets(60)), METHODS);
        link.up();
        send(link, 3, |_| 1000);
        let lengths: Vec<_> = datagrams(&mut ring).iter().map(|(_, length, bytes)| (*length, bytes.len())).collect();
        assert_eq!(lengths, [(1042, 60); 3]);
    });
}

#[test]
fn inbound_and_outbound_are_those_of_the_target() {
    for (code, expected) in [(4, Direction::Egress), (0, Direction::Ingress)] {
        with_link(|link| {
            let receiver = UdpSocket::bind("198.51.100.1:4000").expect("bound");
            let filter = program(&format!("4\n32 0 0 {PACKET_TYPE}\n21 0 1 {code}\n6 0 0 262144\n6 0 0 0"));
            let (_tap, mut ring) = filtered_tap(link, &TapConfig::default(), Some(&filter), METHODS);
            link.up();
            send(link, 3, |_| 100);
            receiver.send_to(b"back", "198.51.100.2:5000").expect("sent");
            let directions: Vec<_> = ring.batch(u64::MAX).packets().map(|packet| packet.direction).collect();
            assert!(directions.contains(&expected), "{directions:?}");
            assert!(directions.iter().all(|direction| *direction == expected), "{directions:?}");
        });
    }
}

#[test]
fn without_the_kernels_help_every_packet_is_copied_whole() {
    with_link(|link| {
        let loop_forever = program("2\n5 0 0 4294967295\n6 0 0 0");
        let config = TapConfig { snaplen: 64, ..TapConfig::default() };
        let (tap, mut ring) = filtered_tap(link, &config, Some(&loop_forever), METHODS);
        let why = tap.filter_error().expect("the kernel has no such filters");
        assert!(why.contains("loop"), "{why}");
        link.up();
        send(link, 3, |_| 1000);
        let lengths: Vec<_> = datagrams(&mut ring).iter().map(|(_, _, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [1042; 3]);
    });
}

#[test]
fn the_kernel_does_not_decide_on_a_packet_with_a_tag_outside() {
    with_link(|link: &TestLink| {
        let config = TapConfig { snaplen: 64, ..TapConfig::default() };
        let (_tap, mut ring) = filtered_tap(link, &config, Some(&program("1\n6 0 0 0")), METHODS);
        link.up();
        let frame = [&[2; 12][..], &[0x81, 0, 0, 5, 0x88, 0xb5], &[7; 182]].concat();
        link.in_target(|| {
            PacketSocket::new().and_then(|socket| socket.send(&frame, link.target_ifindex)).expect("sent")
        });
        let batch = ring.batch(u64::MAX);
        let packets: Vec<_> = batch.packets().map(|packet| (packet.vlan, packet.bytes.len())).collect();
        assert_eq!(packets, [(Some((0x8100, 5)), 196)]);
    });
}

/// As libpcap makes them for long lists of addresses: the time in the verifier is linear.
#[test]
fn a_long_filter_loads() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let pairs = (0..500).map(|number| format!("32 0 0 {}\n21 {} 0 {number}\n", number % 40, number % 2));
    let text = format!("1002\n{}6 0 0 1\n6 0 0 0", pairs.collect::<String>());
    let filter = program(&text);
    let code = translate(&filter, PacketAccess::Direct).expect("translated");
    load_filter(&filter, PacketAccess::Direct, 0)
        .unwrap_or_else(|error| panic!("{} instructions: {error}", code.len()));
}
