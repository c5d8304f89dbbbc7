//! Expressions on random packets: the interpreter and the translation into eBPF decide as libpcap's
//! own `bpf_filter`. This is a short run; `cargo xtask fuzz` sets the variables for a long one.

use std::env;
use std::ffi::c_uint;
use std::os::fd::{AsFd, OwnedFd};

use fastrand::Rng;

use super::libpcap::{BpfFilter, LibPcap};
use crate::filter::{FilterProgram, FilteredFrame, PacketAccess};
use crate::meter::kernel::{load_filter, sys};

/// One in a line.
const EXPRESSIONS: &str = include_str!("expressions.txt");
/// Default number of packets for each expression.
const PACKETS: u64 = 10_000;
/// The kernel decides about one packet in so many: a run of it takes a hundred times as long.
const KERNEL_INTERVAL: u64 = 100;
const ETHERNET: i32 = 1;
/// BPF_PROG_TEST_RUN rejects longer frames.
const MAX_FRAME: usize = 3_712;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// An expression in each of its forms.
struct Subject {
    expression: &'static str,
    program: FilterProgram,
    /// With direct access and by the helper function; empty without the rights to load programs.
    loaded: Vec<OwnedFd>,
    matched: u64,
}

impl Subject {
    fn new(library: &LibPcap, expression: &'static str) -> Self {
        let instructions =
            library.compile(expression, ETHERNET).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let program = FilterProgram::new(instructions).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let mut loaded = Vec::new();
        if nix::unistd::geteuid().is_root() {
            let load = |access| match load_filter(&program, access, 0) {
                Ok(loaded) => Some(loaded),
                // As documented, the kernel cannot apply it.
                Err(_) if expression.contains("protochain") => None,
                Err(error) => panic!("{expression}: {error}"),
            };
            loaded.extend([PacketAccess::Direct, PacketAccess::Helper].into_iter().filter_map(load));
        }
        Self { expression, program, loaded, matched: 0 }
    }

    /// Compares all forms on a packet, of which `captured` bytes are there.
    fn compare(&mut self, bpf_filter: BpfFilter, packet: &[u8], captured: usize, by_kernel: bool) {
        let (bytes, length) = (&packet[..captured], packet.len() as u32);
        // SAFETY: libpcap compiled the instructions, and reads so many bytes.
        let expected =
            unsafe { bpf_filter(self.program.instructions().as_ptr(), bytes.as_ptr(), length, captured as c_uint) };
        let accepted = self.program.run(&FilteredFrame { bytes, length, is_egress: None });
        assert_eq!(accepted, expected, "{}: {length} bytes, captured {bytes:02x?}", self.expression);
        self.matched += u64::from(accepted != 0);
        if !by_kernel || captured < packet.len() || !is_runnable(packet) {
            return;
        }
        for program in &self.loaded {
            match sys::test_run(program.as_fd(), packet, &[], 1) {
                Ok((accepted, _)) => {
                    assert_eq!(accepted.cast_unsigned(), expected, "{} in the kernel: {packet:02x?}", self.expression);
                }
                Err(error) => panic!("{error}: {packet:02x?}"),
            }
        }
    }
}

/// Whether BPF_PROG_TEST_RUN accepts the frame.
fn is_runnable(frame: &[u8]) -> bool {
    let least = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => 14,
    };
    (least..=MAX_FRAME).contains(&frame.len())
}

#[test]
fn every_form_of_a_filter_decides_as_libpcap() {
    let Ok(library) = LibPcap::load() else { return println!("skipped: needs libpcap") };
    let bpf_filter = library.bpf_filter();
    let packets = number("NETWATCH_FUZZ_PACKETS").unwrap_or(PACKETS);
    let seed = number("NETWATCH_FUZZ_SEED").unwrap_or_else(|| Rng::new().u64(..));
    let mut subjects: Vec<_> = EXPRESSIONS.lines().map(|expression| Subject::new(&library, expression)).collect();
    assert!(subjects.len() >= 200, "{} expressions", subjects.len());
    println!("{packets} packets for each of {} expressions, NETWATCH_FUZZ_SEED={seed}", subjects.len());
    let mut rng = Rng::with_seed(seed);
    for number in 0..packets {
        let packet = packet(&mut rng);
        let captured = if rng.u8(..4) == 0 { rng.usize(..=packet.len()) } else { packet.len() };
        let by_kernel = number.is_multiple_of(KERNEL_INTERVAL);
        for subject in &mut subjects {
            subject.compare(bpf_filter, &packet, captured, by_kernel);
        }
    }
    let (mixed, uniform): (Vec<&Subject>, Vec<&Subject>) =
        subjects.iter().partition(|subject| (1..packets).contains(&subject.matched));
    let uniform: Vec<_> = uniform.iter().map(|subject| subject.expression).collect();
    println!("{} expressions match some packets; always the same: {uniform:?}", mixed.len());
    assert!(mixed.len() >= 170, "the packets do not exercise the expressions: {uniform:?}");
}

/// Values that the expressions are about, and others.
const ADDRESSES: [[u8; 4]; 6] =
    [[198, 51, 100, 1], [198, 51, 100, 2], [203, 0, 113, 7], [203, 0, 113, 200], [10, 1, 2, 3], [224, 0, 0, 251]];
const ADDRESSES_V6: [&[u8]; 5] =
    [b"\x20\x01\x0d\xb8", b"\x20\x01\x0d\xb8\0\0\0\x01", b"\xfe\x80", b"\xff\x02", b"\x3f\xff"];
const PORTS: [u16; 9] = [80, 443, 53, 8080, 1024, 1500, 6081, 4789, 60000];
const ETHERTYPES: [u16; 10] = [0x0806, 0x8035, 0x88cc, 0x809b, 0x6004, 0x6002, 0x6001, 0x6003, 0x80f3, 0x8137];

/// A frame that is valid for the most part.
fn packet(rng: &mut Rng) -> Vec<u8> {
    let mac = |rng: &mut Rng| match rng.u8(..8) {
        0 => [0xff; 6],
        1 => [0x33, 0x33, 0, 0, 0, 1],
        number => [2, 0, 0, 0, 0, number % 3],
    };
    let mut frame = [mac(rng), mac(rng)].concat();
    link_payload(rng, &mut frame);
    let payload = [0, 0, 5, 40, 700][rng.usize(..5)];
    frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(payload));
    for _ in 0..[0, 0, 1, 3][rng.usize(..4)] {
        let at = rng.usize(..frame.len().min(80));
        frame[at] = [0, 1, 6, 17, 44, 0x45, 0x60, 0x81, 0xff, rng.u8(..)][rng.usize(..10)];
    }
    if rng.u8(..8) == 0 {
        frame.truncate(rng.usize(14..=frame.len()));
    }
    frame
}

/// The EtherType, or a length with LLC, and what follows.
fn link_payload(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..[0, 0, 0, 0, 0, 1, 2][rng.usize(..7)] {
        frame.extend([[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]][rng.usize(..3)]);
        frame.extend([rng.u8(..) & 0xf0, 4 + rng.u8(..4)]);
    }
    match rng.u8(..16) {
        0 => frame.extend(ETHERTYPES[rng.usize(..ETHERTYPES.len())].to_be_bytes()),
        1 => {
            let sap = [0xaa, 0xfe, 0x42, 0xe0, 0xf0][rng.usize(..5)];
            frame.extend([0, 40, sap, sap, 3, 0, 0, 0, 0x80, 0xf3]);
        }
        2 | 3 => {
            let protocol = [0x0806_u16, 0x8035][rng.usize(..2)].to_be_bytes();
            frame.extend([&protocol[..], &[0, 1, 8, 0, 6, 4, 0, 1 + rng.u8(..2)]].concat());
            for _ in 0..2 {
                frame.extend([&[2, 0, 0, 0, 0, 1][..], &ADDRESSES[rng.usize(..6)]].concat());
            }
        }
        4 => {
            frame.extend([0x88, 0x47]);
            let labels = 1 + rng.usize(..2);
            for label in 1..=labels {
                let value = [100_u32, 200, 7][rng.usize(..3)] << 12 | u32::from(label == labels) << 8 | 64;
                frame.extend(value.to_be_bytes());
            }
            if rng.bool() { ipv4(rng, frame) } else { ipv6(rng, frame) }
        }
        5 => {
            frame.extend([[0x88, 0x63], [0x88, 0x64], [0x88, 0x64]][rng.usize(..3)]);
            frame.extend([0x11, 0, 0, 7 + rng.u8(..2), 0, 40]);
            let is_v4 = rng.bool();
            frame.extend([0, if is_v4 { 0x21 } else { 0x57 }]);
            if is_v4 { ipv4(rng, frame) } else { ipv6(rng, frame) }
        }
        6..=10 => {
            frame.extend([0x86, 0xdd]);
            ipv6(rng, frame);
        }
        _ => {
            frame.extend([0x08, 0x00]);
            ipv4(rng, frame);
        }
    }
}

fn ipv4(rng: &mut Rng, frame: &mut Vec<u8>) {
    let words = [5, 5, 5, 6, 15][rng.usize(..5)];
    let protocol = [6, 6, 6, 17, 17, 1, 2, 47, 50, 51, 103, 112, 132, rng.u8(..)][rng.usize(..14)];
    let fragment = [0, 0, 0, 0x40, 0x20, 0x01][rng.usize(..6)];
    let total = 60 + rng.u8(..100);
    frame.extend([0x40 | words, rng.u8(..) & 0x2b, 0, total, 0, rng.u8(..), fragment, 0, rng.u8(..), protocol, 0, 0]);
    for _ in 0..2 {
        frame.extend(ADDRESSES[rng.usize(..6)]);
    }
    frame.extend(vec![1; usize::from(words - 5) * 4]);
    transport(rng, protocol, frame);
}

fn ipv6(rng: &mut Rng, frame: &mut Vec<u8>) {
    let transport_protocol = [6, 6, 17, 17, 58, 132, rng.u8(..)][rng.usize(..7)];
    let extensions: Vec<u8> =
        (0..[0, 0, 0, 1, 2][rng.usize(..5)]).map(|_| [0, 43, 44, 60, 51][rng.usize(..5)]).collect();
    let chain = [&extensions[..], &[transport_protocol]].concat();
    frame.extend([0x60, rng.u8(..), 0, 0, 0, 20 + rng.u8(..60), chain[0], rng.u8(..)]);
    for _ in 0..2 {
        let prefix = ADDRESSES_V6[rng.usize(..5)];
        let mut address = [0; 16];
        address[..prefix.len()].copy_from_slice(prefix);
        address[15] = 1 + rng.u8(..2);
        frame.extend(address);
    }
    for next in &chain[1..] {
        frame.extend([*next, 0, 0, 0, 0, 0, 0, 0]);
    }
    transport(rng, transport_protocol, frame);
}

fn transport(rng: &mut Rng, protocol: u8, frame: &mut Vec<u8>) {
    let mut port = || PORTS[rng.usize(..PORTS.len())].to_be_bytes();
    let ports = [port(), port()].concat();
    match protocol {
        6 => {
            frame.extend(&ports);
            frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(8));
            let flags = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, rng.u8(..)][rng.usize(..7)];
            frame.extend([[0x50, 0x50, 0x80, 0xf0][rng.usize(..4)], flags, 0, rng.u8(..2), 0, rng.u8(..2), 0, 0]);
            frame.extend([&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\0\x05", b""][rng.usize(..3)]);
        }
        17 => {
            let sum = rng.u8(..2);
            frame.extend([&ports[..], &[0, 8 + rng.u8(..40), 0, sum]].concat());
            frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(24));
        }
        1 => frame.extend([[8, 0, 3, 11][rng.usize(..4)], rng.u8(..4), 0, 0]),
        58 => frame.extend([[128, 129, 135, 136][rng.usize(..4)], 0, 0, 0]),
        _ => frame.extend(&ports),
    }
}
