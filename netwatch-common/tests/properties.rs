//! Properties of the parser on arbitrary frames: it never panics, returns exactly one key, and its
//! lengths are consistent.

use netwatch_common::flow::kind;
use netwatch_common::fragment::NoFragments;
use netwatch_common::observation::Observation;
use netwatch_common::parse::{self, Captured, Hook, LinkType, Linked, Meta, Packet};
use netwatch_common::remainder;
use proptest::prelude::*;

/// Random bytes after headers that lead deep into the parser.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let ethertype = prop_oneof![Just(0x0800_u16), Just(0x86dd), Just(0x8100), Just(0x88a8), Just(0x0806), any::<u16>()];
    let start =
        prop_oneof![Just(vec![]), Just(vec![0x45, 0]), Just(vec![0x60, 0, 0, 0, 0, 60]), Just(vec![0, 1, 0x08, 0])];
    (prop::collection::vec(any::<u8>(), 12), ethertype, start, prop::collection::vec(extensionish(), 0..200)).prop_map(
        |(addresses, ethertype, start, rest)| [addresses, ethertype.to_be_bytes().to_vec(), start, rest].concat(),
    )
}

/// Random bytes, with frequent protocol numbers.
fn extensionish() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), Just(0), Just(6), Just(17), Just(43), Just(44), Just(51), Just(58), Just(60)]
}

/// Plain IPv4 and IPv6 with TCP or UDP, sometimes with a wrong length.
fn transport_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..80);
    (any::<bool>(), prop_oneof![Just(6_u8), Just(17)], payload, -2_i16..3).prop_map(
        |(is_v4, protocol, payload, lie)| {
            let len = payload.len() as i16 + lie + if is_v4 { 20 } else { 0 };
            let len = len.max(0).to_be_bytes();
            let header = if is_v4 {
                vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 198, 51, 100, 1]
            } else {
                [&[0x60, 0, 0, 0, len[0], len[1], protocol, 64][..], &[7; 32]].concat()
            };
            let ethertype = if is_v4 { [8, 0] } else { [0x86, 0xdd] };
            [&[2; 12][..], &ethertype, &header, &payload].concat()
        },
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    prop_oneof![Just(Hook::FromTarget), Just(Hook::ToTarget), Just(Hook::Loopback)]
}

fn link() -> impl Strategy<Value = LinkType> {
    use LinkType::{Cooked, Cooked2, Ethernet, Ip, Ipv4, Ipv6, Null, Other, Ppi, Ppp, Pppoe};
    prop::sample::select(vec![Ethernet, Cooked, Cooked2, Ip, Ipv4, Ipv6, Null, Ppp, Pppoe, Ppi, Other])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frame_is_counted_once(
        frame in frame(),
        cut in 0_usize..256,
        segs in 0_u32..4,
        size in prop_oneof![Just(0_u32), 1_u32..3000],
        tagged: bool,
        hook in hook(),
    ) {
        let bytes = &frame[..cut.min(frame.len())];
        let captured = Captured { bytes, orig_len: frame.len() as u32 };
        let meta = Meta { gso_segs: segs, gso_size: size, tagged };
        let seen = Observation::new(&captured, &meta, hook, 1, &mut NoFragments);
        prop_assert!(matches!(
            seen.key.kind,
            kind::IPV4 | kind::IPV6 | kind::IPV4_FRAGMENT | kind::IPV6_FRAGMENT
                | kind::HOUSEKEEPING | kind::NON_IP | kind::MALFORMED
        ));
        prop_assert!(remainder::slot(&seen.key) < remainder::COUNT);
        prop_assert_eq!(seen.size.bytes, frame.len() as u64);
        prop_assert!(seen.size.packets() >= 1 && seen.size.wire_bytes() >= seen.size.bytes);
        prop_assert!(seen.packet.payload_offset + seen.packet.payload_len <= frame.len() as u32);
        prop_assert_eq!(seen.key.zero, 0);
    }

    /// The parser of the short path gives the same result as the full parser, or declines.
    #[test]
    fn quick_and_full_parser_agree(
        frame in prop_oneof![frame(), transport_frame()],
        size in prop_oneof![Just(0_u32), 1_u32..3000],
    ) {
        let meta = Meta { gso_segs: 0, gso_size: size, tagged: false };
        let captured = Captured::whole(&frame);
        let (mut short, mut long) = (Packet::default(), Packet::default());
        parse::parse(&captured, &meta, &mut long);
        if parse::quick(&captured, &meta, &mut short) {
            prop_assert_eq!(short, long);
            prop_assert!(long.protocol == 6 || long.protocol == 17);
        }
    }

    /// Any link type, and any truncation.
    #[test]
    fn any_frame_of_any_link_is_counted_once(
        frame in frame(),
        start in 0_usize..16,
        cut in 0_usize..256,
        orig_len in prop_oneof![0_u32..300, any::<u32>()],
        link in link(),
        hook in hook(),
    ) {
        // Bytes from the middle of an Ethernet frame may match any other link layer.
        let bytes = frame.get(start..).unwrap_or_default();
        let bytes = &bytes[..cut.min(bytes.len())];
        let linked = Linked { captured: Captured { bytes, orig_len }, link };
        let seen = Observation::new(&linked, &Meta::default(), hook, 1, &mut NoFragments);
        let length = u64::from(orig_len).max(bytes.len() as u64);
        prop_assert!(remainder::slot(&seen.key) < remainder::COUNT);
        prop_assert_eq!((seen.size.packets(), seen.size.bytes, seen.size.wire_bytes()), (1, length, length));
        prop_assert!(u64::from(seen.packet.payload_offset) + u64::from(seen.packet.payload_len) <= length);
    }

    /// A packet and its answer have the same key, on the link and on the loopback.
    #[test]
    fn both_directions_share_a_key(local in any::<[u8; 4]>(), remote in any::<[u8; 4]>(), ports in any::<[u16; 2]>()) {
        let there = udp(local, remote, ports);
        let back = udp(remote, local, [ports[1], ports[0]]);
        let look = |frame: &[u8], hook| {
            let seen = Observation::new(&Captured::whole(frame), &Meta::default(), hook, 1, &mut NoFragments);
            (seen.key, seen.direction)
        };
        let (sent, received) = (look(&there, Hook::FromTarget), look(&back, Hook::ToTarget));
        prop_assert_eq!((sent.0, sent.1 ^ 1), received);
        let (one, other) = (look(&there, Hook::Loopback), look(&back, Hook::Loopback));
        prop_assert_eq!(one.0, other.0);
        prop_assert!(one.1 != other.1 || (local, ports[0]) == (remote, ports[1]));
    }
}

fn udp(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes).concat();
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    [&[0; 12][..], &[8, 0], &ip, &source, &destination, &ports, &[0, 8, 0, 0]].concat()
}

#[test]
fn a_truncated_udp_header_is_not_counted_with_the_usual_framing() {
    let whole = udp([192, 0, 2, 1], [192, 0, 2, 2], [7, 9]);
    let quick = |frame: &[u8]| parse::quick(&Captured::whole(frame), &Meta::default(), &mut Packet::default());
    assert!(quick(&whole));
    for cut in 4..8 {
        let mut frame = whole[..34 + cut].to_vec();
        frame[17] = 20 + cut as u8;
        assert!(!quick(&frame), "{cut} bytes of the header");
    }
}
