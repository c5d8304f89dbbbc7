//! Tests of packet lines.

use super::*;
use crate::escape::needs_escape;
use crate::flow::{ObservationPoint, TransportAddress};
use crate::wire::testing::{DnsBuilder, HelloBuilder, QUIC_INITIAL, hex};

/// Ethernet and IPv4 of a packet from 198.51.100.2 to 198.51.100.1.
fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0, 198, 51, 100, 2, 198, 51, 100, 1]);
    [&frame[..], body].concat()
}

/// Ethernet and IPv6 of a packet from fe80::2 to fe80::1.
fn ipv6(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[protocol, 255]);
    frame.extend_from_slice(&"fe80::2".parse::<Ipv6Addr>().expect("an address").octets());
    frame.extend_from_slice(&"fe80::1".parse::<Ipv6Addr>().expect("an address").octets());
    [&frame[..], body].concat()
}

/// A TCP segment from port 5000 to port 80.
fn segment(flags: u8, sequence: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x13, 0x88, 0, 80];
    header.extend_from_slice(&sequence.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0, 0, ((20 + options.len()) as u8 / 4) << 4, flags, 1, 0, 0, 0, 0, 0]);
    ipv4(6, &[&header[..], options, payload].concat())
}

fn line_in(style: LineStyle, frame: &[u8], identity: &PacketIdentity) -> String {
    let direction = Some(Direction::Egress);
    let orig_len = frame.len() as u32;
    let printed = PrintedPacket { time_ns: 0, direction, bytes: frame, orig_len, flow: None, identity };
    LineFormat::new(style).line(&printed)
}

/// The line of the first bytes of a frame, without its time and direction.
fn words_of_head(frame: &[u8], length: usize) -> String {
    let (style, identity) = (LineStyle { time: TimeStyle::None, ..LineStyle::default() }, PacketIdentity::default());
    let (bytes, orig_len) = (&frame[..length], frame.len() as u32);
    let printed = PrintedPacket { time_ns: 0, direction: None, bytes, orig_len, flow: None, identity: &identity };
    LineFormat::new(style).line(&printed).strip_prefix("-- ").expect("no direction").to_owned()
}

/// The line without its time and direction.
fn words_of(frame: &[u8]) -> String {
    let line = line_in(LineStyle::default(), frame, &PacketIdentity::default());
    line.strip_prefix("00:00:00.000000 -> ").expect("time and direction").to_owned()
}

#[test]
fn a_syn_is_shown_with_its_options() {
    let wanted = "IP 198.51.100.2.5000 > 198.51.100.1.80: Flags [S], seq 7, win 256, \
                  options [mss 1460,nop,wscale 10], length 0";
    assert_eq!(words_of(&segment(2, 7, &[2, 4, 5, 180, 1, 3, 3, 10], &[])), wanted);
}

#[test]
fn text_from_outside_is_escaped() {
    let identity = PacketIdentity {
        pid: Some(7),
        comm: Some("c\u{1b}[2J".into()),
        name: Some("app.example".into()),
        ..PacketIdentity::default()
    };
    let frame = segment(24, 7, &[], b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n");
    let line = line_in(LineStyle::default(), &frame, &identity);
    assert!(line.ends_with(r"HTTP GET /\027[31m HTTP/1.1 | app.example | c\u{1b}[2J[7]"), "{line}");
    let line = line_in(LineStyle { is_numeric: true, is_quiet: true, ..LineStyle::default() }, &frame, &identity);
    assert!(line.ends_with(r"IP 198.51.100.2.5000 > 198.51.100.1.80: tcp 32 | c\u{1b}[2J[7]"), "{line}");
}

#[test]
fn messages_of_icmp_and_neighbor_discovery_are_shown_in_words() {
    assert_eq!(
        words_of(&ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 9])),
        "IP 198.51.100.2 > 198.51.100.1: ICMP echo request, id 4660, seq 9, length 8"
    );
    let quoted = &ipv4(17, &[0x13, 0x88, 0, 53, 0, 8, 0, 0])[14..];
    assert_eq!(
        words_of(&ipv4(1, &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat())),
        "IP 198.51.100.2 > 198.51.100.1: ICMP port unreachable for UDP 198.51.100.2.5000 > 198.51.100.1.53, length 36"
    );
    let target = "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets();
    assert_eq!(
        words_of(&ipv6(58, &[&[135, 0, 0, 0, 0, 0, 0, 0], &target[..]].concat())),
        "IP6 fe80::2 > fe80::1: ICMP6, neighbor solicitation, who has 2001:db8::7, length 24"
    );
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 198, 51, 100, 2];
    request.extend_from_slice(&[0, 0, 0, 0, 0, 0, 198, 51, 100, 1]);
    let frame = [&[255; 6][..], &[2, 0, 0, 0, 0, 2, 8, 6], &request].concat();
    assert_eq!(words_of(&frame), "ARP, Request who-has 198.51.100.1 tell 198.51.100.2, length 28");
}

/// A UDP datagram from and to these ports.
fn datagram([source, destination]: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let header = [source, destination, length, 0].map(u16::to_be_bytes).concat();
    ipv4(17, &[&header[..], payload].concat())
}

#[test]
fn answers_of_dns_are_shown() {
    let answer = DnsBuilder::response(7, 0, "app.example", 1).answer("app.example", 1, &[198, 51, 100, 7]);
    let line = words_of(&datagram([53, 5000], &answer.bytes()));
    assert!(line.ends_with("DNS 7 A? app.example NOERROR 1/0/0 A 198.51.100.7"), "{line}");
    let missing = DnsBuilder::response(7, 3, "old.example", 28);
    let line = words_of(&datagram([53, 5000], &missing.bytes()));
    assert!(line.ends_with("DNS 7 AAAA? old.example NXDOMAIN 0/0/0"), "{line}");
}

#[test]
fn answers_of_dns_have_their_times_to_live_with_v() {
    let answer = DnsBuilder::response(7, 0, "app.example", 1).answer("app.example", 1, &[198, 51, 100, 7]);
    let style = LineStyle { is_verbose: true, ..LineStyle::default() };
    let line = line_in(style, &datagram([53, 5000], &answer.bytes()), &PacketIdentity::default());
    assert!(line.ends_with("DNS 7 A? app.example NOERROR 1/0/0 app.example [60s] A 198.51.100.7"), "{line}");
}

#[test]
fn dns_that_is_truncated_or_cut_is_marked() {
    let truncated = DnsBuilder::new(7, 0x8380).question("app.example", 1).bytes();
    let line = words_of(&datagram([53, 5000], &truncated));
    assert!(line.ends_with("DNS 7 A? app.example NOERROR truncated 0/0/0"), "{line}");
    let answer = || DnsBuilder::response(7, 0, "app.example", 1).answer("app.example", 1, &[198, 51, 100, 7]);
    let frame = datagram([53, 5000], &answer().bytes());
    let cut = words_of_head(&frame, frame.len() - 1);
    assert!(cut.ends_with("DNS 7 A? app.example NOERROR 1/0/0 [|domain]"), "{cut}");
    for length in 42..56 {
        let cut = words_of_head(&frame, length);
        assert!(cut.ends_with(": DNS [|domain]"), "{length}: {cut}");
    }
    let of_tcp =
        |payload: &[u8]| [&[0x13, 0x88, 0, 53, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 24, 1, 0, 0, 0, 0, 0], payload].concat();
    let frame = ipv4(6, &of_tcp(&answer().framed()));
    let cut = words_of_head(&frame, frame.len() - 1);
    assert!(cut.ends_with("DNS 7 A? app.example NOERROR 1/0/0 [|domain]"), "{cut}");
    let part = words_of(&ipv4(6, &of_tcp(&answer().framed()[..40])));
    assert!(part.ends_with("length 40"), "the next segment has the rest: {part}");
}

#[test]
fn a_query_has_the_number_of_its_additional_records() {
    let query = DnsBuilder::query(7, "app.example", 1).additional("", 41, &[]);
    let line = words_of(&datagram([5000, 53], &query.bytes()));
    assert!(line.ends_with("DNS 7 [1au] A? app.example"), "{line}");
}

#[test]
fn hellos_of_tls_and_quic_are_shown() {
    let hello = HelloBuilder::named("app.example").alpn(&["h2", "http/1.1"]);
    let line = words_of(&segment(24, 7, &[], &hello.records(4096)));
    assert!(line.contains("TLS ClientHello ") && line.ends_with(" app.example (h2, http/1.1)"), "{line}");
    let line = words_of(&datagram([5000, 443], &hex(QUIC_INITIAL)));
    assert!(line.contains("QUIC ") && line.contains(" ClientHello ") && line.contains(" example.com"), "{line}");
}

#[test]
fn the_status_of_http_is_shown() {
    let line = words_of(&segment(24, 7, &[], b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n"));
    assert!(line.ends_with("HTTP HTTP/1.1 404 Not Found"), "{line}");
}

#[test]
fn names_from_outside_are_escaped() {
    let hostile = "a\u{1b}[2J\u{9b}\u{202e}\n | good.example";
    let hello = HelloBuilder::named(hostile).alpn(&[hostile]).records(4096);
    let query = DnsBuilder::query(7, hostile, 1).bytes();
    let alias = DnsBuilder::response(7, 0, hostile, 5).answer(hostile, 5, &crate::wire::testing::dns_name(hostile));
    let frames = [
        segment(24, 7, &[], &hello),
        datagram([5000, 53], &query),
        datagram([53, 5000], &alias.bytes()),
        segment(24, 7, &[], format!("HTTP/1.1 200 {hostile}\r\n\r\n").as_bytes()),
    ];
    for frame in frames {
        let line = words_of(&frame);
        assert!(line.contains("[2"), "the text is shown: {line}");
        assert!(!line.contains(needs_escape) && !line.contains(" | "), "{line}");
    }
}

#[test]
fn text_cannot_imitate_a_line() {
    let dump = Some(DumpStyle { columns: DumpColumns::Text, includes_link: false });
    let frame = segment(24, 7, &[], b"x\n00:00:00.000000 -> IP 198.51.100.2.1 > 198.51.100.1.2: forged\n");
    let line = line_in(LineStyle { dump, ..LineStyle::default() }, &frame, &PacketIdentity::default());
    assert!(line.contains("forged") && line.lines().skip(1).all(|line| line.starts_with('\t')), "{line}");
}

#[test]
fn text_cannot_imitate_a_name_or_a_process() {
    let identity = PacketIdentity { pid: Some(7), comm: Some("a | b".into()), ..PacketIdentity::default() };
    let frame = segment(24, 7, &[], b"GET /x | good.example | root[1] HTTP/1.1\r\n\r\n");
    let line = line_in(LineStyle::default(), &frame, &identity);
    assert!(line.ends_with(r"HTTP GET /x \174 good.example \174 root[1] HTTP/1.1 | a \174 b[7]"), "{line}");
}

#[test]
fn later_fragments_are_no_messages() {
    let mut frame = ipv4(1, &[3; 1480]);
    frame[20..22].copy_from_slice(&[0, 185]);
    assert_eq!(words_of(&frame), "IP 198.51.100.2 > 198.51.100.1: icmp, fragment of 1 at offset 1480, length 1480");
    frame[20..22].copy_from_slice(&[0x20, 0]);
    assert!(words_of(&frame).contains("ICMP port unreachable, "), "{}", words_of(&frame));
    assert!(words_of(&frame).ends_with(", first fragment of 1, length 1480"), "{}", words_of(&frame));
    let fragment = |offset: u16, protocol: u8| {
        let [high, low] = (offset | 1).to_be_bytes();
        ipv6(44, &[&[protocol, 0, high, low, 0, 0, 0, 9], &[128, 0, 0, 0, 0, 1, 0, 2][..]].concat())
    };
    assert_eq!(
        words_of(&fragment(0, 58)),
        "IP6 fe80::2 > fe80::1: ICMP6, echo request, id 1, seq 2, first fragment of 9, length 8"
    );
    for protocol in [6, 17, 58] {
        assert_eq!(
            words_of(&fragment(1448, protocol)),
            "IP6 fe80::2 > fe80::1: frag (1448|8), fragment of 9, length 8"
        );
    }
}

#[test]
fn a_tcp_header_that_is_cut_or_too_short_has_no_flags() {
    let ends = "IP 198.51.100.2.5000 > 198.51.100.1.80: ";
    let whole = segment(2, 7, &[], &[]);
    let wrong = |length: u8| {
        let mut frame = whole.clone();
        frame[46] = length << 4;
        words_of(&frame)
    };
    assert_eq!(wrong(4), format!("{ends}tcp 4 [bad hdr length 16 - too short, < 20]"));
    assert!(wrong(5).starts_with(&format!("{ends}Flags [S]")), "{}", wrong(5));
    for length in 38..54 {
        assert_eq!(words_of_head(&whole, length), format!("{ends}[|tcp]"), "{length}");
    }
    assert_eq!(words_of(&ipv4(6, &[0x13, 0x88, 0, 80])), format!("{ends}[|tcp]"));
}

#[test]
fn headers_that_are_cut_are_not_malformed() {
    let (v4, v6) = (segment(24, 7, &[], b"x"), ipv6(17, &[0x13, 0x88, 0, 53, 0, 8, 0, 0]));
    let arp = [&[255; 6][..], &[2, 0, 0, 0, 0, 2, 8, 6], &[0; 28]].concat();
    for length in 14..34 {
        assert_eq!(words_of_head(&v4, length), "IP [|ip]", "{length}");
    }
    for length in 34..38 {
        assert_eq!(words_of_head(&v4, length), "IP 198.51.100.2 > 198.51.100.1: [|tcp]", "{length}");
    }
    for length in 14..54 {
        assert_eq!(words_of_head(&v6, length), "IP6 [|ip6]", "{length}");
    }
    for length in 14..42 {
        assert_eq!(words_of_head(&arp, length), "ARP [|arp], length 28", "{length}");
    }
    assert_eq!(words_of(&v4[..33]), "malformed, length 33", "the whole frame");
}

#[test]
fn the_headers_are_shown_on_request() {
    let style = LineStyle { shows_link: true, is_verbose: true, time: TimeStyle::None, ..LineStyle::default() };
    let line = line_in(style, &segment(16, 7, &[], &[]), &PacketIdentity::default());
    assert_eq!(
        line,
        "-> 02:00:00:00:00:02 > 02:00:00:00:00:01, ethertype IPv4 (0x0800), length 54: IP (tos 0x0, ttl 64, id 1, \
         offset 0, flags [DF], proto TCP (6), length 40) 198.51.100.2.5000 > 198.51.100.1.80: Flags [.], ack 0, \
         win 256, length 0"
    );
}

#[test]
fn options_of_edns_are_not_shown() {
    let mut message = vec![0, 7, 0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    let header = [0, 53, 0x13, 0x88, 0, 8 + message.len() as u8, 0, 0];
    let line = words_of(&ipv4(17, &[&header[..], &message].concat()));
    assert!(line.contains("DNS 7 ") && !line.contains("OPT"), "{line}");
}

#[test]
fn flags_have_the_order_of_tcpdump() {
    let mut frame = segment(0xff, 7, &[], &[]);
    let end = frame.len();
    frame[end - 2..].copy_from_slice(&[0, 9]);
    let line = line_in(LineStyle::default(), &frame, &PacketIdentity::default());
    assert!(line.contains("Flags [FSRP.UEW]") && line.contains(", win 256, urg 9"), "{line}");
}

#[test]
fn blocks_of_sack_are_relative_to_the_first_number() {
    let end = |text: &str, port| TransportAddress { addr: text.parse().expect("an address"), port };
    let flow = FlowKey {
        point: ObservationPoint::Link,
        protocol: 6,
        fragment: false,
        local: end("198.51.100.2", 5000),
        remote: end("198.51.100.1", 80),
    };
    let mut format = LineFormat::new(LineStyle::default());
    let mut line = |direction, frame: &[u8]| {
        let identity = PacketIdentity::default();
        let orig_len = frame.len() as u32;
        let (direction, flow) = (Some(direction), Some(&flow));
        format.line(&PrintedPacket { time_ns: 0, direction, bytes: frame, orig_len, flow, identity: &identity })
    };
    line(Direction::Ingress, &segment(2, 1000, &[], &[]));
    let sack = [5, 10, 0, 0, 0x03, 0xf2, 0, 0, 0x03, 0xfc, 1, 1];
    let line = line(Direction::Egress, &segment(16, 7, &sack, &[]));
    assert!(line.contains("options [sack 1 {10:20},nop,nop]"), "{line}");
}

#[test]
fn no_frame_makes_it_panic() {
    let whole = segment(18, 7, &[2, 4, 5, 180, 1, 3, 3, 10], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    let dump = Some(DumpStyle { columns: DumpColumns::HexAndText, includes_link: false });
    let style = LineStyle { is_verbose: true, shows_link: true, dump, ..LineStyle::default() };
    for length in 0..=whole.len() {
        for at in 12..whole.len() {
            for value in [0, 1, 2, 6, 17, 58, 0x0f, 0x60, 0xff] {
                let mut frame = whole[..length].to_vec();
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
                line_in(style, &frame, &PacketIdentity::default());
            }
        }
    }
}
