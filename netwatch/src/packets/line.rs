//! A packet as a line of text, in the words of tcpdump, with the direction, the process and the
//! name of the remote. Text from the network is escaped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use netwatch_common::flow::{EGRESS, housekeeping, kind};
use netwatch_common::parse::{self, Captured, Meta, Packet, protocol};

use super::identity::PacketIdentity;
use crate::capture::write::Layout;
use crate::escape::escape;
use crate::flow::FlowKey;
use crate::wire::dns::{self, RecordData};
use crate::wire::{http1, quic, tls};

/// Maximum number of flows of which sequence numbers are shown relative to the first one. All are
/// forgotten when there are more.
const MAX_FLOWS: usize = 65_536;
/// Maximum length of a text from the network, in bytes.
const MAX_TEXT: usize = 200;

/// A packet to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrintedPacket<'a> {
    pub time_ns: u64,
    pub is_egress: bool,
    pub bytes: &'a [u8],
    pub orig_len: u32,
    pub flow: Option<&'a FlowKey>,
    pub identity: &'a PacketIdentity,
}

/// Formats packets. Remembers the first sequence numbers of connections.
#[derive(Debug, Default)]
pub(super) struct LineFormat {
    first: HashMap<FlowKey, [Option<u32>; 2]>,
}

impl LineFormat {
    /// The line of a packet, without a newline.
    pub(super) fn line(&mut self, printed: &PrintedPacket<'_>) -> String {
        let mut packet = Packet::default();
        let frame = Captured { bytes: printed.bytes, orig_len: printed.orig_len };
        parse::parse(&frame, &Meta::default(), &mut packet);
        let arrow = if printed.is_egress { "->" } else { "<-" };
        let mut line = format!("{} {arrow} ", time_of_day(printed.time_ns));
        match packet.kind {
            kind::HOUSEKEEPING => line.push_str(&housekeeping_words(&packet, printed.bytes)),
            kind::NON_IP => _ = write!(line, "ethertype {:#06x}", packet.source_port),
            kind::MALFORMED => line.push_str("malformed"),
            _ => self.write_ip(&mut line, &packet, printed),
        }
        _ = write!(line, ", length {}", length(&packet, printed));
        let start = packet.payload_offset as usize;
        let payload = printed.bytes.get(start..).unwrap_or_default();
        let payload = &payload[..payload.len().min(packet.payload_len as usize)];
        if let Some(words) = application(&packet, payload) {
            _ = write!(line, ": {words}");
        }
        if let Some(name) = &printed.identity.name {
            _ = write!(line, " | {}", escape(name));
        }
        if let (Some(pid), Some(comm)) = (printed.identity.pid, &printed.identity.comm) {
            _ = write!(line, " | {}[{pid}]", escape(comm));
        }
        line
    }

    fn write_ip(&mut self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        let is_v6 = packet.kind == kind::IPV6 || packet.kind == kind::IPV6_FRAGMENT;
        let address = |bytes: [u8; 16]| {
            let v6 = Ipv6Addr::from(bytes);
            v6.to_ipv4_mapped().filter(|_| !is_v6).map_or(v6.to_string(), |v4| v4.to_string())
        };
        let end = |address: String, port: u16| if packet.has_ports() { format!("{address}.{port}") } else { address };
        let source = end(address(packet.source.bytes()), packet.source_port);
        let destination = end(address(packet.destination.bytes()), packet.destination_port);
        let family = if is_v6 { "IP6" } else { "IP" };
        _ = write!(line, "{family} {source} > {destination}: ");
        match packet.protocol {
            protocol::TCP if packet.has_ports() => self.write_tcp(line, packet, printed),
            protocol::UDP => line.push_str("UDP"),
            protocol::ICMP | protocol::ICMPV6 => line.push_str(&icmp(packet, printed.bytes)),
            other => _ = write!(line, "ip-proto-{other}"),
        }
    }

    /// Flags, sequence numbers relative to the first ones, acknowledgment, window, options.
    fn write_tcp(&mut self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        const FLAGS: [(u8, char); 8] =
            [(2, 'S'), (1, 'F'), (8, 'P'), (4, 'R'), (32, 'U'), (64, 'E'), (128, 'W'), (16, '.')];
        let flags: String =
            FLAGS.iter().filter(|(bit, _)| packet.flags & bit != 0).map(|(_, letter)| *letter).collect();
        _ = write!(line, "Flags [{}]", if flags.is_empty() { "none" } else { &flags });
        let (own, peer) = self.first_numbers(packet, printed);
        let is_syn = packet.flags & 2 != 0;
        let sequence = if is_syn { packet.sequence } else { packet.sequence.wrapping_sub(own) };
        match packet.payload_len {
            0 if packet.flags & 7 == 0 => {}
            0 => _ = write!(line, ", seq {sequence}"),
            length => _ = write!(line, ", seq {sequence}:{}", sequence.wrapping_add(length)),
        }
        if packet.flags & 16 != 0 {
            _ = write!(line, ", ack {}", packet.acknowledgment.wrapping_sub(peer));
        }
        _ = write!(line, ", win {}", packet.window);
        let options = tcp_options(printed.bytes);
        if !options.is_empty() {
            _ = write!(line, ", options [{options}]");
        }
    }

    /// The first sequence number of the sender and of the receiver; 0 if it is not known.
    fn first_numbers(&mut self, packet: &Packet, printed: &PrintedPacket<'_>) -> (u32, u32) {
        let Some(flow) = printed.flow else { return (0, 0) };
        if self.first.len() >= MAX_FLOWS {
            self.first.clear();
        }
        let numbers = self.first.entry(*flow).or_default();
        let (own, peer) = if printed.is_egress { (0, 1) } else { (1, 0) };
        if packet.flags & 2 != 0 {
            numbers[own] = Some(packet.sequence);
        }
        let own = *numbers[own].get_or_insert(packet.sequence.wrapping_sub(1));
        let is_ack = packet.flags & 16 != 0;
        let peer = if is_ack { *numbers[peer].get_or_insert(packet.acknowledgment.wrapping_sub(1)) } else { 0 };
        (own, peer)
    }
}

/// The transport payload, or the whole frame where there is none.
fn length(packet: &Packet, printed: &PrintedPacket<'_>) -> u32 {
    if packet.kind < kind::HOUSEKEEPING { packet.payload_len } else { printed.orig_len }
}

/// Time of day in UTC, with microseconds.
fn time_of_day(unix_ns: u64) -> String {
    let (seconds, micros) = (unix_ns / 1_000_000_000 % 86_400, unix_ns / 1000 % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn housekeeping_words(packet: &Packet, frame: &[u8]) -> String {
    match packet.protocol {
        housekeeping::ARP => arp(frame).unwrap_or_else(|| "ARP".to_owned()),
        housekeeping::NEIGHBOR_DISCOVERY => "ICMP6 neighbor discovery".to_owned(),
        housekeeping::MLD => "ICMP6 multicast listener discovery".to_owned(),
        _ => "IGMP".to_owned(),
    }
}

fn arp(frame: &[u8]) -> Option<String> {
    let body: &[u8; 28] = frame.get(14..)?.first_chunk()?;
    let address = |at: usize| format!("{}.{}.{}.{}", body[at], body[at + 1], body[at + 2], body[at + 3]);
    match body[7] {
        1 => Some(format!("ARP, Request who-has {} tell {}", address(24), address(14))),
        2 => {
            let mac: Vec<String> = body[8..14].iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("ARP, Reply {} is-at {}", address(14), mac.join(":")))
        }
        other => Some(format!("ARP, operation {other}")),
    }
}

/// The type of an ICMP message in words. Its header ends at the payload.
fn icmp(packet: &Packet, frame: &[u8]) -> String {
    let name = if packet.protocol == protocol::ICMP { "ICMP" } else { "ICMP6" };
    let start = (packet.payload_offset as usize).saturating_sub(8);
    let Some([kind, code]) = frame.get(start..).and_then(|rest| rest.first_chunk().copied()) else {
        return name.to_owned();
    };
    let words = match (packet.protocol == protocol::ICMP, kind) {
        (true, 0) | (false, 129) => "echo reply",
        (true, 8) | (false, 128) => "echo request",
        (true, 3) | (false, 1) => "unreachable",
        (true, 11) | (false, 3) => "time exceeded",
        (true, 5) => "redirect",
        (false, 2) => "packet too big",
        _ => return format!("{name} type {kind}, code {code}"),
    };
    format!("{name} {words}, code {code}")
}

/// The options of a TCP header, in the words of tcpdump.
fn tcp_options(frame: &[u8]) -> String {
    let options = Layout::of(frame).and_then(|layout| frame.get(layout.transport + 20..layout.payload));
    let mut rest = options.unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        let (data, next) = match (kind, after.split_first()) {
            (0, _) => break,
            (1, _) => (&[][..], after),
            (_, Some((&length, _))) if length >= 2 && rest.len() >= usize::from(length) => {
                (&rest[2..usize::from(length)], &rest[usize::from(length)..])
            }
            _ => break,
        };
        let number =
            |at: usize| data.get(at..).and_then(|data| data.first_chunk().copied()).map_or(0, u32::from_be_bytes);
        words.push(match (kind, data) {
            (1, _) => "nop".to_owned(),
            (2, [a, b]) => format!("mss {}", u16::from_be_bytes([*a, *b])),
            (3, [shift]) => format!("wscale {shift}"),
            (4, _) => "sackOK".to_owned(),
            (5, data) => format!("sack {}", data.len() / 8),
            (8, _) => format!("TS val {} ecr {}", number(0), number(4)),
            (other, _) => format!("opt-{other}"),
        });
        rest = next;
    }
    words.join(",")
}

/// What the payload is, as far as this packet alone shows it.
fn application(packet: &Packet, payload: &[u8]) -> Option<String> {
    match packet.protocol {
        protocol::UDP if packet.is_dns() => dns_words(payload),
        protocol::UDP => quic::looks_like(payload).map(|version| format!("QUIC {version}")),
        protocol::TCP if packet.is_dns() => match dns::framed(payload)? {
            dns::Framed::Whole(message, _) => dns_words(message),
            dns::Framed::Partial(..) => None,
        },
        protocol::TCP => tls_words(payload).or_else(|| http_words(payload)),
        _ => None,
    }
}

fn dns_words(message: &[u8]) -> Option<String> {
    let message = dns::parse(message)?;
    let mut words = format!("DNS {}", message.id);
    for question in &message.questions {
        _ = write!(words, " {}? {}", question.kind, escape(question.name.as_str()));
    }
    if message.is_response {
        _ = write!(words, " {}", message.rcode);
        for record in &message.records {
            let data = match &record.data {
                RecordData::Address(address) => address.to_string(),
                RecordData::Alias(name) | RecordData::Pointer(name) | RecordData::Server(name) => {
                    escape(name.as_str()).into_owned()
                }
                _ => "…".to_owned(),
            };
            _ = write!(words, " {} {data}", record.kind);
        }
    }
    Some(cut(&words))
}

fn tls_words(payload: &[u8]) -> Option<String> {
    let message = tls::first_message(payload)?;
    if message.is_client {
        let hello = tls::ClientHello::parse(&message.body, message.whole, tls::Carrier::Tls)?;
        let mut words = format!("TLS ClientHello {}", hello.version());
        if let Some(name) = hello.server_name() {
            _ = write!(words, " {}", escape(&String::from_utf8_lossy(name)));
        }
        let alpn: Vec<_> = hello.alpn().map(|alpn| String::from_utf8_lossy(alpn).into_owned()).collect();
        if !alpn.is_empty() {
            _ = write!(words, " ({})", escape(&alpn.join(", ")));
        }
        return Some(cut(&words));
    }
    Some("TLS ServerHello".to_owned())
}

/// The request line or the status line.
fn http_words(payload: &[u8]) -> Option<String> {
    let is_http = matches!(http1::request(payload), http1::Begins::Yes(_)) || http1::response(payload).is_some();
    let line = payload.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    is_http.then(|| format!("HTTP {}", cut(&escape(&String::from_utf8_lossy(line)))))
}

/// At most [`MAX_TEXT`] bytes.
fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

const _: () = assert!(EGRESS == 0, "directions index the first sequence numbers");

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment of 198.51.100.2:5000 to 198.51.100.1:80.
    fn segment(flags: u8, sequence: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = 20 + options.len();
        let length = (20 + header + payload.len()) as u16;
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 2, 198, 51, 100, 1, 0x13, 0x88, 0, 80]);
        frame.extend_from_slice(&sequence.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, (header as u8 / 4) << 4, flags, 1, 0, 0, 0, 0, 0]);
        [&frame[..], options, payload].concat()
    }

    fn line_of(format: &mut LineFormat, frame: &[u8], identity: &PacketIdentity) -> String {
        let orig_len = frame.len() as u32;
        format.line(&PrintedPacket { time_ns: 0, is_egress: true, bytes: frame, orig_len, flow: None, identity })
    }

    #[test]
    fn a_syn_is_shown_with_its_options() {
        let frame = segment(2, 7, &[2, 4, 5, 180, 1, 3, 3, 10], &[]);
        let line = line_of(&mut LineFormat::default(), &frame, &PacketIdentity::default());
        let wanted = "00:00:00.000000 -> IP 198.51.100.2.5000 > 198.51.100.1.80: Flags [S], seq 7, win 256, \
                      options [mss 1460,nop,wscale 10], length 0";
        assert_eq!(line, wanted);
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let identity = PacketIdentity {
            pid: Some(7),
            comm: Some("c\u{1b}[2J".into()),
            name: Some("app.example".into()),
            comment: None,
        };
        let frame = segment(24, 7, &[], b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n");
        let line = line_of(&mut LineFormat::default(), &frame, &identity);
        assert!(line.ends_with(r"HTTP GET /\u{1b}[31m HTTP/1.1 | app.example | c\u{1b}[2J[7]"), "{line}");
    }

    #[test]
    fn no_frame_makes_it_panic() {
        let whole = segment(18, 7, &[2, 4, 5, 180, 1, 3, 3, 10], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        let mut format = LineFormat::default();
        for length in 0..=whole.len() {
            for at in 12..whole.len() {
                for value in [0, 1, 6, 17, 0x0f, 0x60, 0xff] {
                    let mut frame = whole[..length].to_vec();
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = value;
                    }
                    line_of(&mut format, &frame, &PacketIdentity::default());
                }
            }
        }
    }
}
