//! ICMP, ICMPv6 with neighbor discovery and multicast listener discovery, IGMP and ARP in words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netwatch_common::parse::protocol;

use super::ip::{IpHead, u16_at, u32_at};

/// Offset of the packet that an ICMP error quotes.
const QUOTED: usize = 8;

/// The message of an IP packet, with the name of its protocol.
pub(super) fn message(ip: &IpHead<'_>) -> Option<String> {
    let &[kind, code, ..] = ip.body else { return None };
    Some(match ip.protocol {
        protocol::ICMP => format!("ICMP {}", icmp(kind, code, ip.body)),
        protocol::ICMPV6 => format!("ICMP6, {}", icmpv6(kind, code, ip.body)),
        protocol::IGMP => format!("igmp {}", igmp(kind, ip.body)),
        _ => return None,
    })
}

fn icmp(kind: u8, code: u8, body: &[u8]) -> String {
    match (kind, code) {
        (8, _) => format!("echo request{}", echo(body)),
        (0, _) => format!("echo reply{}", echo(body)),
        (3, 4) => format!("unreachable - need to frag (mtu {}){}", u16_at(body, 6).unwrap_or_default(), quoted(body)),
        (3, code) => format!("{}{}", unreachable(code), quoted(body)),
        (4, _) => format!("source quench{}", quoted(body)),
        (5, _) => format!("redirect to {}{}", v4_at(body, 4), quoted(body)),
        (9, _) => "router advertisement".to_owned(),
        (10, _) => "router solicitation".to_owned(),
        (11, 0) => format!("time exceeded in-transit{}", quoted(body)),
        (11, _) => format!("ip reassembly time exceeded{}", quoted(body)),
        (12, _) => format!("parameter problem{}", quoted(body)),
        (13, _) => "time stamp query".to_owned(),
        (14, _) => "time stamp reply".to_owned(),
        _ => format!("type {kind}, code {code}"),
    }
}

fn unreachable(code: u8) -> String {
    match code {
        0 => "net unreachable".into(),
        1 => "host unreachable".into(),
        2 => "protocol unreachable".into(),
        3 => "port unreachable".into(),
        9 | 10 | 13 => "unreachable - admin prohibited".into(),
        other => format!("unreachable, code {other}"),
    }
}

fn icmpv6(kind: u8, code: u8, body: &[u8]) -> String {
    match kind {
        1 => format!("destination unreachable, {}{}", unreachable_v6(code), quoted(body)),
        2 => format!("packet too big, mtu {}{}", u32_at(body, 4), quoted(body)),
        3 => format!("time exceeded{}", quoted(body)),
        4 => format!("parameter problem{}", quoted(body)),
        128 => format!("echo request{}", echo(body)),
        129 => format!("echo reply{}", echo(body)),
        130 => format!("multicast listener query {}", v6_at(body, 8)),
        131 => format!("multicast listener report {}", v6_at(body, 8)),
        132 => format!("multicast listener done {}", v6_at(body, 8)),
        133 => "router solicitation".to_owned(),
        134 => format!("router advertisement, lifetime {} s", u16_at(body, 6).unwrap_or_default()),
        135 => format!("neighbor solicitation, who has {}", v6_at(body, 8)),
        136 => format!("neighbor advertisement, tgt is {}", v6_at(body, 8)),
        137 => format!("redirect, {} to {}", v6_at(body, 24), v6_at(body, 8)),
        143 => format!("multicast listener report v2, {} group records", u16_at(body, 6).unwrap_or_default()),
        _ => format!("type {kind}, code {code}"),
    }
}

fn unreachable_v6(code: u8) -> String {
    match code {
        0 => "no route".into(),
        1 => "admin prohibited".into(),
        2 => "beyond scope".into(),
        3 => "address unreachable".into(),
        4 => "port unreachable".into(),
        other => format!("code {other}"),
    }
}

fn igmp(kind: u8, body: &[u8]) -> String {
    match kind {
        0x11 => format!("query {}", v4_at(body, 4)),
        0x12 => format!("v1 report {}", v4_at(body, 4)),
        0x16 => format!("v2 report {}", v4_at(body, 4)),
        0x17 => format!("leave {}", v4_at(body, 4)),
        0x22 => format!("v3 report, {} group records", u16_at(body, 6).unwrap_or_default()),
        _ => format!("type {kind:#04x}"),
    }
}

fn echo(body: &[u8]) -> String {
    match (u16_at(body, 4), u16_at(body, 6)) {
        (Some(id), Some(sequence)) => format!(", id {id}, seq {sequence}"),
        _ => String::new(),
    }
}

/// The ends of the packet that an error is about.
fn quoted(body: &[u8]) -> String {
    let Some(ip) = body.get(QUOTED..).and_then(IpHead::of) else { return String::new() };
    let (name, has_ports) = match ip.protocol {
        protocol::TCP => ("TCP", true),
        protocol::UDP => ("UDP", true),
        protocol::ICMP => ("ICMP", false),
        protocol::ICMPV6 => ("ICMP6", false),
        _ => ("IP", false),
    };
    let has_ports = has_ports && ip.part.is_none_or(|part| part.offset == 0);
    let end = |address: IpAddr, at: usize| match u16_at(ip.body, at).filter(|_| has_ports) {
        Some(port) => format!("{address}.{port}"),
        None => address.to_string(),
    };
    format!(" for {name} {} > {}", end(ip.source, 0), end(ip.destination, 2))
}

/// An ARP packet between IPv4 addresses.
pub(super) fn arp(body: &[u8]) -> Option<String> {
    let body: &[u8; 28] = body.first_chunk()?;
    match body[7] {
        1 => Some(format!("ARP, Request who-has {} tell {}", v4_at(body, 24), v4_at(body, 14))),
        2 => {
            let mac: Vec<String> = body[8..14].iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("ARP, Reply {} is-at {}", v4_at(body, 14), mac.join(":")))
        }
        other => Some(format!("ARP, operation {other}")),
    }
}

fn v4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32_at(bytes, at))
}

/// `::` if the address was not captured.
fn v6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()).map_or(Ipv6Addr::UNSPECIFIED, |bytes| (*bytes).into())
}
