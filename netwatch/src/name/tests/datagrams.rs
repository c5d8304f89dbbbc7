//! UDP: protocols in datagrams.

use super::*;
use crate::wire::testing::{HelloBuilder, hex, vector16};

fn applications(names: &Names, flow: &FlowKey) -> Vec<Application> {
    names.flow(flow).unwrap().applications.iter().map(|proven| proven.application).collect()
}

#[test]
fn reads_dtls_after_stun() {
    let mut names = names();
    let key = udp(7, 3478);
    names.observe(&sent(key, b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"));
    let hello = HelloBuilder { version: 0xfefd, cookie: Some(vec![]), ..HelloBuilder::default() };
    let message = hello.server_name("dtls.example").message();
    let length = ((message.len() - 4) as u32).to_be_bytes();
    let handshake = [&message[..4], &[0, 0, 0, 0, 0], &length[1..], &message[4..]].concat();
    names.observe(&sent(key, &[hex("16 fefd 0000 000000000000"), vector16(&handshake)].concat()));
    assert_eq!(applications(&names, &key), [Application::Stun, Application::Dtls]);
    assert_eq!(names.flow(&key).unwrap().names[0].name, "dtls.example");
    assert_eq!(names.flow(&key).unwrap().names[0].source, NameSource::Sni);
}

#[test]
fn identifies_quic_by_a_packet_of_the_server() {
    let mut names = names();
    let key = udp(7, 443);
    // RFC 9001 appendix A.3: the packet of the server identifies QUIC; it contains no name.
    let packet = hex(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee",
    );
    names.observe(&received(key, &packet));
    assert_eq!(applications(&names, &key), [Application::Quic]);
    assert_eq!(names.flow(&key).unwrap().quic.unwrap().to_string(), "v1");
}

#[test]
fn identifies_rtp_by_sequence_numbers() {
    let mut names = names();
    let key = udp(7, 30_000);
    for sequence in 0..4u8 {
        let packet = [0x80, 0, 0, sequence, 0, 0, 0, sequence, 1, 2, 3, 4, 0x55];
        names.observe(&sent(key, &packet));
        assert_eq!(applications(&names, &key).is_empty(), sequence < 2);
    }
}

#[test]
fn the_group_of_ssdp_is_not_a_name() {
    let mut names = names();
    let mut key = udp(7, 1900);
    key.remote.addr = [239, 255, 255, 250].into();
    names.observe(&sent(key, b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n"));
    assert_eq!(applications(&names, &key), [Application::Ssdp]);
    assert_eq!(names.best(&key, u64::MAX), None, "an address is not a name");
    assert!(names.address(key.remote.addr).is_empty());
}

#[test]
fn reads_a_flow_inside_a_tunnel() {
    let mut names = names();
    let outer = udp(7, 4789);
    let dns = crate::wire::testing::DnsBuilder::query(1, "inner.example", 1).bytes();
    let udp_length = (dns.len() as u16 + 8).to_be_bytes();
    let ip_length = (dns.len() as u16 + 28).to_be_bytes();
    let frame = [
        &[0; 12][..],
        &hex("0800 4500"),
        &ip_length,
        &hex("0000 0000 40 11 0000 0a010001 0a010002 9c40 0035"),
        &udp_length,
        &[0, 0],
        &dns,
    ]
    .concat();
    names.observe(&sent(outer, &[&b"\x08\0\0\0\0\0\x07\0"[..], &frame].concat()));
    assert_eq!(applications(&names, &outer), [Application::Vxlan]);
    assert_eq!(names.lookups()[0].question.name, "inner.example");
    assert_eq!(names.flows().count(), 2);
}

#[test]
fn stops_reading_a_flow_of_an_unknown_protocol() {
    let mut names = names();
    let key = udp(7, 9);
    (0..100).for_each(|_| names.observe(&sent(key, b"noise")));
    names.observe(&sent(key, b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"));
    assert!(applications(&names, &key).is_empty());
}
