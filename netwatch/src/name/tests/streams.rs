//! TCP: segments in any order, and the protocols in them.

use proptest::prelude::*;

use super::*;
use crate::wire::http2::PREFACE;
use crate::wire::testing::{DnsBuilder, HelloBuilder, hex};
use crate::wire::tls::TlsVersion;

fn hello() -> Vec<u8> {
    HelloBuilder::named("app.example").alpn(&["h2"]).records(16_384)
}

fn large_hello() -> Vec<u8> {
    HelloBuilder::default().extension(51, vec![0; 3000]).server_name("app.example").records(16_384)
}

#[test]
fn reads_a_hello_in_one_segment() {
    let conversation = Conversation::new(tcp(7, 443)).client(&hello());
    assert_eq!(conversation.named(), ["sni app.example"]);
    assert_eq!(conversation.applications(), [Application::Tls]);
    assert_eq!(conversation.address(), ["app.example"]);
    assert!(conversation.facts().hello.as_ref().unwrap().whole);
    assert_eq!(conversation.names.waiting_bytes(), 0, "nothing more is to be read of the client");
}

#[test]
fn reads_a_hello_byte_by_byte() {
    let mut conversation = Conversation::new(tcp(7, 443));
    for byte in large_hello() {
        conversation = conversation.client(&[byte]);
    }
    assert_eq!(conversation.named(), ["sni app.example"]);
    assert!(conversation.facts().hello.as_ref().unwrap().whole);
}

#[test]
fn reads_the_name_from_part_of_a_hello() {
    let stream = HelloBuilder::named("app.example").extension(51, vec![0; 3000]).records(16_384);
    let conversation = Conversation::new(tcp(7, 443)).client(&stream[..1400]);
    assert_eq!(conversation.named(), ["sni app.example"]);
    let hello = conversation.facts().hello.as_ref().unwrap();
    assert!(!hello.whole && hello.ja4.is_none());
}

#[test]
fn reads_a_sample_that_was_cut() {
    let stream = HelloBuilder::named("app.example").extension(51, vec![0; 3000]).records(16_384);
    let mut names = names();
    let cut = NameSample { payload_len: stream.len() as u32, ..sent(tcp(7, 443), &stream[..1000]) };
    names.observe(&segment(cut, 1, 0));
    assert_eq!(names.flow(&tcp(7, 443)).unwrap().names[0].name, "app.example");
}

#[test]
fn reads_a_hello_over_16_kib_in_replay_only() {
    let stream = HelloBuilder::default().extension(51, vec![0; 40_000]).server_name("app.example").records(16_384);
    let feed = |limits| stream.chunks(1400).fold(Conversation::with(tcp(7, 443), limits), Conversation::client);
    let replayed = feed(NameLimits::replay());
    assert!(replayed.facts().hello.as_ref().unwrap().whole);
    assert_eq!(replayed.named(), ["sni app.example"]);
    let live = feed(NameLimits::default());
    assert_eq!(live.names.lost().direction_bytes, 1, "counted where it exceeds the limit");
}

#[test]
fn reads_the_server_hello() {
    let server = [&hex("16 0303 002a 02 000026 0303")[..], &[1; 32], &hex("00 1301 00")].concat();
    let conversation = Conversation::new(tcp(7, 443)).client(&hello()).server(&server);
    let chosen = conversation.facts().server_hello.as_ref().unwrap();
    assert_eq!((chosen.version, chosen.cipher), (TlsVersion(0x0303), 0x1301));
    // The same without the direction of the client.
    let conversation = Conversation::new(tcp(7, 443)).server(&server);
    assert_eq!(conversation.applications(), [Application::Tls]);
}

#[test]
fn ignores_ethernet_padding_passed_as_payload() {
    let mut names = names();
    let stream = hello();
    names.observe(&segment(sent(tcp(7, 443), &[0, 0]), 1, 0));
    names.observe(&segment(sent(tcp(7, 443), &stream), 1, 0));
    assert_eq!(names.flow(&tcp(7, 443)).unwrap().names[0].name, "app.example");
}

#[test]
fn reads_another_connection_between_the_same_ends() {
    let other = HelloBuilder::named("other.example").records(16_384);
    for sequence in [5_000, 3_000_000_000] {
        let mut names = names();
        let key = tcp(7, 443);
        names.observe(&segment(sent(key, b""), 100, SYN));
        names.observe(&segment(sent(key, &hello()), 101, 0));
        names.observe(&segment(sent(key, b""), sequence, SYN));
        names.observe(&segment(sent(key, &other), sequence + 1, 0));
        let named: Vec<&str> = names.flow(&key).unwrap().names.iter().map(|named| named.name.as_str()).collect();
        assert_eq!(named, ["app.example", "other.example"]);
    }
}

/// Whether the client sends it, and its text.
type Line = (bool, &'static str);

/// The exchange before TLS, for each protocol that begins TLS on request.
#[test]
fn reads_tls_that_begins_on_request() {
    let table: [(u16, &[Line], Application); 7] = [
        (
            25,
            &[
                (false, "220 mx.example ESMTP\r\n"),
                (true, "EHLO me\r\n"),
                (false, "250 STARTTLS\r\n"),
                (true, "STARTTLS\r\n"),
                (false, "220 go\r\n"),
            ],
            Application::Smtp,
        ),
        (143, &[(false, "* OK ready\r\n"), (true, "a STARTTLS\r\n"), (false, "a OK\r\n")], Application::Imap),
        (110, &[(false, "+OK ready\r\n"), (true, "STLS\r\n"), (false, "+OK go\r\n")], Application::Pop3),
        (21, &[(false, "220 hello\r\n"), (true, "AUTH TLS\r\n"), (false, "234 go\r\n")], Application::Ftp),
        (5432, &[(true, "\0\0\0\x08\x04\u{7f}\x16\x2f"), (false, "S")], Application::Postgres),
        (
            3306,
            &[(false, "J\0\0\0\x0a8.0.36\0\x01\0\0\0"), (true, " \0\0\x01the request of MySQL for TLS")],
            Application::MySql,
        ),
        (389, &[(true, "0\x1d\x02\x01\x01w\x18\u{0}\x161.3.6.1.4.1.1466.20037"), (false, "0")], Application::Ldap),
    ];
    for (port, before, application) in table {
        let mut conversation = Conversation::new(tcp(7, port));
        for (is_client, text) in before {
            let mut bytes: Vec<u8> = text.as_bytes().to_vec();
            // Bytes that are not text.
            if application == Application::Postgres && *is_client {
                bytes = hex("00000008 04d2162f");
            }
            if application == Application::Ldap && *is_client {
                bytes = [&hex("301d 020101 7718 8016")[..], b"1.3.6.1.4.1.1466.20037"].concat();
            }
            conversation = if *is_client { conversation.client(&bytes) } else { conversation.server(&bytes) };
        }
        let conversation = conversation.client(&hello());
        assert_eq!(conversation.applications(), [application, Application::Tls]);
        assert_eq!(conversation.named(), ["sni app.example"]);
        assert_eq!(conversation.address(), ["app.example"], "{application:?}: the server itself");
    }
}

#[test]
fn reads_all_requests_of_a_connection() {
    let conversation = Conversation::new(tcp(7, 80))
        .client(b"POST /a HTTP/1.1\r\nHost: App.Example:80\r\nContent-Length: 40\r\n\r\n")
        .client(b"GET / HTTP/1.1\r\nHost: in.the.body\r\n\r\nxxx")
        .client(b"GET /b HTTP/1.1\r\nHo")
        .client(b"st: other.example\r\n\r\nGET /c HTTP/1.1\r\nHost: third.example\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(conversation.named(), ["http app.example", "http other.example", "http third.example"]);
    let request = conversation.facts().request.as_ref().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a"));
    assert_eq!(conversation.applications(), [Application::Http]);
}

#[test]
fn ignores_the_content_of_chunks() {
    let conversation = Conversation::new(tcp(7, 80))
        .client(b"POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .client(b"GET / HTTP/1.1\r\nHost: in.a.chunk\r\n\r\n");
    assert_eq!(conversation.named(), ["http app.example"]);
}

#[test]
fn ignores_a_host_line_that_is_cut_off() {
    let mut conversation = Conversation::new(tcp(7, 80)).client(b"GET / HTTP/1.1\r\nHost: app.exam");
    conversation.names.finish();
    assert_eq!(conversation.named(), Vec::<String>::new());
    assert_eq!(conversation.applications(), [Application::Http]);
}

#[test]
fn names_sent_to_a_proxy_are_not_its_own() {
    let conversation = Conversation::new(tcp(7, 3128))
        .client(b"CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n")
        .client(&hello());
    assert_eq!(conversation.named(), ["http app.example", "sni app.example"]);
    assert_eq!(conversation.applications(), [Application::Http, Application::Tls]);
    assert!(conversation.facts().is_proxied && conversation.address().is_empty());
    let conversation =
        Conversation::new(tcp(7, 3128)).client(b"GET http://app.example/ HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert!(conversation.facts().is_proxied && conversation.address().is_empty());
    // SOCKS, which is not recognized.
    let socks = [&b"\x05\x01\x00\x03\x0bapp.example"[..], &443u16.to_be_bytes()].concat();
    let conversation =
        Conversation::new(tcp(7, 1080)).client(b"\x05\x01\x00").server(b"\x05\x00").client(&socks).client(&hello());
    assert_eq!(conversation.named(), ["sni app.example"]);
    assert!(conversation.facts().is_proxied && conversation.address().is_empty());
    // The header of a load balancer is for the server itself.
    let conversation = Conversation::new(tcp(7, 443))
        .client(&[b"PROXY TCP4 198.51.100.1 203.0.113.7 1 443\r\n", &hello()[..]].concat());
    assert_eq!(conversation.address(), ["app.example"]);
}

#[test]
fn names_sent_by_clients_of_the_target_are_not_their_own() {
    let conversation = Conversation::new(tcp(7, 40_001)).send(Direction::Ingress, &hello());
    assert_eq!(conversation.named(), ["sni app.example"]);
    assert!(conversation.address().is_empty());
}

#[test]
fn reads_unencrypted_http2() {
    let headers = hex("00000f 01 04 00000001 828684 41 8cf1 e3c2 e5f2 3a6b a0ab 90f4");
    let headers = [&headers[..], &hex("ff")].concat();
    let mut headers = headers;
    headers[2] = (headers.len() - 9) as u8;
    let stream = [PREFACE, &hex("000000 04 00 00000000"), &headers].concat();
    for size in [1, 10, 1000] {
        let conversation = stream.chunks(size).fold(Conversation::new(tcp(7, 80)), Conversation::client);
        assert_eq!(conversation.named(), ["http www.example.com"]);
        assert_eq!(conversation.applications(), [Application::Http2]);
    }
    let upgraded = Conversation::new(tcp(7, 80))
        .client(b"GET / HTTP/1.1\r\nHost: app.example\r\nUpgrade: h2c\r\n\r\n")
        .client(&stream);
    assert_eq!(upgraded.named(), ["http app.example", "http www.example.com"]);
    let broken = Conversation::new(tcp(7, 80)).client(PREFACE).client(&hex("000001 01 04 00000001 be"));
    assert_eq!(broken.names.lost().http2_broken, 1);
}

#[test]
fn reads_identification_strings_of_ssh() {
    let conversation = Conversation::new(tcp(7, 22)).server(b"SSH-2.0-Open\x1bSSH_9\r\n").client(b"SSH-2.0-me\r\n");
    assert_eq!(conversation.facts().banner.ingress.as_deref(), Some(r"SSH-2.0-Open\027SSH_9"));
    assert_eq!(conversation.facts().banner.egress.as_deref(), Some("SSH-2.0-me"));
}

#[test]
fn ignores_content_that_looks_like_a_protocol() {
    let conversation = Conversation::new(tcp(7, 80))
        .client(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n")
        .server(b"SSH-2.0-x\r\n");
    assert_eq!(conversation.applications(), [Application::Http]);
    let noise: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(7)).collect();
    let conversation = (0..8)
        .fold(Conversation::new(tcp(7, 9000)), |conversation, _| conversation.client(&noise))
        .client(b"SSH-2.0-x\r\n");
    assert!(conversation.applications().is_empty(), "too late for the start of a protocol");
}

#[test]
fn reads_dns_over_tcp_in_pieces() {
    let first = DnsBuilder::query(1, "a.example", 1).framed();
    let second = DnsBuilder::query(2, "b.example", 28).framed();
    let stream = [&first[..], &second].concat();
    for size in [1, 7, 1000] {
        let conversation = stream.chunks(size).fold(Conversation::new(tcp(7, 53)), Conversation::client);
        let queried: Vec<&str> =
            conversation.names.lookups().iter().map(|lookup| lookup.question.name.as_str()).collect();
        assert_eq!(queried, ["a.example", "b.example"]);
        assert_eq!(conversation.applications(), [Application::Dns]);
    }
    let second = DnsBuilder::query(2, "b.example", 28).additional("", 41, &[0; 20]).framed();
    let mut cut = Conversation::new(tcp(7, 53)).client(&first).client(&second[..second.len() - 10]);
    assert_eq!(cut.names.lookups().len(), 1);
    cut.names.finish();
    assert_eq!(cut.names.lookups().len(), 2, "part of a message is read at the end");
}

#[test]
fn a_reset_ends_reading() {
    let mut names = names();
    names.observe(&segment(sent(tcp(7, 443), &hello()[..100]), 1, 0));
    assert_eq!(names.waiting_bytes(), 100);
    names.observe(&segment(received(tcp(7, 443), b""), 1, 4));
    assert_eq!(names.waiting_bytes(), 0);
}

proptest! {
    /// Segments of any size, in any order, some repeated, with or without a SYN: name and
    /// fingerprint are the same.
    #[test]
    fn segments_in_any_order_give_the_same_result(cuts in prop::collection::vec(1usize..3200, 0..12), order in prop::collection::vec(any::<prop::sample::Index>(), 12), syn: bool, base: u32) {
        let stream = large_hello();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < stream.len()).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<(usize, usize)> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pieces.push(pieces[order[0].index(pieces.len())]);
        let count = pieces.len();
        for (index, with) in order.iter().enumerate().take(count) {
            pieces.swap(index, with.index(count));
        }
        let mut names = names();
        let key = tcp(7, 443);
        if syn {
            names.observe(&segment(sent(key, b""), base, SYN));
        }
        for (from, to) in pieces {
            names.observe(&segment(sent(key, &stream[from..to]), base.wrapping_add(1 + from as u32), 0));
        }
        let facts = names.flow(&key).unwrap();
        prop_assert!(facts.hello.as_ref().is_some_and(|hello| hello.whole), "{:?}", facts);
        prop_assert_eq!(facts.names[0].name.as_str(), "app.example");
    }
}
