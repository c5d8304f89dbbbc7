//! Golden frames: packets that other tools get wrong, with their expected counts. The classifier
//! and the user-space build of the same source must both give these counts, bit for bit.

use netwatch_common::flow::FlowValue;
use netwatch_common::parse::{Hook, Meta};

use super::checked::CheckedMeter;
use super::frames::*;
use super::reference::ReferenceMeter;
use super::{KernelMeterConfig, assert_same, describe, drained, meter_with, run, tables, without_front};
use crate::flow::Increment;
use crate::meter::abi::{self, Growth};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 0x10;
const NO_GSO: Meta = Meta { gso_segs: 0, gso_size: 0, tagged: false };
const GSO: Meta = Meta { gso_segs: 2, gso_size: 1448, tagged: false };

/// Frames that the target sends, and the expected counts in the format of [`describe`]: direction,
/// skbs, packets, bytes, wire bytes.
pub(super) struct GoldenCase {
    pub(super) name: &'static str,
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) meta: Meta,
    expected: &'static [&'static str],
}

fn case(name: &'static str, frame: Vec<u8>, expected: &'static str) -> GoldenCase {
    GoldenCase { name, frames: vec![frame], meta: NO_GSO, expected: Vec::leak(vec![expected]) }
}

fn transports() -> Vec<GoldenCase> {
    vec![
        case("TCP", ipv4(TCP, &tcp(SYN, 0)), "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 1 54 54"),
        case("UDP", ipv4(UDP, &udp(53, 10)), "17 198.51.100.2 40000 203.0.113.9 53 | sent 1 1 52 52"),
        case("TCP over IPv6", ipv6(TCP, &tcp(ACK, 1)), "6 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 1 75 75"),
        case("UDP over IPv6", ipv6(UDP, &udp(443, 1)), "17 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 1 63 63"),
        case("SCTP", ipv4(132, &udp(99, 8)), "132 198.51.100.2 40000 203.0.113.9 99 | sent 1 1 50 50"),
        case("ICMP", ipv4(1, &icmp(8, 56)), "1 198.51.100.2 0 203.0.113.9 0 | sent 1 1 98 98"),
        case("ICMPv6 echo", ipv6(58, &icmp(128, 56)), "58 2001:db8::2 0 2001:db8:9::9 0 | sent 1 1 118 118"),
        case("GRE", ipv4(47, &[0; 24]), "47 198.51.100.2 0 203.0.113.9 0 | sent 1 1 58 58"),
        case("ESP", ipv6(50, &[0; 24]), "50 2001:db8::2 0 2001:db8:9::9 0 | sent 1 1 78 78"),
        case("protocol 253", ipv4(253, &[0; 3]), "253 198.51.100.2 0 203.0.113.9 0 | sent 1 1 37 37"),
        case("no next header", ipv6(59, &[]), "59 2001:db8::2 0 2001:db8:9::9 0 | sent 1 1 54 54"),
        case(
            "TCP cut off after 8 bytes",
            ipv4(TCP, &tcp(SYN, 0)[..8]),
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 1 42 42",
        ),
    ]
}

fn network_headers() -> Vec<GoldenCase> {
    let options = Ipv4 { options: &[1; 40], ..PLAIN };
    let chain =
        extension(60, 0, &extension(43, 2, &extension(60, 255, &extension(51, 1, &authentication(TCP, &tcp(SYN, 0))))));
    let atomic = fragment6(UDP, 0, false, 5, &udp(443, 4));
    let padded = join(&[&ipv4(UDP, &udp(53, 0)), &[0xaa; 18]]);
    vec![
        case(
            "IPv4 with options",
            ethernet(0x0800, &ipv4_with(&options, TCP, &tcp(SYN, 0))),
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 1 94 94",
        ),
        case(
            "authentication header over IPv4",
            ipv4(51, &authentication(UDP, &udp(53, 0))),
            "17 198.51.100.2 40000 203.0.113.9 53 | sent 1 1 66 66",
        ),
        case(
            "six extension headers in an odd order",
            ipv6(0, &chain),
            "6 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 1 2194 2194",
        ),
        case("atomic fragment", ipv6(44, &atomic), "17 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 1 74 74"),
        case("padding is not payload", padded, "17 198.51.100.2 40000 203.0.113.9 53 | sent 1 1 60 60"),
        case(
            "802.1Q in the data",
            ethernet(0x8100, &tag(0x0800, &ipv4(TCP, &tcp(SYN, 0))[14..])),
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 1 58 58",
        ),
        case(
            "QinQ in the data",
            ethernet(0x88a8, &tag(0x8100, &tag(0x86dd, &ipv6(UDP, &udp(5, 0))[14..]))),
            "17 2001:db8::2 40000 2001:db8:9::9 5 | sent 1 1 70 70",
        ),
        case(
            "four tags",
            ethernet(0x9100, &tag(0x88a8, &tag(0x8100, &tag(0x8100, &tag(0x0800, &ipv4(1, &icmp(8, 0))[14..]))))),
            "1 198.51.100.2 0 203.0.113.9 0 | sent 1 1 58 58",
        ),
        case(
            "five tags",
            ethernet(0x8100, &tag(0x8100, &tag(0x8100, &tag(0x8100, &tag(0x8100, &tag(0x0800, &[0; 40])))))),
            "NonIp(33024) | sent 1 1 74 74",
        ),
    ]
}

/// Headers between Ethernet and IP.
fn between() -> Vec<GoldenCase> {
    let packet = &ipv4(TCP, &tcp(SYN, 0))[14..];
    let flow = |name, frame, bytes: u32| {
        let expected = format!("6 198.51.100.2 40000 203.0.113.9 443 | sent 1 1 {bytes} {bytes}");
        case(name, frame, expected.leak())
    };
    let session = |protocol: [u8; 2], rest: &[u8]| join(&[&[0x11, 0, 0, 7, 0, 42], &protocol, rest]);
    let inner = ethernet(0x8100, &tag(0x0800, packet));
    vec![
        flow("MPLS", ethernet(0x8847, &join(&[&[0, 1, 0x21, 64], packet])), 58),
        flow("three labels", ethernet(0x8847, &join(&[&[0, 1, 0, 9], &[0, 2, 0, 9], &[0, 3, 1, 9], packet])), 66),
        flow("a label behind a tag", ethernet(0x8100, &tag(0x8848, &join(&[&[0, 1, 1, 9], packet]))), 62),
        case(
            "IPv6 behind a label",
            ethernet(0x8847, &join(&[&[0, 1, 1, 9], &ipv6(UDP, &udp(5, 0))[14..]])),
            "17 2001:db8::2 40000 2001:db8:9::9 5 | sent 1 1 66 66",
        ),
        case("a pseudowire", ethernet(0x8847, &join(&[&[0, 1, 1, 9], &[0; 40]])), "NonIp(34887) | sent 1 1 58 58"),
        flow("PPPoE", ethernet(0x8864, &session([0, 0x21], packet)), 62),
        case("PPPoE control", ethernet(0x8864, &session([0xc0, 0x21], &[0; 40])), "NonIp(34916) | sent 1 1 62 62"),
        flow("FabricPath with a tag", ethernet(0x8903, &join(&[&[0, 0x20], &inner])), 74),
        case("a label cut off", ethernet(0x8847, &[0, 1, 1]), "Malformed(Ethernet) | sent 1 1 17 17"),
        flow(
            "an empty total length",
            ethernet(0x0800, &ipv4_with(&Ipv4 { total: Some(0), ..PLAIN }, TCP, &tcp(SYN, 0))),
            54,
        ),
    ]
}

fn fragments() -> Vec<GoldenCase> {
    let first = Ipv4 { fragment: 0x2000, id: 900, ..PLAIN };
    let later = Ipv4 { fragment: 0x2000 | 2, id: 900, ..PLAIN };
    let orphan = Ipv4 { fragment: 3, id: 901, ..PLAIN };
    let ports = [0xff; 16];
    vec![
        GoldenCase {
            name: "IPv4 fragments joined",
            frames: vec![
                ethernet(0x0800, &ipv4_with(&first, UDP, &udp(53, 8))),
                ethernet(0x0800, &ipv4_with(&later, UDP, &ports)),
            ],
            meta: NO_GSO,
            expected: &["17 198.51.100.2 40000 203.0.113.9 53 | sent 2 2 100 100"],
        },
        case(
            "IPv4 fragment without its first",
            ethernet(0x0800, &ipv4_with(&orphan, UDP, &ports)),
            "17 fragment 198.51.100.2 0 203.0.113.9 0 | sent 1 1 50 50",
        ),
        case(
            "later ICMP fragment needs no ports",
            ethernet(0x0800, &ipv4_with(&orphan, 1, &ports)),
            "1 198.51.100.2 0 203.0.113.9 0 | sent 1 1 50 50",
        ),
        GoldenCase {
            name: "IPv6 fragments joined, with options behind the fragment header",
            frames: vec![
                ipv6(44, &fragment6(60, 0, true, 77, &extension(UDP, 0, &udp(443, 8)))),
                ipv6(44, &fragment6(60, 24, false, 77, &ports)),
            ],
            meta: NO_GSO,
            expected: &["17 2001:db8::2 40000 2001:db8:9::9 443 | sent 2 2 164 164"],
        },
        case(
            "IPv6 fragment without its first",
            ipv6(44, &fragment6(TCP, 8, false, 78, &ports)),
            "6 fragment 2001:db8::2 0 2001:db8:9::9 0 | sent 1 1 78 78",
        ),
    ]
}

fn gso() -> Vec<GoldenCase> {
    let tcp_options = |payload: usize| {
        let mut segment = tcp(ACK, payload + 12);
        segment[12] = 0x80;
        segment
    };
    let gso = |name, frame, expected| GoldenCase { meta: GSO, ..case(name, frame, expected) };
    vec![
        gso(
            "GSO of 2 × 1448 bytes",
            ipv4(TCP, &tcp_options(2896)),
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 2 2962 3028",
        ),
        gso(
            "GSO of 2 × 1448 bytes over IPv6",
            ipv6(TCP, &tcp_options(2896)),
            "6 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 2 2982 3068",
        ),
        gso("UDP GSO", ipv4(UDP, &udp(443, 2896)), "17 198.51.100.2 40000 203.0.113.9 443 | sent 1 2 2938 2980"),
        gso(
            "BIG TCP has no total length",
            ethernet(0x0800, &ipv4_with(&Ipv4 { total: Some(0), ..PLAIN }, TCP, &tcp(ACK, 2896))),
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 2 2950 3004",
        ),
        gso(
            "BIG TCP has no payload length",
            ethernet(0x86dd, &ipv6_of_length(TCP, 0, &tcp(ACK, 2896))),
            "6 2001:db8::2 40000 2001:db8:9::9 443 | sent 1 2 2970 3044",
        ),
    ]
}

fn remainders() -> Vec<GoldenCase> {
    vec![
        case("ARP", ethernet(0x0806, &[0; 28]), "Housekeeping(Arp) | sent 1 1 42 42"),
        case("neighbor solicitation", ipv6(58, &icmp(135, 16)), "Housekeeping(NeighborDiscovery) | sent 1 1 78 78"),
        case(
            "MLD report behind hop-by-hop",
            ipv6(0, &extension(58, 0, &icmp(143, 20))),
            "Housekeeping(Mld) | sent 1 1 90 90",
        ),
        case("IGMP", ipv4(2, &icmp(0x16, 0)), "Housekeeping(Igmp) | sent 1 1 42 42"),
        case("LLDP", ethernet(0x88cc, &[0; 50]), "NonIp(35020) | sent 1 1 64 64"),
        case("802.3 length", ethernet(0x0026, &[0; 46]), "NonIp(0) | sent 1 1 60 60"),
    ]
}

fn malformed() -> Vec<GoldenCase> {
    let v4 = |how: Ipv4<'_>| ethernet(0x0800, &ipv4_with(&how, TCP, &tcp(SYN, 0)));
    let v4_in_v6 = ethernet(0x86dd, &ipv4_with(&PLAIN, TCP, &tcp(SYN, 20)));
    let nine = (0..9).fold(tcp(SYN, 0), |rest, number| extension(if number == 0 { TCP } else { 60 }, 0, &rest));
    vec![
        case("IHL 4", v4(Ipv4 { ihl: Some(4), ..PLAIN }), "Malformed(Ipv4HeaderLength) | sent 1 1 54 54"),
        case(
            "IHL beyond the packet",
            ethernet(0x0800, &ipv4_with(&Ipv4 { ihl: Some(15), ..PLAIN }, TCP, &tcp(SYN, 0))[..36]),
            "Malformed(Ipv4HeaderLength) | sent 1 1 50 50",
        ),
        case("total length too long", v4(Ipv4 { total: Some(41), ..PLAIN }), "Malformed(IpLength) | sent 1 1 54 54"),
        case("total length too short", v4(Ipv4 { total: Some(19), ..PLAIN }), "Malformed(IpLength) | sent 1 1 54 54"),
        case(
            "payload length too long",
            ethernet(0x86dd, &ipv6_of_length(TCP, 21, &tcp(SYN, 0))),
            "Malformed(IpLength) | sent 1 1 74 74",
        ),
        case("version and EtherType disagree", v4_in_v6, "Malformed(IpVersion) | sent 1 1 74 74"),
        case("no room for ports", ipv4(TCP, &[0; 3]), "Malformed(TransportTruncated) | sent 1 1 37 37"),
        case(
            "extension header over the end",
            ipv6(0, &extension(TCP, 0, &tcp(SYN, 0))[..7]),
            "Malformed(ExtensionHeader) | sent 1 1 61 61",
        ),
        case(
            "extension header longer than the packet",
            ipv6(60, &{
                let mut header = extension(TCP, 0, &tcp(SYN, 0));
                header[1] = 9;
                header
            }),
            "Malformed(ExtensionHeader) | sent 1 1 82 82",
        ),
        case("nine extension headers", ipv6(60, &nine), "Malformed(ExtensionHeader) | sent 1 1 146 146"),
        case("shorter than Ethernet", vec![0; 13], "Malformed(Ethernet) | sent 1 1 13 13"),
        case("cut off inside a tag", ethernet(0x8100, &[0, 7]), "Malformed(Ethernet) | sent 1 1 16 16"),
        case("cut off inside IPv4", ipv4(TCP, &[])[..30].to_vec(), "Malformed(IpTruncated) | sent 1 1 30 30"),
        case("cut off inside IPv6", ipv6(TCP, &[])[..50].to_vec(), "Malformed(IpTruncated) | sent 1 1 50 50"),
    ]
}

pub(super) fn all() -> Vec<GoldenCase> {
    let all = [transports(), network_headers(), between(), fragments(), gso(), remainders(), malformed()];
    all.into_iter().flatten().collect()
}

/// Whether BPF_PROG_TEST_RUN accepts the frame: it needs whole Ethernet and IP headers.
pub(super) fn is_runnable(frame: &[u8]) -> bool {
    let shortest = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        Some([0x86, 0xdd]) => 54,
        Some(_) => 14 + 1,
        None => return false,
    };
    frame.len() >= shortest
}

fn check_reference(case: &GoldenCase) {
    let mut host = ReferenceMeter::default();
    for frame in &case.frames {
        host.run(frame, &case.meta, Hook::FromTarget);
    }
    let clock = crate::meter::clock::Clock::of_process();
    let lines: Vec<_> = host
        .entries
        .iter()
        .filter_map(|((key, _), now)| {
            abi::increment(&Growth { key, before: &FlowValue::EMPTY, now, ended: None, is_last: false }, clock)
        })
        .map(|increment| describe(&increment))
        .collect();
    assert_eq!(lines, case.expected, "{} in user space", case.name);
}

fn check_kernel(case: &GoldenCase, meter: &mut CheckedMeter) {
    let mut host = ReferenceMeter::default();
    for frame in &case.frames {
        run(meter, "link_egress", frame, &case.meta).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        host.run(frame, &case.meta, Hook::FromTarget);
    }
    assert_same(tables(meter), host.entries, case.name);
    let lines: Vec<_> = drained(meter).iter().map(describe).collect();
    assert_eq!(lines, case.expected, "{} in the kernel", case.name);
}

#[test]
fn user_space_counts_golden_frames_as_expected() {
    all().iter().for_each(check_reference);
}

#[test]
fn kernel_and_user_space_agree_on_golden_frames() {
    let runnable = |case: &&GoldenCase| case.frames.iter().all(|frame| is_runnable(frame));
    for config in [KernelMeterConfig::default(), without_front()] {
        for case in all().iter().filter(runnable) {
            let Some(mut meter) = meter_with(&config) else { return };
            check_kernel(case, &mut meter);
        }
    }
}

/// The same sequence of packets at every hook: directions, flags, handshake, sample budget.
#[test]
fn conversations_agree_at_every_hook() {
    conversations_agree(&KernelMeterConfig::default());
}

#[test]
fn conversations_agree_without_the_front() {
    conversations_agree(&without_front());
}

fn conversations_agree(config: &KernelMeterConfig) {
    let there =
        |flags, sequence, acknowledgment, payload| ipv4(TCP, &tcp_numbered(flags, sequence, acknowledgment, payload));
    let back = |flags, sequence, acknowledgment, payload| reversed(&there(flags, sequence, acknowledgment, payload));
    let out = [
        (false, there(SYN, 10, 0, 0)),
        (true, back(SYN | ACK, 50, 11, 0)),
        (false, there(ACK, 11, 51, 0)),
        (false, there(ACK | 8, 11, 51, 300)),
        (true, back(ACK | 8, 51, 311, 900)),
        (true, back(ACK | 4, 951, 311, 0)),
        (false, there(SYN, 99, 0, 0)),
        (false, there(SYN, 99, 0, 0)),
        (true, back(4 | ACK, 0, 100, 0)),
    ];
    for (forward, backward) in
        [("link_egress", "link_ingress"), ("link_ingress", "link_egress"), ("loopback", "loopback")]
    {
        let Some(mut meter) = meter_with(config) else { return };
        let mut host = ReferenceMeter::default();
        for (is_back, frame) in &out {
            let program = if *is_back { backward } else { forward };
            run(&meter, program, frame, &NO_GSO).expect("runs");
            host.run(frame, &NO_GSO, hook_of(program));
        }
        assert_same(tables(&mut meter), host.entries, forward);
        let mut all: Vec<_> = drained(&mut meter).into_iter().filter(|one| one.ended.is_none()).collect();
        all.sort_unstable_by_key(|increment| increment.epoch);
        let facts = |one: &Increment| {
            let tcp = one.tcp.expect("TCP");
            let [syns, resets] = [tcp.syns, tcp.resets].map(|count| count.egress + count.ingress);
            (one.epoch, one.connections, tcp.handshake_rtt_ns.is_some(), syns, resets)
        };
        let facts: Vec<_> = all.iter().map(facts).collect();
        assert_eq!(facts, [(0, 1, true, 1, 1), (1, 1, false, 2, 1)], "{forward}: one entry per connection");
    }
}

fn hook_of(program: &str) -> Hook {
    match program {
        "link_egress" => Hook::FromTarget,
        "link_ingress" => Hook::ToTarget,
        _ => Hook::Loopback,
    }
}
