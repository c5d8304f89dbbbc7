//! Tests of the host meter with handmade frames. `meter/kernel/tests` compare it with the
//! classifier.

mod payload;

use netwatch_common::parse::LinkType;

use super::*;
use crate::flow::{self, IcmpError};
use crate::flow::{Counters, DEFAULT_IDLE_TIMEOUT, Direction, PerDirection, TransportAddress};

const SECOND_NS: u64 = 1_000_000_000;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 0x10;

/// IPv4 without a link layer, between hosts in 198.51.100.0/24.
fn ipv4(protocol: u8, from: u8, to: u8, rest: &[u8]) -> Vec<u8> {
    let total = (20 + rest.len() as u16).to_be_bytes();
    let fixed = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
    [&fixed[..], &[198, 51, 100, from], &[198, 51, 100, to], rest].concat()
}

fn udp(from: (u8, u16), to: (u8, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    let header = [from.1.to_be_bytes(), to.1.to_be_bytes(), length, [0, 0]].concat();
    ipv4(17, from.0, to.0, &[&header[..], payload].concat())
}

fn tcp(from: (u8, u16), to: (u8, u16), flags: u8) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    ipv4(6, from.0, to.0, &[&ports[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]].concat())
}

fn raw(bytes: &[u8]) -> Linked<'_> {
    Linked { captured: Captured::whole(bytes), link: LinkType::Ip }
}

struct Counting {
    host: HostMeter,
    /// Packets and bytes that were counted.
    handed_in: (u64, u64),
    handed_over: Vec<Increment>,
}

impl Counting {
    fn new(max_flows: usize) -> Self {
        Self { host: HostMeter::new(max_flows, DEFAULT_IDLE_TIMEOUT), handed_in: (0, 0), handed_over: Vec::new() }
    }

    fn count(&mut self, frame: &[u8], now_ns: u64) {
        let sink = &mut |increment| self.handed_over.push(increment);
        self.host.count(&raw(frame), |_| Hook::Loopback, now_ns, sink);
        self.handed_in.0 += 1;
        self.handed_in.1 += frame.len() as u64;
    }

    /// All increments; their sum must equal what was counted.
    fn all(mut self) -> Vec<Increment> {
        let handed_over = &mut self.handed_over;
        self.host.drain(&mut |increment| handed_over.push(increment));
        let sum = sum(&self.handed_over);
        assert_eq!((sum.skbs, sum.bytes), self.handed_in, "handed over and counted");
        self.handed_over
    }
}

fn flow(increment: &Increment) -> FlowKey {
    match increment.traffic {
        Traffic::Flow(key) => key,
        other => panic!("{other:?} is not a flow"),
    }
}

fn sum(increments: &[Increment]) -> Counters {
    increments.iter().map(|one| one.counters).sum::<PerDirection<Counters>>().both()
}

#[test]
fn the_opener_is_local_even_if_its_syn_is_missing() {
    let mut counting = Counting::new(16);
    counting.count(&tcp((9, 443), (200, 40_000), SYN | ACK), 1);
    counting.count(&tcp((200, 40_000), (9, 443), ACK), 2);
    counting.count(&udp((7, 53), (3, 5353), b"answer"), 3);
    let all = counting.all();
    let of = |protocol: u8| *all.iter().find(|one| flow(one).protocol == protocol).expect("the flow");
    let (tcp, udp) = (flow(&of(6)), flow(&of(17)));
    assert_eq!((tcp.local.port, tcp.remote.port), (40_000, 443));
    assert_eq!((of(6).counters.egress.packets, of(6).counters.ingress.packets), (1, 1));
    assert_eq!(
        udp.local,
        TransportAddress { addr: [198, 51, 100, 7].into(), port: 53 },
        "the sender of the first packet"
    );
    assert!(all.iter().all(|one| one.opened_by == Direction::Egress));
}

/// Time 0 is valid here; in the kernel's tables it marks a new entry.
#[test]
fn a_capture_can_start_at_the_unix_epoch() {
    let mut counting = Counting::new(16);
    counting.count(&udp((7, 1000), (3, 53), b"query"), 0);
    counting.count(&udp((3, 53), (7, 1000), b"answer"), 0);
    let [one] = counting.all()[..] else { panic!("one flow") };
    assert_eq!((flow(&one).local.port, one.first_seen_ns, one.last_seen_ns), (1000, 0, 0));
}

#[test]
fn packets_can_be_out_of_order() {
    let mut counting = Counting::new(16);
    [5, 9, 2, 7].into_iter().for_each(|now| counting.count(&udp((7, 1000), (3, 53), b""), now));
    let [one] = counting.all()[..] else { panic!("one flow") };
    assert_eq!((one.first_seen_ns, one.last_seen_ns), (2, 9));
}

#[test]
fn a_full_table_counts_further_flows_by_protocol() {
    let mut counting = Counting::new(4);
    (0..10).for_each(|port| counting.count(&udp((7, 1000 + port), (3, 53), b"x"), SECOND_NS));
    assert_eq!(counting.host.lost().table_full, 6);
    let all = counting.all();
    let overflow = all.iter().find(|one| one.traffic == Traffic::Overflow(17)).expect("an overflow");
    assert_eq!((overflow.counters.both().packets, all.len()), (6, 5));
    assert_eq!((sum(&all).packets, sum(&all).bytes), (10, 290));
}

#[test]
fn idle_flows_make_room_and_their_counts_are_handed_over() {
    let mut counting = Counting::new(4);
    for round in 0..8_u16 {
        // Four new flows per round, long after those of the previous round.
        let now = u64::from(round) * (FULL_TABLE_TIMEOUT_NS + SECOND_NS);
        (0..4).for_each(|port| counting.count(&udp((7, 1000 + 4 * round + port), (3, 53), b"x"), now));
        assert!(counting.host.flows.len() <= 4);
    }
    assert_eq!(counting.host.lost(), ObservationLosses::default());
    let all = counting.all();
    assert_eq!((all.len(), sum(&all).packets), (32, 32), "each flow is handed over on its own");
}

#[test]
fn increments_of_removed_entries_give_the_reason() {
    let mut counting = Counting::new(2);
    counting.count(&udp((7, 1000), (3, 53), b"x"), 0);
    counting.count(&tcp((7, 1001), (3, 80), RST), 0);
    counting.count(&udp((7, 1002), (3, 53), b"x"), FULL_TABLE_TIMEOUT_NS);
    let all = counting.all();
    let ended = |port: u16| all.iter().find(|one| flow(one).local.port == port).expect("the flow").ended;
    assert_eq!(ended(1000), Some(EndReason::IdleTimeout));
    assert_eq!(ended(1001), Some(EndReason::EndOfFlow));
    assert_eq!(ended(1002), None, "the final drain ends no flow");
}

#[test]
fn a_frame_truncated_within_its_headers_is_counted_as_unreadable() {
    let mut host = HostMeter::new(4, DEFAULT_IDLE_TIMEOUT);
    let frame = udp((7, 1000), (3, 53), b"query");
    let cut = Linked { captured: Captured { bytes: &frame[..12], orig_len: frame.len() as u32 }, link: LinkType::Ip };
    host.count(&cut, |_| Hook::Loopback, 1, &mut |_| {});
    assert_eq!(host.lost().unreadable, 1);
    let mut all = Vec::new();
    host.drain(&mut |increment| all.push(increment));
    assert_eq!(all[0].traffic, Traffic::Malformed(flow::Malformed::IpTruncated));
    assert_eq!(all[0].counters.egress.bytes, frame.len() as u64, "the original length");
}

#[test]
fn counted_frames_give_payload_and_icmp_errors() {
    let mut host = HostMeter::new(4, DEFAULT_IDLE_TIMEOUT);
    let query = udp((7, 1000), (3, 53), b"query");
    let padded = [&query[..], &[0; 9]].concat();
    let seen = host.count(&raw(&padded), |_| Hook::Loopback, 1, &mut |_| {});
    let counted = CountedFrame { seen: &seen, frame: &raw(&padded) };
    assert_eq!((counted.payload(), counted.icmp_error(1)), (&b"query"[..], None));
    let error = ipv4(1, 3, 7, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &query].concat());
    let seen = host.count(&raw(&error), |_| Hook::Loopback, 2, &mut |_| {});
    let QuotedError { flow: key, error, by_target, .. } =
        CountedFrame { seen: &seen, frame: &raw(&error) }.icmp_error(2).expect("an error");
    assert_eq!((key.local.port, key.remote.port, error), (1000, 53, IcmpError { kind: 3, code: 3 }));
    assert!(!by_target);
}
