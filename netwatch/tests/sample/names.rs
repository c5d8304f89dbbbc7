//! Synthetic packets that contain names.

use std::net::{IpAddr, Ipv6Addr};

use netwatch::flow::{Direction, FlowKey};
use netwatch::name::{Hosts, NameLimits, NameSample, Names, Segment};

use super::{START_NS, key, v4, v6};

/// The type of IPv4 addresses.
pub const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;
const NXDOMAIN: u8 = 3;

/// Names in the packets of [`super::download`]: three DNS queries, two of them answered, and two
/// ClientHellos.
pub fn download_names() -> Names {
    let mut names = Names::new(NameLimits::default(), Hosts::parse("198.51.100.99 printer.example"));
    observe_download(&mut |sample| names.observe(&sample));
    names.finish();
    names
}

/// The packets of [`download_names`].
pub fn observe_download(observe: &mut dyn FnMut(NameSample<'_>)) {
    let gateway = [10, 87, 0, 1].into();
    let mut ask = |port, id, name: &str, kind, rcode, records: &[Record<'_>]| {
        let flow = key(17, port, gateway, 53);
        observe(packet(flow, Direction::Egress, 500_000, &dns(id, 0x0100, name, kind, &[])));
        let flags = 0x8180 | u16::from(rcode);
        observe(packet(flow, Direction::Ingress, 900_000, &dns(id, flags, name, kind, records)));
    };
    ask(
        50_001,
        1,
        "app.example",
        A,
        0,
        &[alias("app.example", "edge.cdn.example"), address("edge.cdn.example", v4(10))],
    );
    ask(50_001, 2, "unused.example", A, 0, &[address("unused.example", v4(77))]);
    ask(50_002, 3, "v6.example", AAAA, 0, &[address("v6.example", v6(0x7334))]);
    ask(50_002, 4, "gone.example", A, NXDOMAIN, &[]);
    let mut greet = |port, remote, hello: &[u8]| {
        let tcp = Some(Segment { sequence: 1, flags: 0x18, acknowledgment: None });
        let flow = key(6, port, remote, 443);
        observe(NameSample { tcp, ..packet(flow, Direction::Egress, 2_000_000, hello) });
    };
    greet(40_000, v4(10), &client_hello(Some("app.example"), 0));
    greet(40_001, v4(10), &client_hello(Some("static.app.example"), 0));
    greet(40_002, v6(0x7334), &client_hello(None, 0));
}

/// A packet with this payload, so long after the start.
pub fn packet(flow: FlowKey, direction: Direction, after_ns: u64, payload: &[u8]) -> NameSample<'_> {
    NameSample {
        time_ns: START_NS + after_ns,
        flow,
        direction,
        opened_by: Direction::Egress,
        payload,
        payload_len: u32::try_from(payload.len()).unwrap(),
        tcp: None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6).to_vec(),
    }
}

/// RFC 1035, 3.1.
fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// Owner, type and data.
type Record<'a> = (&'a str, u16, Vec<u8>);

/// A name that stands for another.
pub fn alias<'a>(name: &'a str, of: &str) -> Record<'a> {
    (name, CNAME, wire_name(of))
}

/// A name's address.
pub fn address(name: &str, address: IpAddr) -> Record<'_> {
    (name, if address.is_ipv4() { A } else { AAAA }, octets(address))
}

/// RFC 1035, 4.1.
pub fn dns(id: u16, flags: u16, name: &str, kind: u16, records: &[Record<'_>]) -> Vec<u8> {
    let header = [id, flags, 1, records.len() as u16, 0, 0].map(u16::to_be_bytes).concat();
    let mut message = [header, wire_name(name), kind.to_be_bytes().to_vec(), vec![0, 1]].concat();
    for (owner, kind, data) in records {
        message.extend(wire_name(owner));
        message
            .extend([&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes(), data].concat());
    }
    message
}

/// RFC 8446, 4.1.2, in one record; with a key share of so many bytes, or none.
pub fn client_hello(server_name: Option<&str>, key_share: usize) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &vector(body)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = server_name {
        extensions.extend(extension(0, &vector(&[&[0][..], &vector(name.as_bytes())].concat())));
    }
    extensions.extend(extension(16, &vector(b"\x02h2\x08http/1.1")));
    extensions.extend(extension(43, &[2, 3, 4]));
    if key_share > 0 {
        let share = [&[0x11, 0xec][..], &vector(&vec![7; key_share])].concat();
        extensions.extend(extension(51, &vector(&share)));
    }
    let start = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0]].concat();
    let body = [start, vector(&extensions)].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}
