//! Runs the parsers of `netwatch::wire` on the input. The first byte selects one, so that one
//! corpus serves all.

use netwatch::wire::identify::{self, Ports};
use netwatch::wire::tls::{self, Carrier, ClientHello, Hello, ServerHello, dtls};
use netwatch::wire::{dns, http1, http2, proxy_header, quic, tunnel};

const PORTS: [Ports; 4] = [
    Ports { source: 40_000, destination: 53 },
    Ports { source: 123, destination: 123 },
    Ports { source: 40_000, destination: 2152 },
    Ports { source: 40_000, destination: 4789 },
];

/// Parses one input.
pub fn read(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 8 {
        0 => {
            dns::parse(bytes);
            dns::is_certain(bytes);
            dns::framed(bytes);
        }
        1 => hello(bytes),
        2 => datagrams(bytes, &mut dtls::DtlsHandshake::default()),
        3 => quic(bytes),
        4 => {
            http1::request(bytes);
            http1::response(bytes);
            proxy_header::length(bytes);
        }
        5 => frames(bytes),
        6 => {
            identify::stream(bytes);
            tls::looks_like_records(bytes);
        }
        _ => PORTS.iter().for_each(|ports| {
            identify::datagram(bytes, *ports);
            tunnel::inner_frame(bytes, *ports);
        }),
    }
}

fn hello(bytes: &[u8]) {
    if let Some(message) = tls::first_message(bytes) {
        assert!(message.needs >= bytes.len(), "needs no less than there is");
        ServerHello::parse(&message.body);
    }
    for carrier in [Carrier::Tls, Carrier::Dtls, Carrier::Quic] {
        let _ = ClientHello::parse(bytes, true, carrier).map(|hello| Hello::from(&hello));
    }
}

/// Splits bytes into datagrams, each after a length of one byte.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first()?;
        let (piece, rest) = rest.split_at(rest.len().min((*length).into()));
        bytes = rest;
        Some(piece)
    })
}

fn datagrams(bytes: &[u8], client: &mut dtls::DtlsHandshake) {
    for datagram in pieces(bytes) {
        client.observe(datagram);
        assert!(client.held() <= bytes.len());
    }
}

fn quic(bytes: &[u8]) {
    let mut client = quic::QuicHandshake::default();
    client.observe(bytes);
    pieces(bytes).for_each(|datagram| drop(client.observe(datagram)));
    assert!(client.held() <= 1 << 14);
}

fn frames(bytes: &[u8]) {
    let (mut requests, mut rest) = (http2::Requests::default(), bytes);
    while let http2::FrameStep::Frame(length, _) = requests.step(rest) {
        rest = rest.get(usize::try_from(length).unwrap()..).unwrap_or_default();
        assert!(requests.held() <= 1 << 17);
    }
}
