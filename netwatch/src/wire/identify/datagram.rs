//! Protocols in datagrams. DNS, QUIC and DTLS have their own parsers, which return more.

use super::Ports;
use crate::wire::{Application, ByteReader, http1, port};

/// Whether bytes have the form of a protocol.
type DatagramShape = fn(&[u8], Ports) -> bool;

/// The protocol of a datagram.
pub fn datagram(bytes: &[u8], ports: Ports) -> Option<Application> {
    let known: [(DatagramShape, Application); 8] = [
        (is_stun, Application::Stun),
        (is_dhcp, Application::Dhcp),
        (is_wireguard, Application::WireGuard),
        (is_distributed_hash_table, Application::BitTorrent),
        (is_ntp, Application::Ntp),
        (is_snmp, Application::Snmp),
        (is_ssdp, Application::Ssdp),
        (is_sip, Application::Sip),
    ];
    known.iter().find(|(is, _)| is(bytes, ports)).map(|(_, application)| *application)
}

/// RFC 8489: two zero bits, a length that fits, and the magic cookie.
fn is_stun(bytes: &[u8], _: Ports) -> bool {
    const COOKIE: u32 = 0x2112_a442;
    const HEADER: usize = 20;
    let mut reader = ByteReader::new(bytes);
    let (Some(kind), Some(length), Some(cookie)) = (reader.u16(), reader.u16(), reader.u32()) else { return false };
    kind & 0xc000 == 0 && cookie == COOKIE && length.is_multiple_of(4) && HEADER + usize::from(length) <= bytes.len()
}

/// RFC 2131: BOOTP's fixed fields, then the magic cookie of RFC 1497.
fn is_dhcp(bytes: &[u8], _: Ports) -> bool {
    matches!(bytes, [1 | 2, ..]) && bytes.get(236..240) == Some(&[0x63, 0x82, 0x53, 0x63])
}

/// The handshake messages: reserved zeros, and one length each.
fn is_wireguard(bytes: &[u8], _: Ports) -> bool {
    matches!((bytes, bytes.len()), ([1, 0, 0, 0, ..], 148) | ([2, 0, 0, 0, ..], 92))
}

/// BEP 5: a dictionary whose first key is the arguments or the response, which begins with the node
/// id.
fn is_distributed_hash_table(bytes: &[u8], _: Ports) -> bool {
    bytes.starts_with(b"d1:ad2:id20:") || bytes.starts_with(b"d1:rd2:id20:")
}

/// RFC 5905: valid version, mode and stratum, and a precision that is zero or that of a real clock.
fn is_ntp(bytes: &[u8], ports: Ports) -> bool {
    const HEADER: usize = 48;
    let Some(&[flags, stratum, poll, precision]) = bytes.first_chunk() else { return false };
    let (version, mode) = (flags >> 3 & 7, flags & 7);
    let is_clock = precision == 0 || (0xe0..=0xff).contains(&precision);
    ports.has(port::NTP)
        && bytes.len() >= HEADER
        && (1..=4).contains(&version)
        && (1..=5).contains(&mode)
        && stratum <= 16
        && poll <= 17
        && is_clock
}

/// RFC 3416, in the envelopes of RFC 1157 and RFC 3412: a sequence that begins with a version.
fn is_snmp(bytes: &[u8], ports: Ports) -> bool {
    let mut reader = ByteReader::new(bytes);
    let is_sequence = reader.u8() == Some(0x30) && ber_length(&mut reader) == Some(reader.rest().len());
    (ports.has(port::SNMP) || ports.has(port::SNMP_TRAP))
        && is_sequence
        && matches!(reader.rest(), [2, 1, 0 | 1 | 3, 4 | 0x30, ..])
}

/// A length of BER (X.690 section 8.1.3).
pub(super) fn ber_length(reader: &mut ByteReader<'_>) -> Option<usize> {
    match reader.u8()? {
        short @ 0..=0x7f => Some(short.into()),
        0x81 => reader.u8().map(usize::from),
        0x82 => reader.u16().map(usize::from),
        0x83 => reader.u24().map(|length| length as usize),
        0x84 => reader.u32().map(|length| length as usize),
        _ => None,
    }
}

/// Discovery of UPnP: heads of HTTP in datagrams.
fn is_ssdp(bytes: &[u8], ports: Ports) -> bool {
    bytes.starts_with(b"M-SEARCH * HTTP/1.1\r\n")
        || bytes.starts_with(b"NOTIFY * HTTP/1.1\r\n")
        || (ports.has(port::SSDP) && http1::response(bytes) == Some(Application::Http))
}

fn is_sip(bytes: &[u8], _: Ports) -> bool {
    let is_request =
        matches!(http1::request(bytes), http1::Begins::Yes(request) if request.application == Application::Sip);
    is_request || http1::response(bytes) == Some(Application::Sip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: Ports = Ports { source: 40_000, destination: 50_000 };

    fn at(port: u16) -> Ports {
        Ports { source: 40_000, destination: port }
    }

    #[test]
    fn identifies_datagrams() {
        let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
        let mut ntp = [0; 48];
        ntp[0] = 0x23;
        let snmp = b"\x30\x0b\x02\x01\x01\x04\x06public";
        let mut dhcp = [0; 240];
        dhcp[0] = 1;
        dhcp[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        let mut wireguard = [0; 148];
        wireguard[0] = 1;
        let table: [(&[u8], Ports, Option<Application>); 11] = [
            (stun, HIGH, Some(Application::Stun)),
            (&stun[..19], HIGH, None),
            (&ntp, at(123), Some(Application::Ntp)),
            (&ntp, HIGH, None),
            (snmp, at(161), Some(Application::Snmp)),
            (snmp, HIGH, None),
            (&dhcp, HIGH, Some(Application::Dhcp)),
            (&wireguard, HIGH, Some(Application::WireGuard)),
            (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", HIGH, Some(Application::BitTorrent)),
            (b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n", HIGH, Some(Application::Ssdp)),
            (b"OPTIONS sip:a@b.example SIP/2.0\r\n", HIGH, Some(Application::Sip)),
        ];
        for (bytes, ports, expected) in table {
            assert_eq!(datagram(bytes, ports), expected, "{}", bytes.escape_ascii());
        }
    }
}
