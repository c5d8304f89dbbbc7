//! The payload of unusual packets is exact, or unknown with its reason.

use super::*;
use crate::flow::{Payload, PayloadGap};

const FIN: u8 = 1;
const CLIENT: (u8, u16) = (9, 40_000);
const SERVER: (u8, u16) = (1, 80);
/// The first sequence number of each end.
const FIRST: u32 = 1_000;

/// A TCP segment that begins so many bytes after the first sequence number of its sender.
fn segment(from: (u8, u16), to: (u8, u16), flags: u8, at: u32, payload: &[u8]) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let numbers = [(FIRST + at).to_be_bytes(), (FIRST + 1).to_be_bytes()].concat();
    ipv4(6, from.0, to.0, &[&ports[..], &numbers, &[0x50, flags, 1, 0, 0, 0, 0, 0], payload].concat())
}

/// A connection on which the client has sent 100 bytes and the server 50.
fn opened() -> Vec<Vec<u8>> {
    vec![
        segment(CLIENT, SERVER, SYN, 0, b""),
        segment(SERVER, CLIENT, SYN | ACK, 0, b""),
        segment(CLIENT, SERVER, ACK, 1, &[1; 100]),
        segment(SERVER, CLIENT, ACK, 1, &[2; 50]),
    ]
}

/// The payload that was sent and received by the end that opened the flow.
fn payload(frames: &[Vec<u8>]) -> Result<(u64, u64), PayloadGap> {
    let mut counting = Counting::new(16);
    (1..).zip(frames).for_each(|(now_ns, frame)| counting.count(frame, now_ns));
    let mut payload = Payload::default();
    counting.all().iter().for_each(|one| payload.grow(one.payload));
    payload.bytes().map(|bytes| (bytes.egress, bytes.ingress)).ok_or_else(|| payload.gap().expect("a reason"))
}

fn payload_after(frame: Vec<u8>) -> Result<(u64, u64), PayloadGap> {
    payload(&[opened(), vec![frame]].concat())
}

#[test]
fn late_copies_of_the_handshake_take_nothing_back() {
    assert_eq!(payload(&opened()), Ok((100, 50)));
    assert_eq!(payload_after(segment(CLIENT, SERVER, SYN, 0, b"")), Ok((100, 50)));
    assert_eq!(payload_after(segment(SERVER, CLIENT, SYN | ACK, 0, b"")), Ok((100, 50)));
}

#[test]
fn data_of_a_syn_that_is_repeated_without_it_was_not_sent() {
    let mut frames = opened();
    frames[0] = segment(CLIENT, SERVER, SYN, 0, &[3; 200]);
    frames.insert(1, segment(CLIENT, SERVER, SYN, 0, b""));
    assert_eq!(payload(&frames), Ok((100, 50)));
}

#[test]
fn the_fin_of_a_reset_takes_no_sequence_number() {
    assert_eq!(payload_after(segment(CLIENT, SERVER, RST | FIN | ACK, 101, b"")), Ok((100, 50)));
    assert_eq!(payload_after(segment(CLIENT, SERVER, FIN | ACK, 101, b"")), Ok((100, 50)));
}

#[test]
fn the_end_of_a_stream_in_fragments_is_unknown() {
    let whole = segment(CLIENT, SERVER, ACK, 101, &[4; 60]);
    // 20 bytes of TCP header and 28 of payload, then 32 of payload.
    let fragment = |offset: u8, rest: &[u8]| {
        let mut fragment = ipv4(6, CLIENT.0, SERVER.0, rest);
        let more = if offset == 0 { 0x20 } else { 0 };
        fragment[4..8].copy_from_slice(&[7, 7, more, offset]);
        fragment
    };
    let fragments = [fragment(0, &whole[20..68]), fragment(6, &whole[68..])];
    assert_eq!(payload(&[&opened()[..], &fragments].concat()), Err(PayloadGap::Fragment));
}
