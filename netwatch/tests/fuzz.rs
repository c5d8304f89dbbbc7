//! A short run of the fuzz targets in `tests/fuzz`, without libFuzzer: messages of every parsed
//! protocol, damaged at random.

#[path = "../../tests/fuzz/targets/names.rs"]
mod names;
#[path = "../../tests/fuzz/targets/records.rs"]
mod records;
#[path = "../../tests/fuzz/targets/wire.rs"]
mod wire;

use std::cell::Cell;
use std::mem::offset_of;
use std::panic::AssertUnwindSafe;

use fastrand::Rng;
use netwatch::wire::http1::Begins;
use netwatch::wire::tls::{Carrier, ClientHello};
use netwatch::wire::{dns, http1, identify, proxy_header};
use netwatch_common::process::{EventHead, kind};

/// Of each target. A debug build reads them in about a second.
const INPUTS: u64 = 60_000;
/// Always the same inputs: a test has to pass twice in a row. libFuzzer looks further.
const SEED: u64 = 0x6e65_7477;

/// A ClientHello with a server name, ALPN and a key share, as the body of a handshake message.
const HELLO: &[u8] = b"\x01\x00\x00\x5e\x03\x03aaaaaaaabbbbbbbbccccccccdddddddd\x00\x00\x04\x13\x01\xc0\x2f\x01\x00\x00\x31\
    \x00\x00\x00\x10\x00\x0e\x00\x00\x0bapp.example\x00\x10\x00\x0e\x00\x0c\x02h2\x08http/1.1\x00\x2b\x00\x03\x02\x03\x04\x0a\x0a\x00\x00";

/// The first bytes of every message that the parsers distinguish.
const MESSAGES: &[&[u8]] = &[
    b"",
    b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\x03app\x07example\x00\x00\x01\x00\x01\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03cdn\
      \xc0\x10\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x0a",
    b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x07example\x00\x00\x41\x00\x01",
    b"GET / HTTP/1.1\r\nHost: app.example\r\nUpgrade: h2c\r\n\r\n",
    b"CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
    b"HTTP/1.1 301 Moved\r\nServer: x\r\nLocation: https://app.example/\r\n\r\n",
    b"PROXY TCP4 198.51.100.1 203.0.113.10 40000 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x01\xcb\x00\x71\x0a\x9c\x40\x01\xbb",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x0f\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x0aapp.example",
    b"220 mail.example ESMTP\r\n",
    b"EHLO me\r\nSTARTTLS\r\n",
    b"* OK IMAP4rev1\r\na STARTTLS\r\na OK\r\n",
    b"+OK\r\nSTLS\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\xc3\x00\x00\x00\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\x00\x00\x44\x9e\x7b\x9a\xec\x34",
    b"\xc0\x00\x00\x00\x00\x08\x01\x02\x03\x04\x05\x06\x07\x08\x00\x6b\x33\x43\xcf",
    b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x28\x01\x00\x00\x64\x00\x00\x00\x00\x00\x00\x1c\xfe\xfd",
    b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
    b"\x23\x02\x06\xe8\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x30\xff\x00\x10\x00\x00\x00\x01\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11",
    b"\x08\x00\x00\x00\x00\x00\x01\x00\xaa\xaa\xaa\xaa\xaa\xaa\xbb\xbb\xbb\xbb\xbb\xbb\x08\x00\x45",
];

/// One or two messages, with a few bytes changed, removed or doubled, and truncated.
fn damaged(random: &mut Rng) -> Vec<u8> {
    let hello = [&b"\x16\x03\x01\x00\x62"[..], HELLO].concat();
    let messages: Vec<&[u8]> = MESSAGES.iter().copied().chain([HELLO, &HELLO[4..], &hello]).collect();
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..3) {
        bytes.extend(messages[random.usize(..messages.len())]);
    }
    for _ in 0..random.usize(..6) {
        let at = random.usize(..=bytes.len());
        let some = (at + random.usize(..12)).min(bytes.len());
        match random.u8(..5) {
            0 => drop(bytes.drain(at..some)),
            1 => bytes.extend_from_within(at..some),
            2 => drop(bytes.splice(at..at, [0, 0xff, 0x80, 0x3f])),
            _ => bytes[at..some].iter_mut().take(2).for_each(|byte| *byte = random.u8(..)),
        }
    }
    if random.bool() {
        bytes.truncate(random.usize(..=bytes.len()));
    }
    bytes
}

fn inputs(begin: impl Fn(&mut Rng) -> Vec<u8>, read: impl Fn(&[u8])) {
    let mut random = Rng::with_seed(SEED);
    for number in 0..INPUTS {
        let input = begin(&mut random);
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| read(&input)));
        assert!(done.is_ok(), "input {number}: {input:x?}");
    }
}

/// Or what is damaged would be nothing.
#[test]
fn undamaged_messages_are_understood() {
    let hello = ClientHello::parse(&HELLO[4..], true, Carrier::Tls).expect("a hello");
    assert_eq!((hello.server_name(), hello.alpn().next()), (Some(&b"app.example"[..]), Some(&b"h2"[..])));
    assert_eq!(dns::parse(MESSAGES[1]).expect("an answer").records.len(), 2);
    assert!(dns::framed(MESSAGES[2]).is_some());
    assert_eq!(proxy_header::length(MESSAGES[6]), Some(MESSAGES[6].len()));
    assert!(matches!(http1::request(MESSAGES[3]), Begins::Yes(request) if request.host == Some(b"app.example")));
    assert!(format!("{:?}", identify::stream(MESSAGES[14])).to_lowercase().contains("ssh"));
}

#[test]
fn every_parser_takes_everything() {
    inputs(|random| [&[random.u8(..)][..], &damaged(random)].concat(), wire::read);
}

/// Datagrams of QUIC and DTLS, and frames of HTTP/2, come behind their lengths.
#[test]
fn pieces_too() {
    let pieces = |random: &mut Rng| {
        let mut input = vec![random.u8(..)];
        for _ in 0..random.usize(1..5) {
            let piece = damaged(random);
            let piece = &piece[..piece.len().min(255)];
            input.push(piece.len() as u8);
            input.extend(piece);
        }
        input
    };
    inputs(pieces, wire::read);
}

/// Packets of a few flows. A header of four bytes selects flow, protocol and direction; its last
/// byte is a quarter of the length of the payload, which follows.
#[test]
fn names_stay_within_their_bounds() {
    let packets = |random: &mut Rng| {
        let mut input = Vec::new();
        for _ in 0..random.usize(1..12) {
            let mut payload = damaged(random);
            payload.truncate(1020);
            payload.resize(payload.len().next_multiple_of(4), 0);
            input.extend([random.u8(..), random.u8(..), random.u8(..32), (payload.len() / 4) as u8]);
            input.extend(payload);
        }
        input
    };
    inputs(packets, names::observe);
}

/// Records of every kind and of unknown kinds, truncated anywhere, of few processes and sockets,
/// with random content.
#[test]
fn records_of_processes() {
    let record = |random: &mut Rng| {
        let mut record = vec![0_u8; random.usize(..1500)];
        let length = record.len();
        random.fill(&mut record);
        let mut put = |at: usize, number: u32| {
            if let Some(place) = record.get_mut(at..at + 4) {
                place.copy_from_slice(&number.to_ne_bytes());
            }
        };
        // Lengths within records, cookies and addresses are small numbers now and then.
        (size_of::<EventHead>()..length.min(208)).step_by(4).for_each(|at| match random.u8(..3) {
            0 => put(at, 0),
            1 => put(at, random.u32(..300)),
            _ => {}
        });
        put(offset_of!(EventHead, kind), random.u32(..kind::EXIT + 2));
        put(offset_of!(EventHead, pid), random.u32(..20));
        put(offset_of!(EventHead, program), random.u32(..3));
        put(offset_of!(EventHead, start_ns), 0);
        put(offset_of!(EventHead, start_ns) + 4, 0);
        [&(length as u16).to_le_bytes()[..], &record].concat()
    };
    let understood = Cell::new(0);
    let some = |random: &mut Rng| (0..random.usize(1..8)).flat_map(|_| record(random)).collect();
    inputs(some, |input| understood.set(understood.get() + records::follow(input)));
    assert!(understood.get() > INPUTS as usize, "{}", understood.get());
}
