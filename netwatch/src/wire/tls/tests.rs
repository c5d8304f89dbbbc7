//! Hand-made hello messages, of all sizes and in pieces.

use proptest::prelude::*;

use super::*;
use crate::wire::testing::{HelloBuilder, hex, vector8, vector16};

/// A GREASE value of RFC 8701.
const GREASE: u16 = 0x5a5a;

fn hello(body: &[u8]) -> Hello {
    Hello::from(&ClientHello::parse(body, true, Carrier::Tls).unwrap())
}

#[test]
fn reads_the_facts_of_a_hello() {
    let versions = [&[6][..], &hex("7a7a 0304 0303")].concat();
    let share = [&hex("0a0a 0001 00 11ec 0003")[..], b"key"].concat();
    let builder = HelloBuilder { ciphers: vec![GREASE, 0x1301, 0x1302], ..HelloBuilder::default() };
    let builder = builder
        .extension(GREASE, vec![])
        .server_name("App.Example")
        .alpn(&["h2", "http/1.1"])
        .extension(43, versions)
        .extension(51, vector16(&share));
    let hello = hello(&builder.body());
    assert_eq!(hello.server_name.unwrap(), "app.example");
    assert_eq!(hello.alpn.iter().map(|alpn| alpn.as_str()).collect::<Vec<_>>(), ["h2", "http/1.1"]);
    assert_eq!(hello.version, TlsVersion::TLS13);
    assert!(hello.post_quantum && hello.whole && !hello.esni && hello.ech.is_none());
    assert!(hello.ja4.unwrap().as_str().starts_with("t13d0204h2_"));
}

#[test]
fn recognizes_encrypted_names() {
    let outer = [&hex("00 0001 0001 2a")[..], &vector16(b"enc"), &vector16(b"payload")].concat();
    assert_eq!(
        hello(&HelloBuilder::named("cover.example").extension(0xfe0d, outer).body()).ech,
        Some(Ech::Outer { config_id: 42 })
    );
    assert_eq!(hello(&HelloBuilder::default().extension(0xfe0d, vec![1]).body()).ech, Some(Ech::Inner));
    assert_eq!(hello(&HelloBuilder::default().extension(0xfe0d, vec![2]).body()).ech, None);
    assert!(hello(&HelloBuilder::default().extension(0xffce, vec![]).body()).esni);
}

/// The example published by FoxIO (technical_details/JA4.md): Chrome.
#[test]
fn ja4_equals_the_example_of_the_specification() {
    let builder = HelloBuilder {
        ciphers: vec![
            GREASE, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
            0x009d, 0x002f, 0x0035,
        ],
        ..HelloBuilder::default()
    };
    let empty = [0x001b, 0x4469, 0xff01, 0x0012, 0x0017, 0x0023, 0x0005, 0x000b, 0x000a, 0x0033, 0x002d, 0x0015];
    let builder = empty.iter().fold(builder, |builder, kind| builder.extension(*kind, vec![]));
    let builder = builder
        .extension(0x0a0a, vec![])
        .server_name("example")
        .alpn(&["h2", "http/1.1"])
        .extension(43, [&[6][..], &hex("8a8a 0304 0303")].concat())
        .numbers(13, &[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]);
    let body = builder.body();
    let ja4 = Ja4::of(&ClientHello::parse(&body, true, Carrier::Tls).unwrap()).unwrap();
    assert_eq!(ja4.as_str(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn ja4_of_minimal_hellos() {
    let ja4 = |builder: HelloBuilder| {
        let body = builder.body();
        Ja4::of(&ClientHello::parse(&body, true, Carrier::Quic).unwrap()).unwrap().to_string()
    };
    let none = HelloBuilder { ciphers: vec![], ..HelloBuilder::default() };
    assert_eq!(ja4(none), "q12i000000_000000000000_000000000000");
    let alpn = |name: &str| ja4(HelloBuilder::default().alpn(&[name]))[8..10].to_owned();
    assert_eq!((alpn("h"), alpn("http/1.1"), alpn("\x01\x2f")), ("hh".into(), "h1".into(), "0f".into()));
}

#[test]
fn parses_a_hello_that_is_cut_off() {
    let body = HelloBuilder::default().alpn(&["h2"]).server_name("app.example").body();
    for end in 0..body.len() {
        let Some(hello) = ClientHello::parse(&body[..end], false, Carrier::Tls) else { continue };
        assert!(!hello.is_whole() && Ja4::of(&hello).is_none());
        assert_eq!(hello.server_name(), None, "the name is complete only with the last byte");
    }
    let hello = ClientHello::parse(&body, true, Carrier::Tls).unwrap();
    assert!(hello.is_whole());
    assert_eq!(hello.server_name(), Some(&b"app.example"[..]));
}

#[test]
fn refuses_what_is_not_a_hello() {
    let mut body = HelloBuilder::named("app.example").body();
    body[0] = 9;
    assert!(ClientHello::parse(&body, true, Carrier::Tls).is_none(), "version");
    let mut body = HelloBuilder::named("app.example").body();
    body[34] = 33;
    assert!(ClientHello::parse(&body, true, Carrier::Tls).is_none(), "session id of 33 bytes");
}

/// A hello is the same in records of any size. Before its end, it needs no more bytes than there
/// are.
#[test]
fn parses_records_of_any_size() {
    let builder = HelloBuilder::named("app.example").extension(21, vec![0; 3000]);
    for size in [1, 2, 5, 512, 1400, 16_384] {
        let stream = builder.records(size);
        let message = first_message(&stream).unwrap();
        assert!(message.is_client && message.whole);
        assert_eq!(message.body, builder.body());
        for end in [0, 1, 4, 5, 6, 9, 10, 100, stream.len() - 1] {
            let part = first_message(&stream[..end]).unwrap();
            assert!(!part.whole && (end + 1..=stream.len()).contains(&part.needs), "{size} {end}: {part:?}");
        }
    }
}

#[test]
fn parses_a_hello_larger_than_a_record() {
    let builder = HelloBuilder::named("app.example").extension(21, vec![0; 30_000]).extension(22, vec![0; 30_000]);
    let stream = builder.records(16_384);
    let message = first_message(&stream).unwrap();
    assert!(message.whole && hello(&message.body).whole);
}

#[test]
fn refuses_other_streams() {
    let hello = HelloBuilder::named("app.example").records(16_384);
    let changed = |at: usize, to: u8| {
        let mut stream = hello.clone();
        stream[at] = to;
        first_message(&stream).is_none()
    };
    assert!(changed(0, 23) && changed(1, 2) && changed(2, 5) && changed(5, 11));
    assert!(changed(3, 0xff), "a record over the maximum length");
    assert!(changed(6, 0xff), "a hello of 16 MiB");
    assert!(first_message(b"\x16\x03\x01\0\0").is_none(), "an empty record");
    assert!(may_begin_client_hello(b"") && may_begin_client_hello(&hello) && !may_begin_client_hello(b"GET"));
}

#[test]
fn recognizes_records_from_the_middle_of_a_connection() {
    assert!(looks_like_records(b"\x17\x03\x03\0\x03abc"));
    assert!(looks_like_records(b"\x17\x03\x03\0\x03abc\x17\x03\x03\0\x05a"));
    assert!(looks_like_records(b"\x15\x03\x03\0\x02\x01\0"));
    assert!(!looks_like_records(b"\x17\x03\x03\0\x03ab"));
    assert!(!looks_like_records(b"\x17\x03\x03\0\x03abcd\x03\x03\0\x05a"));
    assert!(!looks_like_records(b"\x14\x03\x03\0\x02ab"));
}

#[test]
fn parses_a_server_hello() {
    let extensions = [hex("002b 0002 0304"), hex("0010 0005 0003 02"), b"h2".to_vec()].concat();
    let body = [hex("0303"), vec![1; 32], vector8(&[2; 32]), hex("1301 00"), vector16(&extensions)].concat();
    let hello = ServerHello::parse(&body).unwrap();
    assert_eq!((hello.version, hello.cipher, hello.alpn.unwrap().as_str()), (TlsVersion::TLS13, 0x1301, "h2"));
    let old = [hex("0302"), vec![1; 32], vector8(&[]), hex("002f 00")].concat();
    assert_eq!(ServerHello::parse(&old).unwrap().version, TlsVersion(0x0302));
    assert_eq!(ServerHello::parse(&old[..34]), None);
}

/// A datagram with one fragment of a handshake message.
fn fragment(message: &[u8], sequence: u16, from: usize, to: usize) -> Vec<u8> {
    let u24 = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
    let body = &message[4..];
    let piece = &body[from..to];
    let handshake = [&message[..4], &sequence.to_be_bytes(), &u24(from), &u24(piece.len()), piece].concat();
    [hex("16 fefd 0000 000000000000"), vector16(&handshake)].concat()
}

fn dtls_hello(cookie: &[u8]) -> Vec<u8> {
    let builder = HelloBuilder { version: 0xfefd, cookie: Some(cookie.to_vec()), ..HelloBuilder::default() };
    builder.server_name("dtls.example").message()
}

#[test]
fn reassembles_dtls_fragments_in_any_order() {
    let message = dtls_hello(b"");
    let end = message.len() - 4;
    let mut client = dtls::DtlsHandshake::default();
    assert!(dtls::looks_like(&fragment(&message, 0, 50, end)));
    assert_eq!(client.observe(&fragment(&message, 0, 50, end)), None);
    let hello = client.observe(&fragment(&message, 0, 0, 50)).unwrap();
    assert_eq!(hello.server_name.unwrap(), "dtls.example");
    assert!(hello.whole && hello.ja4.unwrap().as_str().starts_with("dd2d02"));
}

#[test]
fn takes_the_dtls_hello_with_a_cookie() {
    let mut client = dtls::DtlsHandshake::default();
    let first = dtls_hello(b"");
    assert!(client.observe(&fragment(&first, 0, 0, 60)).is_none_or(|hello| !hello.whole));
    let second = dtls_hello(b"cookie");
    let hello = client.observe(&fragment(&second, 1, 0, second.len() - 4)).unwrap();
    assert!(hello.whole);
}

#[test]
fn refuses_dtls_with_wrong_lengths() {
    let mut client = dtls::DtlsHandshake::default();
    let mut datagram = fragment(&dtls_hello(b""), 0, 0, 20);
    datagram[14..17].copy_from_slice(&[0xff; 3]);
    assert_eq!(client.observe(&datagram), None, "16 MiB");
    assert_eq!(client.held(), 0);
    assert!(!dtls::looks_like(b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\0"));
    assert!(!dtls::looks_like(b"\x16\x03\x03\0\0\0\0\0\0\0\0\0\x01\x01"));
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for carrier in [Carrier::Tls, Carrier::Dtls, Carrier::Quic] {
            if let Some(hello) = ClientHello::parse(&bytes, true, carrier) {
                let _ = Hello::from(&hello);
            }
        }
        first_message(&bytes);
        looks_like_records(&bytes);
        ServerHello::parse(&bytes);
        EchConfig::list(&bytes);
        let mut client = dtls::DtlsHandshake::default();
        client.observe(&bytes);
        prop_assert!(client.held() <= bytes.len());
    }

    #[test]
    fn never_panics_when_damaged(changes in prop::collection::vec((0usize..260, any::<u8>()), 0..6), end in 0usize..260) {
        let mut stream = HelloBuilder::named("app.example").alpn(&["h2", "http/1.1"]).numbers(13, &[0x0403]).extension(0xfe0d, vec![0; 20]).records(100);
        for (at, byte) in changes {
            if let Some(changed) = stream.get_mut(at) {
                *changed = byte;
            }
        }
        stream.truncate(end);
        if let Some(message) = first_message(&stream) {
            prop_assert!(message.needs >= stream.len() && message.body.len() <= stream.len());
            if let Some(hello) = ClientHello::parse(&message.body, true, Carrier::Tls) {
                let _ = Hello::from(&hello);
            }
        }
    }

    /// In any number of datagrams of any size: bounded, and complete at the end.
    #[test]
    fn reassembles_random_dtls_fragments(cuts in prop::collection::vec(1usize..100, 0..10), order: u64) {
        let message = dtls_hello(b"cookie");
        let end = message.len() - 4;
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < end).chain([0, end]).collect();
        cuts.sort_unstable();
        let mut fragments: Vec<_> = cuts.windows(2).map(|pair| fragment(&message, 1, pair[0], pair[1])).collect();
        let count = fragments.len();
        fragments.rotate_left(order as usize % count);
        let mut client = dtls::DtlsHandshake::default();
        let last = fragments.iter().filter_map(|fragment| client.observe(fragment)).last();
        prop_assert!(last.unwrap().whole);
        prop_assert!(client.held() <= end);
    }
}
