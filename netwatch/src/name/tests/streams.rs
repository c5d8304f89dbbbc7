//! TCP: segments in any order, and what they carry.

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
fn a_hello_in_one_segment() {
    let talk = Talk::new(tcp(7, 443)).client(&hello());
    assert_eq!(talk.named(), ["sni app.example"]);
    assert_eq!(talk.applications(), [Application::Tls]);
    assert_eq!(talk.address(), ["app.example"]);
    assert!(talk.facts().hello.as_ref().unwrap().whole);
    assert_eq!(talk.names.waiting_bytes(), 0, "nothing more is wanted of the client");
}

#[test]
fn byte_by_byte() {
    let mut talk = Talk::new(tcp(7, 443));
    for byte in large_hello() {
        talk = talk.client(&[byte]);
    }
    assert_eq!(talk.named(), ["sni app.example"]);
    assert!(talk.facts().hello.as_ref().unwrap().whole);
}

#[test]
fn part_of_a_hello_names_already() {
    let stream = HelloBuilder::named("app.example").extension(51, vec![0; 3000]).records(16_384);
    let talk = Talk::new(tcp(7, 443)).client(&stream[..1400]);
    assert_eq!(talk.named(), ["sni app.example"]);
    let hello = talk.facts().hello.as_ref().unwrap();
    assert!(!hello.whole && hello.ja4.is_none());
}

#[test]
fn a_sample_that_was_cut() {
    let stream = HelloBuilder::named("app.example").extension(51, vec![0; 3000]).records(16_384);
    let mut names = names();
    let cut = NameSample { payload_len: stream.len() as u32, ..sent(tcp(7, 443), &stream[..1000]) };
    names.observe(&segment(cut, 1, 0));
    assert_eq!(names.flow(&tcp(7, 443)).unwrap().names[0].name, "app.example");
}

#[test]
fn a_hello_larger_than_16_kib_in_replay() {
    let stream = HelloBuilder::default().extension(51, vec![0; 40_000]).server_name("app.example").records(16_384);
    let feed = |limits| stream.chunks(1400).fold(Talk::with(tcp(7, 443), limits), Talk::client);
    let replayed = feed(NameLimits::replay());
    assert!(replayed.facts().hello.as_ref().unwrap().whole);
    assert_eq!(replayed.named(), ["sni app.example"]);
    let live = feed(NameLimits::default());
    assert_eq!(live.names.lost().direction_bytes, 1, "and counted where there is no room");
}

#[test]
fn what_the_server_chose() {
    let server = [&hex("16 0303 002a 02 000026 0303")[..], &[1; 32], &hex("00 1301 00")].concat();
    let talk = Talk::new(tcp(7, 443)).client(&hello()).server(&server);
    let chosen = talk.facts().server_hello.as_ref().unwrap();
    assert_eq!((chosen.version, chosen.cipher), (TlsVersion(0x0303), 0x1301));
    // Without the client's side, too.
    let talk = Talk::new(tcp(7, 443)).server(&server);
    assert_eq!(talk.applications(), [Application::Tls]);
}

#[test]
fn padding_of_ethernet_that_passes_for_payload() {
    let mut names = names();
    let stream = hello();
    names.observe(&segment(sent(tcp(7, 443), &[0, 0]), 1, 0));
    names.observe(&segment(sent(tcp(7, 443), &stream), 1, 0));
    assert_eq!(names.flow(&tcp(7, 443)).unwrap().names[0].name, "app.example");
}

#[test]
fn another_connection_between_the_same_ends() {
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

/// Whether the client said it, and what.
type Said = (bool, &'static str);

/// The conversation before TLS in each protocol that begins it on request.
#[test]
fn tls_on_request() {
    let table: [(u16, &[Said], Application); 7] = [
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
            &[(false, "J\0\0\0\x0a8.0.36\0\x01\0\0\0"), (true, " \0\0\x01what MySQL asks for TLS with")],
            Application::MySql,
        ),
        (389, &[(true, "0\x1d\x02\x01\x01w\x18\u{0}\x161.3.6.1.4.1.1466.20037"), (false, "0")], Application::Ldap),
    ];
    for (port, before, application) in table {
        let mut talk = Talk::new(tcp(7, port));
        for (is_client, text) in before {
            let mut bytes: Vec<u8> = text.as_bytes().to_vec();
            // What text cannot say.
            if application == Application::Postgres && *is_client {
                bytes = hex("00000008 04d2162f");
            }
            if application == Application::Ldap && *is_client {
                bytes = [&hex("301d 020101 7718 8016")[..], b"1.3.6.1.4.1.1466.20037"].concat();
            }
            talk = if *is_client { talk.client(&bytes) } else { talk.server(&bytes) };
        }
        let talk = talk.client(&hello());
        assert_eq!(talk.applications(), [application, Application::Tls]);
        assert_eq!(talk.named(), ["sni app.example"]);
        assert_eq!(talk.address(), ["app.example"], "{application:?}: the server itself");
    }
}

#[test]
fn requests_of_one_connection() {
    let talk = Talk::new(tcp(7, 80))
        .client(b"POST /a HTTP/1.1\r\nHost: App.Example:80\r\nContent-Length: 40\r\n\r\n")
        .client(b"GET / HTTP/1.1\r\nHost: in.the.body\r\n\r\nxxx")
        .client(b"GET /b HTTP/1.1\r\nHo")
        .client(b"st: other.example\r\n\r\nGET /c HTTP/1.1\r\nHost: third.example\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(talk.named(), ["http app.example", "http other.example", "http third.example"]);
    let request = talk.facts().request.as_ref().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a"));
    assert_eq!(talk.applications(), [Application::Http]);
}

#[test]
fn chunks_are_not_looked_into() {
    let talk = Talk::new(tcp(7, 80))
        .client(b"POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .client(b"GET / HTTP/1.1\r\nHost: in.a.chunk\r\n\r\n");
    assert_eq!(talk.named(), ["http app.example"]);
}

#[test]
fn a_host_line_that_never_ends_names_nobody() {
    let mut talk = Talk::new(tcp(7, 80)).client(b"GET / HTTP/1.1\r\nHost: app.exam");
    talk.names.finish();
    assert_eq!(talk.named(), Vec::<String>::new());
    assert_eq!(talk.applications(), [Application::Http]);
}

#[test]
fn names_said_to_a_proxy_are_not_the_proxys() {
    let talk = Talk::new(tcp(7, 3128))
        .client(b"CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n")
        .client(&hello());
    assert_eq!(talk.named(), ["http app.example", "sni app.example"]);
    assert_eq!(talk.applications(), [Application::Http, Application::Tls]);
    assert!(talk.facts().is_proxied && talk.address().is_empty());
    let talk = Talk::new(tcp(7, 3128)).client(b"GET http://app.example/ HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert!(talk.facts().is_proxied && talk.address().is_empty());
    // SOCKS, which is not read.
    let socks = [&b"\x05\x01\x00\x03\x0bapp.example"[..], &443u16.to_be_bytes()].concat();
    let talk = Talk::new(tcp(7, 1080)).client(b"\x05\x01\x00").server(b"\x05\x00").client(&socks).client(&hello());
    assert_eq!(talk.named(), ["sni app.example"]);
    assert!(talk.facts().is_proxied && talk.address().is_empty());
    // What a load balancer puts before is for the server itself.
    let talk =
        Talk::new(tcp(7, 443)).client(&[b"PROXY TCP4 198.51.100.1 203.0.113.7 1 443\r\n", &hello()[..]].concat());
    assert_eq!(talk.address(), ["app.example"]);
}

#[test]
fn a_server_that_the_target_runs_names_no_remote() {
    let talk = Talk::new(tcp(7, 40_001)).say(Direction::Ingress, &hello());
    assert_eq!(talk.named(), ["sni app.example"]);
    assert!(talk.address().is_empty());
}

#[test]
fn http2_in_clear() {
    let headers = hex("00000f 01 04 00000001 828684 41 8cf1 e3c2 e5f2 3a6b a0ab 90f4");
    let headers = [&headers[..], &hex("ff")].concat();
    let mut headers = headers;
    headers[2] = (headers.len() - 9) as u8;
    let stream = [PREFACE, &hex("000000 04 00 00000000"), &headers].concat();
    for size in [1, 10, 1000] {
        let talk = stream.chunks(size).fold(Talk::new(tcp(7, 80)), Talk::client);
        assert_eq!(talk.named(), ["http www.example.com"]);
        assert_eq!(talk.applications(), [Application::Http2]);
    }
    let upgraded =
        Talk::new(tcp(7, 80)).client(b"GET / HTTP/1.1\r\nHost: app.example\r\nUpgrade: h2c\r\n\r\n").client(&stream);
    assert_eq!(upgraded.named(), ["http app.example", "http www.example.com"]);
    let broken = Talk::new(tcp(7, 80)).client(PREFACE).client(&hex("000001 01 04 00000001 be"));
    assert_eq!(broken.names.lost().http2_broken, 1);
}

#[test]
fn what_ssh_says_that_it_is() {
    let talk = Talk::new(tcp(7, 22)).server(b"SSH-2.0-Open\x1bSSH_9\r\n").client(b"SSH-2.0-me\r\n");
    assert_eq!(talk.facts().banner.ingress.as_deref(), Some(r"SSH-2.0-Open\027SSH_9"));
    assert_eq!(talk.facts().banner.egress.as_deref(), Some("SSH-2.0-me"));
}

#[test]
fn content_that_looks_like_a_protocol_is_none() {
    let talk = Talk::new(tcp(7, 80))
        .client(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\n\r\n")
        .server(b"SSH-2.0-x\r\n");
    assert_eq!(talk.applications(), [Application::Http]);
    let noise: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(7)).collect();
    let talk = (0..8).fold(Talk::new(tcp(7, 9000)), |talk, _| talk.client(&noise)).client(b"SSH-2.0-x\r\n");
    assert!(talk.applications().is_empty(), "too late to be a protocol's start");
}

#[test]
fn dns_over_tcp_in_pieces() {
    let first = DnsBuilder::query(1, "a.example", 1).framed();
    let second = DnsBuilder::query(2, "b.example", 28).framed();
    let stream = [&first[..], &second].concat();
    for size in [1, 7, 1000] {
        let talk = stream.chunks(size).fold(Talk::new(tcp(7, 53)), Talk::client);
        let asked: Vec<&str> = talk.names.lookups().iter().map(|lookup| lookup.question.name.as_str()).collect();
        assert_eq!(asked, ["a.example", "b.example"]);
        assert_eq!(talk.applications(), [Application::Dns]);
    }
    let second = DnsBuilder::query(2, "b.example", 28).additional("", 41, &[0; 20]).framed();
    let mut cut = Talk::new(tcp(7, 53)).client(&first).client(&second[..second.len() - 10]);
    assert_eq!(cut.names.lookups().len(), 1);
    cut.names.finish();
    assert_eq!(cut.names.lookups().len(), 2, "part of a message is read in the end");
}

#[test]
fn a_reset_ends_waiting() {
    let mut names = names();
    names.observe(&segment(sent(tcp(7, 443), &hello()[..100]), 1, 0));
    assert_eq!(names.waiting_bytes(), 100);
    names.observe(&segment(received(tcp(7, 443), b""), 1, 4));
    assert_eq!(names.waiting_bytes(), 0);
}

proptest! {
    /// Segments of any size, in any order, some twice, with or without a SYN: the name and the fingerprint are the same.
    #[test]
    fn any_order_gives_the_same(cuts in prop::collection::vec(1usize..3200, 0..12), order in prop::collection::vec(any::<prop::sample::Index>(), 12), syn: bool, base: u32) {
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
