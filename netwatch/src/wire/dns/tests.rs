//! Hand-made messages: complete, cut off and random.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::Alpn;
use crate::wire::testing::{DnsBuilder, dns_name, hex, vector8, vector16};

const A: u16 = 1;
const CNAME: u16 = 5;
const PTR: u16 = 12;
const MX: u16 = 15;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const HTTPS: u16 = 65;
const V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

fn whole(bytes: &[u8]) -> DnsMessage {
    let message = parse(bytes).unwrap();
    assert!(message.whole, "{message:?}");
    message
}

#[test]
fn parses_a_query() {
    let message = whole(&DnsBuilder::query(0x1234, "App.Example", A).bytes());
    assert_eq!((message.id, message.is_response), (0x1234, false));
    assert_eq!(message.questions[0].name, "app.example");
    assert_eq!(message.questions[0].kind, RecordType::A);
}

#[test]
fn parses_a_response_with_compressed_names() {
    // As a server would: the question's name once, then pointers to it and into it.
    let bytes = hex("1234 8180 0001 0002 0000 0000  03777777 03617070 076578616d706c65 00 0001 0001
                     c00c 0005 0001 0000003c 0002 c010
                     c010 0001 0001 0000003c 0004 cb007107");
    let message = whole(&bytes);
    assert_eq!(message.questions[0].name, "www.app.example");
    let [alias, address] = &message.records[..] else { panic!("{message:?}") };
    assert_eq!(
        (alias.owner.as_str(), &alias.data),
        ("www.app.example", &RecordData::Alias(Name::new(b"app.example").unwrap()))
    );
    assert_eq!((address.owner.as_str(), &address.data), ("app.example", &RecordData::Address(V4.into())));
    assert_eq!(address.ttl, 60);
}

#[test]
fn parses_data_of_all_types() {
    let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let bytes = DnsBuilder::response(1, 0, "example", AAAA)
        .answer("a", AAAA, &v6.octets())
        .answer("7.113.0.203.in-addr.arpa", PTR, &dns_name("host.example"))
        .answer("_xmpp._tcp.example", SRV, &[&hex("0001 0002 1466")[..], &dns_name("srv.example")].concat())
        .additional("example", MX, &[&hex("000a")[..], &dns_name("mx.example")].concat())
        .additional("short", A, &[1, 2, 3])
        .additional("text", 16, b"\x04text")
        .bytes();
    let message = whole(&bytes);
    let data: Vec<&RecordData> = message.records.iter().map(|record| &record.data).collect();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let expected = [
        RecordData::Address(v6.into()),
        RecordData::Pointer(name("host.example")),
        RecordData::Server(name("srv.example")),
        RecordData::Server(name("mx.example")),
        RecordData::Other,
        RecordData::Other,
    ];
    assert_eq!(data, expected.iter().collect::<Vec<_>>());
}

fn param(key: u16, value: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes()[..], &vector16(value)].concat()
}

#[test]
fn parses_service_bindings() {
    let config = [
        &[7][..],
        &hex("0020"),
        &vector16(&[1; 32]),
        &vector16(&hex("00010001")),
        &[0],
        &vector8(b"cover.example"),
        &[0, 0],
    ];
    let list = vector16(&[&hex("fe0d")[..], &vector16(&config.concat())].concat());
    let data = [
        &hex("0001")[..],
        &dns_name(""),
        &param(1, b"\x02h2\x02h3"),
        &param(3, &8443u16.to_be_bytes()),
        &param(4, &V4.octets()),
        &param(5, &list),
        &param(6, &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()),
    ]
    .concat();
    let message = whole(&DnsBuilder::response(1, 0, "example", HTTPS).answer("example", HTTPS, &data).bytes());
    let RecordData::ServiceBinding(service) = &message.records[0].data else { panic!("{message:?}") };
    assert_eq!((service.priority, &service.target, service.port), (1, &None, Some(8443)));
    assert_eq!(service.alpn.iter().map(Alpn::as_str).collect::<Vec<_>>(), ["h2", "h3"]);
    assert_eq!(service.hints, [IpAddr::from(V4), "2001:db8::7".parse().unwrap()]);
    assert_eq!((service.ech[0].id, service.ech[0].public_name.as_str()), (7, "cover.example"));
}

#[test]
fn parses_response_codes() {
    let message = whole(&DnsBuilder::response(1, 3, "missing.example", A).bytes());
    assert_eq!(message.rcode, Rcode::NXDOMAIN);
    let message = whole(&DnsBuilder::new(1, 0x8380).question("large.example", A).bytes());
    assert!(message.is_truncated);
    // A server that could not parse the question.
    assert_eq!(parse(&DnsBuilder::new(1, 0x8001).bytes()).unwrap().rcode, Rcode(1));
}

#[test]
fn refuses_what_is_not_dns() {
    assert_eq!(parse(b""), None);
    assert_eq!(parse(&[0; 11]), None);
    assert_eq!(parse(&[0; 12]), None);
    assert_eq!(parse(&DnsBuilder::new(1, 0x7800).question("example", A).bytes()), None, "opcode 15");
}

#[test]
fn parses_a_message_as_far_as_it_goes() {
    let bytes = DnsBuilder::response(1, 0, "example", A)
        .answer("example", A, &V4.octets())
        .answer("example", A, &[1; 4])
        .bytes();
    let cut = parse(&bytes[..bytes.len() - 3]).unwrap();
    assert_eq!((cut.records.len(), cut.whole), (1, false));
    let cut = parse(&bytes[..14]);
    assert_eq!(cut, None, "no complete question");
}

#[test]
fn ends_at_names_that_point_at_themselves() {
    let looping = hex("1234 0100 0001 0000 0000 0000  c00c 0001 0001");
    assert_eq!(parse(&looping), None);
    let mut forward = DnsBuilder::query(1, "example", A).bytes();
    forward[12] = 0xc0;
    forward[13] = 0xff;
    assert_eq!(parse(&forward), None);
}

#[test]
fn counts_records_beyond_the_limit() {
    let builder = (0..200).fold(DnsBuilder::new(0, 0), |builder, _| builder.question("x", A));
    let message = parse(&builder.bytes()).unwrap();
    assert_eq!((message.questions.len(), message.left_out), (MAX_QUESTIONS, 200 - MAX_QUESTIONS));
}

#[test]
fn splits_a_stream_into_messages() {
    let first = DnsBuilder::query(1, "a.example", A).framed();
    let second = DnsBuilder::query(2, "b.example", A).framed();
    let stream = [&first[..], &second].concat();
    assert_eq!(framed(&stream), Some(Framed::Whole(&first[2..], first.len())));
    assert_eq!(framed(&stream[first.len()..first.len() + 20]), Some(Framed::Partial(second.len(), &second[2..20])));
    assert_eq!(framed(b"\0"), Some(Framed::Partial(14, b"")));
    assert_eq!(framed(b"\0\x0b"), None, "shorter than a header");
}

#[test]
fn is_certain_only_about_complete_messages() {
    let query = DnsBuilder::query(1, "app.example", A).bytes();
    assert!(is_certain(&query));
    assert!(is_certain(&DnsBuilder::response(1, 0, "a.example", A).answer("a.example", CNAME, &dns_name("b")).bytes()));
    assert!(!is_certain(&query[..query.len() - 1]));
    assert!(!is_certain(&[&query[..], b"x"].concat()));
    assert!(!is_certain(&DnsBuilder::new(1, 0).bytes()));
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(message) = parse(&bytes) {
            prop_assert!(message.questions.len() <= MAX_QUESTIONS && message.records.len() <= MAX_RECORDS);
        }
        is_certain(&bytes);
        framed(&bytes);
    }

    #[test]
    fn never_panics_when_damaged(at in 0usize..200, byte: u8, end in 0usize..200) {
        let mut bytes = DnsBuilder::response(1, 0, "www.app.example", HTTPS)
            .answer("www.app.example", CNAME, &dns_name("app.example"))
            .answer("app.example", HTTPS, &[&hex("0001")[..], &dns_name("x"), &param(1, b"\x02h2"), &param(4, &[1; 8])].concat())
            .additional("app.example", A, &V4.octets())
            .bytes();
        if let Some(changed) = bytes.get_mut(at) {
            *changed = byte;
        }
        bytes.truncate(end);
        parse(&bytes);
        is_certain(&bytes);
    }
}
