//! Memory is bounded for any input; what exceeds the limits is counted.

use proptest::prelude::*;

use super::*;
use crate::wire::testing::{DnsBuilder, HelloBuilder};

const SMALL: NameLimits = NameLimits {
    direction_bytes: 600,
    waiting_bytes: 2_000,
    open_flows: 8,
    flows: 16,
    addresses: 8,
    lookups: 8,
    pending: 4,
    table_bytes: 1 << 20,
};

fn small() -> Names {
    Names::new(SMALL, Hosts::default())
}

/// Sends the first bytes of a hello, so that the flow buffers them.
fn begin(names: &mut Names, port: u16, length: usize) {
    let stream = HelloBuilder::named("app.example").extension(21, vec![0; 2000]).records(16_384);
    names.observe(&segment(sent(flow(TCP, port, 7, 443), &stream[..length]), 1, 0));
}

#[test]
fn closes_the_oldest_flows_when_too_many_are_read() {
    let mut names = small();
    (0..12).for_each(|port| begin(&mut names, port, 50));
    assert_eq!(names.waiting_bytes(), 8 * 50);
    assert_eq!(names.lost(), NamesLost { open_flows: 4, ..NamesLost::default() });
}

/// A service with many short connections: if everything sent so far has been parsed, only what
/// follows is lost.
#[test]
fn a_flow_that_was_closed_early_loses_only_what_follows() {
    let mut names = small();
    let request = b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n";
    let send = |names: &mut Names, port: u16, sequence: usize| {
        names.observe(&segment(sent(flow(TCP, port, 7, 80), request), 1 + (sequence * request.len()) as u32, 0));
    };
    (0..12).for_each(|port| send(&mut names, port, 0));
    assert_eq!((names.waiting_bytes(), names.lost()), (0, NamesLost::default()));
    send(&mut names, 11, 1);
    assert_eq!(names.lost(), NamesLost::default(), "still open");
    (0..2).for_each(|_| send(&mut names, 0, 1));
    assert_eq!(names.lost(), NamesLost { open_flows: 1, ..NamesLost::default() }, "each flow once");
}

#[test]
fn closes_the_oldest_flows_when_too_many_bytes_are_buffered() {
    let mut names = small();
    (0..7).for_each(|port| begin(&mut names, port, 500));
    assert_eq!(names.waiting_bytes(), 4 * 500);
    assert_eq!(names.lost(), NamesLost { waiting_bytes: 3, ..NamesLost::default() });
    assert_eq!(names.flow(&flow(TCP, 0, 7, 443)).unwrap().names[0].name, "app.example", "the buffered bytes were read");
}

#[test]
fn closes_a_direction_with_too_many_bytes() {
    let mut names = small();
    begin(&mut names, 1, 601);
    assert_eq!((names.waiting_bytes(), names.lost().direction_bytes), (0, 1));
    assert_eq!(
        names.flow(&flow(TCP, 1, 7, 443)).unwrap().names[0].name,
        "app.example",
        "the bytes within the limit were read"
    );
    let noise = [0x55; 100];
    for sequence in 0..10 {
        names.observe(&segment(sent(tcp(7, 9), &noise), sequence * 100, 0));
    }
    assert_eq!((names.waiting_bytes(), names.lost().direction_bytes), (0, 1), "nothing was lost with noise");
}

#[test]
fn evicts_the_oldest_flows_beyond_the_limit() {
    let mut names = small();
    (0..40).for_each(|port| names.observe(&sent(flow(UDP, port, 7, 9), b"x")));
    assert_eq!((names.flows().count(), names.lost().flows), (16, 24));
    let known: Vec<u16> = (0..40).filter(|port| names.flow(&flow(UDP, *port, 7, 9)).is_some()).collect();
    assert_eq!(known, (24..40).collect::<Vec<u16>>());
    assert_eq!(names.take(&flow(UDP, 23, 7, 9)), None, "evicted");
    assert_eq!(names.take(&flow(UDP, 39, 7, 9)), Some(FlowFacts::default()));
    names.observe(&sent(flow(UDP, 40, 7, 9), b"x"));
    assert_eq!((names.flows().count(), names.lost().flows), (16, 24), "taking a flow makes room for another");
}

#[test]
fn evicts_flows_that_are_being_read_last() {
    let mut names = small();
    begin(&mut names, 1, 50);
    let query = DnsBuilder::query(1, "app.example", 1).bytes();
    (100..140).for_each(|port| names.observe(&sent(flow(UDP, port, 7, 53), &query)));
    assert!(names.flow(&flow(TCP, 1, 7, 443)).is_some(), "older than all others, but it waits for more bytes");
    assert!(names.flow(&flow(UDP, 124, 7, 53)).is_none() && names.flow(&flow(UDP, 125, 7, 53)).is_some());
}

#[test]
fn limits_lookups_addresses_and_pending_queries() {
    let mut names = small();
    for n in 0..20u8 {
        let name = format!("n{n}.example");
        let message = DnsBuilder::response(1, 0, &name, 1).answer(&name, 1, &[203, 0, 113, n]).bytes();
        names.observe(&received(udp(53, 53), &message));
        names.observe(&sent(udp(53, 53), &DnsBuilder::query(n.into(), &name, 1).bytes()));
    }
    assert_eq!((names.lookups().len(), names.addresses().count()), (8, 8));
    let lost = names.lost();
    assert_eq!((lost.lookups, lost.addresses, lost.pending), (24, 12, 16));
    assert!(names.address(v4(0)).is_empty() && !names.address(v4(19)).is_empty(), "the oldest were evicted");
}

/// Few entries, with names of the maximum length.
#[test]
fn limits_the_size_of_text() {
    const BYTES: usize = 20_000;
    let limits = NameLimits { table_bytes: BYTES, ..NameLimits::default() };
    let mut names = Names::new(limits, Hosts::default());
    for n in 0..60u8 {
        let name = format!("{}.{}.{n}", "\u{1}".repeat(60), "\u{2}".repeat(60));
        let message = DnsBuilder::response(1, 0, &name, 1).answer(&name, 1, &[203, 0, 113, n]).bytes();
        names.observe(&received(udp(53, 53), &message));
        let hello = HelloBuilder::named(&"\u{3}".repeat(250)).records(16_384);
        names.observe(&segment(sent(tcp(n, 443), &hello), 1, 0));
    }
    let addresses: usize = names.addresses().flat_map(|(_, named)| named).map(|named| named.name.memory()).sum();
    let flows: usize = names.flows().flat_map(|(_, facts)| &facts.names).map(|named| named.name.memory()).sum();
    let lookups: usize = names.lookups().iter().map(|lookup| lookup.question.name.memory()).sum();
    assert!(addresses <= BYTES && flows <= BYTES && lookups <= BYTES, "{addresses} {flows} {lookups}");
    let lost = names.lost();
    assert!(lost.addresses > 0 && lost.flows > 0 && lost.lookups > 0, "{lost:?}");
}

#[test]
fn limits_names_per_address_and_per_flow() {
    let mut names = small();
    for n in 0..40 {
        let name = format!("n{n}.example");
        let message = DnsBuilder::response(1, 0, &name, 1).answer(&name, 1, &[203, 0, 113, 7]).bytes();
        names.observe(&received(udp(53, 53), &message));
    }
    assert_eq!((names.address(v4(7)).len(), names.lost().names), (32, 8));
    assert_eq!(names.looked_up(v4(7), u64::MAX).unwrap().name.as_str(), "n39.example");
    let mut conversation = Conversation::new(tcp(7, 80));
    for n in 0..20 {
        conversation = conversation.client(format!("GET / HTTP/1.1\r\nHost: n{n}.example\r\n\r\n").as_bytes());
    }
    assert_eq!((conversation.facts().names.len(), conversation.facts().names_left_out), (FlowFacts::MAX_NAMES, 4));
}

#[test]
fn taking_a_flow_removes_it() {
    let mut names = small();
    begin(&mut names, 1, 300);
    let facts = names.take(&flow(TCP, 1, 7, 443)).unwrap();
    assert_eq!(facts.names[0].name, "app.example");
    assert_eq!((names.flows().count(), names.waiting_bytes()), (0, 0));
    assert_eq!(names.take(&flow(TCP, 1, 7, 443)), None);
}

#[test]
fn ignores_samples_that_contradict_their_key() {
    let mut names = small();
    names.observe(&sent(tcp(7, 443), b"no segment"));
    names.observe(&segment(sent(udp(7, 443), b"a segment"), 1, 0));
    let mut icmp = udp(7, 0);
    icmp.protocol = 1;
    names.observe(&sent(icmp, b"ping"));
    assert!(names.flows().all(|(_, facts)| *facts == FlowFacts::default()));
}

/// Names with characters that control terminals.
#[test]
fn hostile_names_are_escaped() {
    let hostile = "\u{1b}[2J\u{202e}a\n";
    let mut names = small();
    names.observe(&segment(sent(tcp(7, 443), &HelloBuilder::named(hostile).records(16_384)), 1, 0));
    names.observe(&segment(sent(tcp(8, 80), b"GET /\x1b[0m HTTP/1.1\r\nHost: \xff\x07\r\n\r\n"), 1, 0));
    let query = [&DnsBuilder::new(1, 0x0100).bytes()[..], b"\x05a\x1b.\x00b\x00\x00\x01\x00\x01"].concat();
    let mut query = query;
    query[5] = 1;
    names.observe(&sent(udp(53, 53), &query));
    let names_of_flows = names.flows().flat_map(|(_, facts)| facts.names.iter().map(|named| named.name.to_string()));
    let targets = names.flows().filter_map(|(_, facts)| facts.request.as_ref().map(|request| request.target.clone()));
    let names_of_lookups = names.lookups().iter().map(|lookup| lookup.question.name.to_string());
    let all: Vec<String> = names_of_flows.chain(targets).chain(names_of_lookups).collect();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all.iter().all(|text| text.chars().all(|c| c.is_ascii_graphic())), "{all:?}");
}

proptest! {
    /// Random samples of random flows, some of which begin like a known protocol.
    #[test]
    fn never_panics_and_stays_within_the_limits(samples in prop::collection::vec(random_sample(), 0..120)) {
        let mut names = small();
        for (time_ns, remote, port, protocol, egress, sequence, flags, payload, cut) in samples {
            let key = flow(protocol, 40_000, remote, port);
            let direction = if egress { Direction::Egress } else { Direction::Ingress };
            let mut sample = at(time_ns, sample(key, direction, &payload));
            sample.payload_len += cut;
            if protocol == TCP {
                sample = segment(sample, sequence, flags);
            }
            names.observe(&sample);
            prop_assert!(names.waiting_bytes() <= SMALL.waiting_bytes);
            prop_assert!(names.flows().count() <= SMALL.flows && names.addresses().count() <= SMALL.addresses);
            prop_assert!(names.lookups().len() <= SMALL.lookups);
        }
        names.finish();
        prop_assert_eq!(names.waiting_bytes(), 0);
    }
}

type RandomSample = (u64, u8, u16, u8, bool, u32, u8, Vec<u8>, u32);

fn random_sample() -> impl Strategy<Value = RandomSample> {
    let beginnings: Vec<Vec<u8>> = vec![
        vec![],
        HelloBuilder::named("app.example").records(200),
        b"GET / HTTP/1.1\r\nHost: app.example\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        DnsBuilder::query(1, "app.example", 1).framed(),
        DnsBuilder::query(1, "app.example", 1).bytes(),
        b"220 mail.example ESMTP\r\n".to_vec(),
        vec![0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x40, 0x20],
        vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1, 0, 0, 100],
    ];
    let payload = (prop::sample::select(beginnings), prop::collection::vec(any::<u8>(), 0..60), 0usize..300).prop_map(
        |(mut beginning, noise, end)| {
            beginning.extend(noise);
            beginning.truncate(end);
            beginning
        },
    );
    let ports = prop::sample::select(vec![53u16, 80, 443, 5353, 4789, 9]);
    let protocol = prop::sample::select(vec![TCP, TCP, UDP]);
    let sequence = prop_oneof![0u32..700, any::<u32>()];
    let flags = prop_oneof![Just(0u8), Just(0), any::<u8>()];
    (0u64..1000, 0u8..20, ports, protocol, any::<bool>(), sequence, flags, payload, 0u32..2)
}
