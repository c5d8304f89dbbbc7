//! A packet as a line of text, in the words of tcpdump, with the direction, the process and the
//! name of the remote. Text from the network is escaped.

mod application;
mod dump;
mod icmp;
mod ip;
mod style;
mod tcp;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use netwatch_common::flow::{housekeeping, kind, malformed};
use netwatch_common::parse::{self, Captured, Meta, Packet, protocol};

pub use style::{DumpColumns, DumpStyle, LineStyle, TimeStyle};

use super::identity::PacketIdentity;
use crate::escape::escape;
use crate::flow::{Direction, FlowKey};
use ip::{FragmentPart, IpHead, LinkHead};
use style::LineClock;
use tcp::FirstNumbers;

/// Maximum length of a text from the network, in bytes.
const MAX_TEXT: usize = 200;
/// The same, with `-v`.
const MAX_VERBOSE_TEXT: usize = 4000;

/// A packet to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrintedPacket<'a> {
    pub time_ns: u64,
    /// `None` if it is not known.
    pub direction: Option<Direction>,
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    pub orig_len: u32,
    pub flow: Option<&'a FlowKey>,
    pub identity: &'a PacketIdentity,
}

impl<'a> PrintedPacket<'a> {
    /// The bytes from the network header on.
    fn network(&self) -> &'a [u8] {
        let at = LinkHead::of(self.bytes).map_or(self.bytes.len(), |link| link.network);
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Whether the capture has all bytes of the frame.
    fn has_all(&self) -> bool {
        self.bytes.len() >= self.orig_len as usize
    }

    /// The transport payload, as far as it was captured.
    fn payload(&self, packet: &Packet) -> &'a [u8] {
        let payload = self.bytes.get(packet.payload_offset as usize..).unwrap_or_default();
        &payload[..payload.len().min(packet.payload_len as usize)]
    }
}

/// Formats packets. Remembers the first sequence numbers of connections, and times.
#[derive(Debug, Default)]
pub(super) struct LineFormat {
    style: LineStyle,
    clock: LineClock,
    first: FirstNumbers,
}

impl LineFormat {
    pub(super) fn new(style: LineStyle) -> Self {
        Self { style, ..Self::default() }
    }

    /// The line of a packet, and its bytes if they are wanted, without a line feed at the end.
    pub(super) fn line(&mut self, printed: &PrintedPacket<'_>) -> String {
        let mut packet = Packet::default();
        let frame = Captured { bytes: printed.bytes, orig_len: printed.orig_len };
        parse::parse(&frame, &Meta::default(), &mut packet);
        let mut line = self.clock.prefix(self.style.time, printed.time_ns);
        line.push_str(match printed.direction {
            Some(Direction::Egress) => "-> ",
            Some(Direction::Ingress) => "<- ",
            None => "-- ",
        });
        let link = LinkHead::of(printed.bytes);
        if let Some(link) = link.filter(|_| self.style.shows_link) {
            link.push_words(&mut line, printed.bytes, printed.orig_len);
        }
        self.push_packet(&mut line, &packet, printed);
        self.push_identity(&mut line, printed.identity);
        if let Some(style) = self.style.dump {
            dump::push(&mut line, style, printed.bytes, link.map_or(0, |link| link.network));
        }
        line
    }

    fn push_packet(&mut self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        let ip = IpHead::of(printed.network());
        let length = length(packet, printed, ip.as_ref());
        match packet.kind {
            kind::HOUSEKEEPING => self.push_housekeeping(line, packet, printed),
            kind::NON_IP => _ = write!(line, "ethertype {:#06x}", packet.source_port),
            kind::MALFORMED if is_cut(packet, printed) => return self.push_cut(line, printed),
            kind::MALFORMED => line.push_str("malformed"),
            _ => {
                self.push_ends(line, packet, printed);
                if let Some(fault) = ip.and_then(|ip| tcp::header_fault(packet, &ip)) {
                    return line.push_str(&fault);
                }
                if self.style.is_quiet {
                    return push_quiet(line, packet, length);
                }
                self.push_transport(line, packet, printed, ip.as_ref());
            }
        }
        _ = write!(line, ", length {length}");
        if ip.is_some_and(|ip| is_later(&ip)) {
            return;
        }
        let limit = if self.style.is_verbose { MAX_VERBOSE_TEXT } else { MAX_TEXT };
        if let Some(words) = application::words(packet, printed.payload(packet), limit, self.style.is_verbose) {
            let cut = if words.is_cut_dns { " [|domain]" } else { "" };
            _ = write!(line, ": {}{cut}", separated(&words.text));
        }
    }

    /// `IP SOURCE > DESTINATION: `.
    fn push_ends(&self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        let is_v6 = packet.kind == kind::IPV6 || packet.kind == kind::IPV6_FRAGMENT;
        let address = |bytes: [u8; 16]| {
            let v6 = Ipv6Addr::from(bytes);
            v6.to_ipv4_mapped().filter(|_| !is_v6).map_or(v6.to_string(), |v4| v4.to_string())
        };
        let end = |address: String, port: u16| if packet.has_ports() { format!("{address}.{port}") } else { address };
        let source = end(address(packet.source.bytes()), packet.source_port);
        let destination = end(address(packet.destination.bytes()), packet.destination_port);
        self.push_family(line, is_v6, printed);
        _ = write!(line, " {source} > {destination}: ");
    }

    /// `IP` or `IP6`, and the fields of the header with `-v`.
    fn push_family(&self, line: &mut String, is_v6: bool, printed: &PrintedPacket<'_>) {
        line.push_str(if is_v6 { "IP6" } else { "IP" });
        if let Some(ip) = IpHead::of(printed.network()).filter(|_| self.style.is_verbose) {
            ip.push_fields(line);
        }
    }

    fn push_transport(
        &mut self,
        line: &mut String,
        packet: &Packet,
        printed: &PrintedPacket<'_>,
        ip: Option<&IpHead<'_>>,
    ) {
        match (packet.protocol, ip) {
            (_, Some(ip)) if is_later(ip) => return line.push_str(&later_fragment(ip)),
            (protocol::TCP, _) if packet.has_ports() => self.first.push_words(line, packet, printed),
            (protocol::UDP, _) => line.push_str("UDP"),
            (other, ip) => match ip.and_then(icmp::message) {
                Some(words) => line.push_str(&words),
                None => _ = write!(line, "ip-proto-{other}"),
            },
        }
        if let Some(part) = ip.and_then(|ip| ip.part) {
            _ = write!(line, ", first fragment of {}", part.id);
        }
    }

    fn push_housekeeping(&self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        if packet.protocol == housekeeping::ARP {
            let cut = if printed.has_all() { "ARP" } else { "ARP [|arp]" };
            return line.push_str(&icmp::arp(printed.network()).unwrap_or_else(|| cut.to_owned()));
        }
        let Some(ip) = IpHead::of(printed.network()) else { return line.push_str("IP") };
        self.push_family(line, ip.source.is_ipv6(), printed);
        let words = match is_later(&ip) {
            true => later_fragment(&ip),
            false => icmp::message(&ip).unwrap_or_else(|| format!("ip-proto-{}", ip.protocol)),
        };
        _ = write!(line, " {} > {}: {words}", ip.source, ip.destination);
    }

    /// What is there of a packet without all headers.
    fn push_cut(&self, line: &mut String, printed: &PrintedPacket<'_>) {
        let Some(ip) = IpHead::of(printed.network()) else {
            return line.push_str(LinkHead::of(printed.bytes).map_or("[|ether]", LinkHead::cut_words));
        };
        self.push_family(line, ip.source.is_ipv6(), printed);
        let protocol = ip::short_name(ip.protocol).map_or_else(|| format!("ip-proto-{}", ip.protocol), str::to_owned);
        _ = write!(line, " {} > {}: [|{protocol}]", ip.source, ip.destination);
    }

    fn push_identity(&self, line: &mut String, identity: &PacketIdentity) {
        if let Some(name) = identity.name.as_ref().filter(|_| !self.style.is_numeric) {
            _ = write!(line, " | {}", separated(&escape(name)));
        }
        if let (Some(pid), Some(comm)) = (identity.pid, &identity.comm) {
            _ = write!(line, " | {}[{pid}]", separated(&escape(comm)));
        }
    }
}

/// Without the character that separates name and process, so that no text can imitate them.
fn separated(text: &str) -> String {
    text.replace('|', r"\174")
}

/// Whether it is a fragment without the header of a transport.
fn is_later(ip: &IpHead<'_>) -> bool {
    ip.part.is_some_and(|part| part.offset > 0)
}

/// The protocol of a later fragment (IPv4), and its place in the datagram.
fn later_fragment(ip: &IpHead<'_>) -> String {
    let Some(FragmentPart { id, offset }) = ip.part else { return String::new() };
    if ip.source.is_ipv6() {
        return format!("frag ({offset}|{}), fragment of {id}", ip.body_length);
    }
    let Some(name) = ip::short_name(ip.protocol) else {
        return format!("ip-proto-{}, fragment of {id} at offset {offset}", ip.protocol);
    };
    format!("{name}, fragment of {id} at offset {offset}")
}

/// Whether it counts as malformed only because the capture does not have all its bytes.
fn is_cut(packet: &Packet, printed: &PrintedPacket<'_>) -> bool {
    let is_missing = matches!(
        packet.protocol,
        malformed::ETHERNET | malformed::IP_TRUNCATED | malformed::EXTENSION_HEADER | malformed::TRANSPORT_TRUNCATED
    );
    is_missing && !printed.has_all()
}

/// Protocol and length, as `tcpdump -q` prints them.
fn push_quiet(line: &mut String, packet: &Packet, length: u32) {
    match packet.protocol {
        protocol::TCP => _ = write!(line, "tcp {length}"),
        protocol::UDP => _ = write!(line, "UDP, length {length}"),
        protocol::ICMP => _ = write!(line, "ICMP, length {length}"),
        protocol::ICMPV6 => _ = write!(line, "ICMP6, length {length}"),
        other => _ = write!(line, "ip-proto-{other} {length}"),
    }
}

/// The payload of a transport with ports, and else that of IP: a message of ICMP with its header.
/// An ARP packet without the Ethernet header; the whole frame if it is malformed or of another
/// protocol.
fn length(packet: &Packet, printed: &PrintedPacket<'_>, ip: Option<&IpHead<'_>>) -> u32 {
    let link = || printed.bytes.len() - printed.network().len();
    match (packet.kind, ip) {
        (kind::HOUSEKEEPING, None) => printed.orig_len.saturating_sub(link() as u32),
        (kind::HOUSEKEEPING, Some(ip)) => ip.body_length,
        (kind, Some(ip)) if kind < kind::HOUSEKEEPING && !packet.has_ports() => ip.body_length,
        (kind, _) if kind < kind::HOUSEKEEPING => packet.payload_len,
        _ => printed.orig_len,
    }
}
