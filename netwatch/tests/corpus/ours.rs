//! netwatch's counts in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::AddAssign;
use std::time::Duration;

use netwatch::capture::{Capture, CapturedFrame};
use netwatch::flow::{self, Counters, Flow, Malformed, PerDirection, RemainderKind, Remainders, Traffic};
use netwatch::meter::host::{CountedFrame, HostMeter};
use netwatch::replay::ReplayObserver;
use netwatch::report::Report;
use netwatch::session::{Observed, Session, SessionConfig};
use netwatch_common::address::Address;
use netwatch_common::flow::kind;
use netwatch_common::parse::Hook;

type End = (IpAddr, u16);

/// A five-tuple; `one` is the lower end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub protocol: u8,
    pub one: End,
    pub other: End,
}

/// Protocol and addresses.
pub type Pair = (u8, IpAddr, IpAddr);

/// Packets and bytes from the lower end to the higher, and back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    pub there: (u64, u64),
    pub back: (u64, u64),
}

impl AddAssign for Sums {
    fn add_assign(&mut self, more: Self) {
        let add = |sum: &mut (u64, u64), more: (u64, u64)| *sum = (sum.0 + more.0, sum.1 + more.1);
        add(&mut self.there, more.there);
        add(&mut self.back, more.back);
    }
}

impl Key {
    /// Sorted with the lower end first. Between equal ends there is only one direction.
    pub fn sorted(self, sums: Sums) -> (Self, Sums) {
        let Sums { there, back } = sums;
        if self.one == self.other {
            let there = (there.0 + back.0, there.1 + back.1);
            return (self, Sums { there, back: (0, 0) });
        }
        if self.one < self.other {
            return (self, sums);
        }
        (Self { one: self.other, other: self.one, ..self }, Sums { there: back, back: there })
    }

    pub fn pair(&self) -> Pair {
        (self.protocol, self.one.0, self.other.0)
    }

    pub fn has_ports(&self) -> bool {
        (self.one.1, self.other.1) != (0, 0)
    }
}

/// Every flow of a report.
pub fn flows(report: &Report) -> BTreeMap<Key, Sums> {
    let amount = |counters: Counters| (counters.packets, counters.bytes);
    let mut flows = BTreeMap::new();
    for Flow { key, counters, .. } in report.flows.iter().map(|known| &known.flow) {
        let ends = Key {
            protocol: key.protocol,
            one: (key.local.addr, key.local.port),
            other: (key.remote.addr, key.remote.port),
        };
        let sums = Sums { there: amount(counters.egress), back: amount(counters.ingress) };
        let (ends, sums) = ends.sorted(sums);
        *flows.entry(ends).or_insert_with(Sums::default) += sums;
    }
    flows
}

/// Frames without an IP header: of other protocols, or truncated before it.
pub fn not_ip(report: &Report) -> u64 {
    let kinds = [RemainderKind::NonIp, RemainderKind::Arp];
    let named: u64 = kinds.iter().map(|kind| report.remainders.of(*kind).both().packets).sum();
    named + unreadable(report, |reason| reason == Malformed::Ethernet).packets
}

/// Packets and bytes of malformed IP.
pub fn malformed(report: &Report) -> (u64, u64) {
    let counters = unreadable(report, |reason| reason != Malformed::Ethernet);
    (counters.packets, counters.bytes)
}

fn unreadable(report: &Report, choose: impl Fn(Malformed) -> bool) -> Counters {
    let chosen = report.remainders.details().filter(|(traffic, _)| match traffic {
        Traffic::Malformed(reason) => choose(*reason),
        _ => false,
    });
    chosen.map(|(_, counters)| *counters).sum::<PerDirection<Counters>>().both()
}

/// Flows by key, and link housekeeping, whose addresses netwatch does not store.
pub type Addressed = BTreeMap<Key, Sums>;

/// Collects the addresses of link housekeeping.
#[derive(Debug, Default)]
pub struct Housekeeping(pub Addressed);

impl ReplayObserver for Housekeeping {
    fn counted(&mut self, counted: &CountedFrame<'_>) {
        let packet = &counted.seen.packet;
        if packet.kind != kind::HOUSEKEEPING
            || packet.source == Address::default() && packet.destination == Address::default()
        {
            return;
        }
        let address = |address: &Address| {
            let v6 = Ipv6Addr::from(address.bytes());
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        };
        let (one, other) = (address(&packet.source), address(&packet.destination));
        let protocol = if one.is_ipv4() { flow::Protocol(2) } else { flow::Protocol::ICMPV6 }.0;
        let key = Key { protocol, one: (one, 0), other: (other, 0) };
        let (key, sums) = key.sorted(Sums { there: (1, counted.seen.size.bytes), back: (0, 0) });
        *self.0.entry(key).or_default() += sums;
    }
}

/// Splits flows into those between such pairs and all others.
pub fn split(flows: &BTreeMap<Key, Sums>, pairs: &BTreeSet<Pair>) -> (BTreeMap<Key, Sums>, BTreeMap<Key, Sums>) {
    flows.iter().map(|(key, sums)| (*key, *sums)).partition(|(key, _)| pairs.contains(&key.pair()))
}

/// Sums by protocol and addresses.
pub fn without_ports(flows: &BTreeMap<Key, Sums>) -> BTreeMap<Pair, Sums> {
    let mut pairs = BTreeMap::new();
    for (key, sums) in flows {
        // The order of the ends may depend on the ports.
        let bare = Key { one: (key.one.0, 0), other: (key.other.0, 0), ..*key };
        let (bare, sums) = bare.sorted(*sums);
        *pairs.entry(bare.pair()).or_insert_with(Sums::default) += sums;
    }
    pairs
}

/// Entries that differ between the two.
pub fn unequal<K: Ord + Debug, V: PartialEq + Debug>(ours: &BTreeMap<K, V>, theirs: &BTreeMap<K, V>) -> Vec<String> {
    let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    let differs = |key: &K| {
        let (ours, theirs) = (ours.get(key), theirs.get(key));
        (ours != theirs).then(|| format!("{key:?}: {ours:?}, expected {theirs:?}"))
    };
    keys.into_iter().filter_map(differs).collect()
}

/// Frames that could not be passed to the kernel, by their position in the file.
#[derive(Debug, Default)]
pub struct LeftOut {
    offsets: BTreeSet<u64>,
    number: u64,
    /// Complete frames: link type and first bytes.
    pub whole: Vec<(u16, Vec<u8>)>,
}

impl LeftOut {
    pub fn frames(&self) -> u64 {
        self.number
    }

    pub fn absorb(&mut self, other: Self) {
        self.number += other.number;
        self.whole.extend(other.whole);
    }
}

impl ReplayObserver for LeftOut {
    fn left_out(&mut self, frame: &CapturedFrame<'_>) {
        self.offsets.insert(frame.offset);
        self.number += 1;
        if !frame.is_cut() && !is_longer_than_it_is(frame) {
            self.whole.push((frame.link_number, frame.bytes[..frame.bytes.len().min(40)].to_vec()));
        }
    }
}

/// Whether the length in the packet exceeds that of the frame.
fn is_longer_than_it_is(frame: &CapturedFrame<'_>) -> bool {
    let seen = netwatch::meter::host::FrameReader::default().read(&frame.linked(), |_| Hook::Loopback, 0);
    netwatch::meter::host::is_truncated(&frame.linked(), &seen.packet)
}

/// Replays the file in user space without the frames that the kernel did not get.
pub fn host_without(capture: &mut Capture, left_out: &LeftOut) -> BTreeMap<String, String> {
    let mut session = Session::new(netwatch::session::CaptureScope::default(), SessionConfig::default());
    // No time passes in a replay through the kernel.
    let mut host = HostMeter::new(131_072, Duration::MAX);
    let counted = capture.each(|frame| {
        if !left_out.offsets.contains(&frame.offset) {
            let linked = frame.linked();
            let sink = &mut |one| session.apply(one);
            let seen = host.count(&linked, |_| Hook::Loopback, frame.time_ns, sink);
            if let Some(quoted) = (CountedFrame { seen: &seen, frame: &linked }).icmp_error(frame.time_ns) {
                session.observe(Observed::IcmpError(quoted));
            }
        }
        Ok(())
    });
    counted.expect("counted");
    host.drain(&mut |one| session.apply(one));
    let report = session.conclude(0, None, None);
    comparable(report.flows.iter().map(|known| &known.flow), &report.remainders)
}

/// All counts except times, as text by name.
pub fn comparable<'a>(flows: impl Iterator<Item = &'a Flow>, remainders: &Remainders) -> BTreeMap<String, String> {
    let flows = flows.map(|flow| {
        let tcp = flow.tcp.map(|facts| (facts.flags, facts.syns, facts.syn_acks, facts.resets));
        let about = (flow.counters, flow.opened_by, flow.connections, tcp, flow.icmp_error);
        (format!("{:?}", flow.id()), format!("{about:?}"))
    });
    let remainders = remainders.details().map(|(traffic, counters)| (format!("{traffic:?}"), format!("{counters:?}")));
    flows.chain(remainders).collect()
}
