//! Tests of packets as a wire would carry them.

use super::checksum::Sum;
use super::{ObservedFrame, Segmenter};

const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
const FLAGS_PSH_ACK_CWR: u8 = 0x98;

/// An IPv4 packet whose checksum was left to hardware.
fn ipv4(protocol: u8, transport: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = 20 + transport.len() + payload.len();
    let mut ip = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 198, 51, 100, 2, 198, 51, 100, 1];
    ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let sum = Sum::default().add(&ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&ETHERNET[..], &ip, transport, payload].concat();
    let pseudo = pseudo(&frame, length - 20).folded();
    let at = 34 + if protocol == 6 { 16 } else { 6 };
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

fn pseudo(frame: &[u8], length: usize) -> Sum {
    Sum::default().add(&frame[26..34]).add_number(frame[23].into()).add_number(length as u32)
}

fn tcp(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x13, 0x88, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 0x50, FLAGS_PSH_ACK_CWR, 1, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    ipv4(6, &header, payload)
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let header = [&[0x13, 0x88, 0, 53][..], &length.to_be_bytes(), &[0, 0]].concat();
    ipv4(17, &header, payload)
}

/// The packets of a frame: bytes, original length, comment.
fn divide(segmenter: &mut Segmenter, frame: &ObservedFrame<'_>) -> Vec<(Vec<u8>, u32, bool)> {
    let mut packets = Vec::new();
    segmenter.divide(frame, &mut |packet| {
        packets.push((packet.parts.concat(), packet.orig_len, packet.comment.is_some()));
    });
    packets
}

fn observed(bytes: &[u8], gso_size: u32, gso_segs: u32) -> ObservedFrame<'_> {
    ObservedFrame { bytes, orig_len: bytes.len() as u32, gso_size, gso_segs, vlan: None }
}

/// A receiver verifies both checksums so: the sums with the checksum are all ones.
fn assert_checksums(packet: &[u8]) {
    let length = usize::from(u16::from_be_bytes([packet[16], packet[17]])) - 20;
    assert_eq!(Sum::default().add(&packet[14..34]).folded(), 0xffff, "IP header");
    assert_eq!(pseudo(packet, length).add(&packet[34..34 + length]).folded(), 0xffff, "transport");
}

#[test]
fn a_super_frame_becomes_the_packets_of_a_wire() {
    let payload: Vec<u8> = (0..2500_u32).map(|number| (number % 251) as u8).collect();
    let frame = tcp(u32::MAX - 999, &payload);
    let packets = divide(&mut Segmenter::default(), &observed(&frame, 1000, 3));
    let payloads: Vec<u8> = packets.iter().flat_map(|(packet, ..)| packet[54..].to_vec()).collect();
    assert_eq!((packets.len(), payloads), (3, payload));
    let sequences = packets.iter().map(|(packet, ..)| u32::from_be_bytes(*packet[38..].first_chunk().unwrap()));
    assert_eq!(sequences.collect::<Vec<_>>(), [u32::MAX - 999, 0, 1000], "the sequence number wraps");
    let ids = packets.iter().map(|(packet, ..)| u16::from_be_bytes([packet[18], packet[19]]));
    assert_eq!(ids.collect::<Vec<_>>(), [0x1234, 0x1235, 0x1236]);
    let flags = packets.iter().map(|(packet, ..)| packet[47]);
    assert_eq!(flags.collect::<Vec<_>>(), [0x90, 0x10, 0x18], "CWR on the first, PSH on the last");
    for (packet, length, has_comment) in &packets {
        assert_eq!((packet.len(), *has_comment), (*length as usize, false));
        assert_checksums(packet);
    }
}

#[test]
fn datagrams_of_a_super_frame_have_their_own_lengths() {
    let frame = udp(&[5; 1050]);
    let packets = divide(&mut Segmenter::default(), &observed(&frame, 500, 3));
    let lengths = packets.iter().map(|(packet, ..)| u16::from_be_bytes([packet[38], packet[39]]));
    assert_eq!(lengths.collect::<Vec<_>>(), [508, 508, 58]);
    packets.iter().for_each(|(packet, ..)| assert_checksums(packet));
}

#[test]
fn a_cut_super_frame_keeps_true_lengths_and_reports_its_checksums() {
    let frame = tcp(1, &[7; 3000]);
    let cut = ObservedFrame { bytes: &frame[..96], ..observed(&frame, 1000, 3) };
    let packets = divide(&mut Segmenter::default(), &cut);
    let about: Vec<_> = packets.iter().map(|(packet, length, comment)| (packet.len(), *length, *comment)).collect();
    assert_eq!(about, [(96, 1054, true), (54, 1054, true), (54, 1054, true)]);
    let checksums: Vec<_> = packets.iter().map(|(packet, ..)| packet[50..52].to_vec()).collect();
    assert!(checksums.iter().all(|checksum| *checksum == frame[50..52]), "as seen");
}

#[test]
fn a_checksum_left_to_hardware_is_completed_and_a_wrong_one_stays() {
    let mut frame = tcp(1, b"hello");
    let packets = divide(&mut Segmenter::default(), &observed(&frame, 0, 0));
    assert_checksums(&packets[0].0);
    frame[50] ^= 0x55;
    assert_eq!(divide(&mut Segmenter::default(), &observed(&frame, 0, 1))[0].0, frame);
}

#[test]
fn super_frames_stay_on_request_and_where_they_cannot_be_divided() {
    let frame = tcp(1, &[7; 3000]);
    let mut keeping = Segmenter::new(true);
    assert_eq!(divide(&mut keeping, &observed(&frame, 1000, 3)), [(frame.clone(), 3054, false)]);
    let gre = ipv4(47, &[0; 40], &[7; 3000]);
    assert_eq!(divide(&mut Segmenter::default(), &observed(&gre, 1000, 3)), [(gre.clone(), 3074, true)]);
}

#[test]
fn a_tag_outside_the_frame_is_put_into_it() {
    let frame = tcp(1, b"hello");
    let tagged = ObservedFrame { vlan: Some((0x8100, 42)), ..observed(&frame, 0, 0) };
    let (packet, length, _) = divide(&mut Segmenter::default(), &tagged).remove(0);
    assert_eq!((packet.len(), length as usize), (frame.len() + 4, frame.len() + 4));
    assert_eq!(packet[12..18], [0x81, 0, 0, 42, 8, 0]);
}

#[test]
fn no_length_or_option_makes_it_panic() {
    let whole = tcp(1, &[7; 100]);
    for length in 0..whole.len() {
        for at in [12, 14, 16, 17, 20, 23, 46] {
            for value in [0, 1, 0x0f, 0x45, 0x60, 0x81, 0xff] {
                let mut frame = whole[..length].to_vec();
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
                for gso_size in [0, 1, 30, u32::MAX] {
                    divide(&mut Segmenter::default(), &observed(&frame, gso_size, 0));
                }
            }
        }
    }
}
