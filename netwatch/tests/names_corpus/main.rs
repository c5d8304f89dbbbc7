//! Compares the names that netwatch finds in third-party captures with those of tshark and nDPI.
//! The captures (../shared/corpus) are not part of the repository.

mod capture;
mod expected;
mod ja4;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;

use capture::{Budget, Payload};
use expected::{EXTRAS, Expected, LISTS, MISSES, NdpiFlow, listed};
use netwatch::flow::{FlowKey, TransportAddress};
use netwatch::name::{FlowFacts, Hosts, NameLimits, Names};
use netwatch::wire::Application;

/// Minimum share of names that are found, in thousandths.
const MIN_FOUND: usize = 995;

/// What the classifier samples of a flow.
const LIVE: Budget = Budget::Live { packets: 256, bytes: 8 << 10, snaplen: 4096 };

/// `None` if the corpus is missing; prints that.
fn corpus() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let folder = std::env::var_os("NETWATCH_CORPUS").map_or(beside, PathBuf::from);
    let is_there = folder.join("expected.jsonl").is_file();
    if !is_there {
        println!("skipped: no corpus of captures at {} (set NETWATCH_CORPUS to its folder)", folder.display());
    }
    is_there.then_some(folder)
}

/// The result of netwatch for a file.
struct NetwatchResult {
    names: Names,
    /// Flows by their ends, local first, in the notation of nDPI.
    flows: HashMap<[String; 2], FlowKey>,
}

impl NetwatchResult {
    fn new(payloads: &[Payload], limits: NameLimits, budget: Budget) -> Self {
        let mut names = Names::new(limits, Hosts::default());
        capture::feed(payloads, budget, &mut names);
        let flows = names.flows().map(|(flow, _)| (ends(flow), *flow)).collect();
        Self { names, flows }
    }

    /// Source and name of each flow and lookup.
    fn all(&self) -> BTreeSet<(&'static str, String)> {
        let of_flows = self.names.flows().flat_map(|(_, facts)| &facts.names);
        let of_flows = of_flows.map(|named| (named.source.name(), named.name.to_string()));
        let of_lookups = self.names.lookups().iter().map(|lookup| ("dns", lookup.question.name.to_string()));
        of_flows.chain(of_lookups).collect()
    }

    fn flow(&self, flow: &NdpiFlow) -> Option<&FlowFacts> {
        let [a, b] = &flow.ends;
        let key = self.flows.get(&[a.clone(), b.clone()]).or_else(|| self.flows.get(&[b.clone(), a.clone()]))?;
        self.names.flow(key)
    }

    /// Whether the flow contains this name. Names of a DNS flow are those of its lookups.
    fn has_name(&self, flow: &NdpiFlow, name: &str) -> bool {
        let is_looked_up = || self.names.lookups().iter().any(|lookup| lookup.question.name == name);
        self.flow(flow).is_some_and(|facts| {
            let is_dns = facts.application() == Some(Application::Dns);
            facts.names.iter().any(|named| named.name == name) || (is_dns && is_looked_up())
        })
    }
}

/// The ends in the notation of nDPI.
fn ends(flow: &FlowKey) -> [String; 2] {
    let text = |end: TransportAddress| match SocketAddr::from((end.addr, end.port)) {
        SocketAddr::V4(v4) => v4.to_string(),
        SocketAddr::V6(v6) => format!("[{}]:{}", ndpi_v6(v6.ip().segments()), v6.port()),
    };
    [text(flow.local), text(flow.remote)]
}

/// nDPI omits every group of zeros.
fn ndpi_v6(segments: [u16; 8]) -> String {
    std::net::Ipv6Addr::from(segments).to_string().replace(":0:", "::")
}

#[derive(Default)]
struct NameCount {
    expected: usize,
    found: usize,
}

#[derive(Default)]
struct Tally {
    by_source: BTreeMap<String, NameCount>,
    union: NameCount,
    missed: Vec<(String, String)>,
    wrong: Vec<(String, String)>,
}

impl Tally {
    fn count(&mut self, source: String, is_found: bool) {
        let count = self.by_source.entry(source).or_default();
        count.expected += 1;
        count.found += usize::from(is_found);
    }

    fn add(&mut self, want: &Expected, found: &NetwatchResult) {
        let all = found.all();
        for (source, name) in &want.names {
            self.count(format!("tshark {source}"), all.contains(&(source, name.clone())));
        }
        for flow in want.flows.iter().filter(|flow| flow.is_named()) {
            let name = flow.name.as_deref().unwrap();
            if !want.is_rewritten(name) {
                self.count(format!("nDPI {}", flow.application), found.has_name(flow, name));
            }
        }
        let names: BTreeSet<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        let union = want.union();
        self.union.expected += union.len();
        self.union.found += union.iter().filter(|name| names.contains(name.as_str())).count();
        let missed = union.iter().filter(|name| !names.contains(name.as_str()));
        self.missed.extend(missed.map(|name| (want.file.clone(), name.clone())));
        let multicast = multicast(found);
        let is_explained =
            |name: &str| union.contains(name) || multicast.contains(name) || listed(&EXTRAS, &want.file, name);
        let wrong = names.into_iter().filter(|name| !is_explained(name));
        self.wrong.extend(wrong.map(|name| (want.file.clone(), name.to_owned())));
    }

    fn print(&self) {
        println!("{:<14} {:>8} {:>8}", "source", "expected", "found");
        for (source, count) in &self.by_source {
            println!("{source:<14} {:>8} {:>8}", count.expected, count.found);
        }
        println!("{:<14} {:>8} {:>8}", "total", self.union.expected, self.union.found);
    }

    fn thousandths(&self) -> usize {
        self.union.found * 1000 / self.union.expected
    }
}

/// Names of multicast lookups. Neither tool lists questions after the first one of a message, nor
/// most of LLMNR.
fn multicast(found: &NetwatchResult) -> BTreeSet<&str> {
    let lookups = found.names.lookups().iter().filter(|lookup| lookup.application != Application::Dns);
    lookups.map(|lookup| lookup.question.name.as_str()).collect()
}

#[test]
fn finds_the_names_that_other_tools_find() {
    let Some(corpus) = corpus() else { return };
    let mut tally = Tally::default();
    for want in Expected::load(&corpus) {
        let payloads = capture::payloads(&corpus.join("pcap").join(&want.file));
        tally.add(&want, &NetwatchResult::new(&payloads, NameLimits::replay(), Budget::All));
    }
    tally.print();
    assert!(tally.union.expected > 800 && LISTS.len() == 4, "{} names are expected", tally.union.expected);
    assert_eq!(tally.wrong, [], "wrong names");
    let listed: BTreeSet<(String, String)> =
        MISSES.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(tally.missed.iter().cloned().collect::<BTreeSet<_>>(), listed, "every miss is listed with its reason");
    assert!(tally.thousandths() >= MIN_FOUND, "{} of {}", tally.union.found, tally.union.expected);
}

/// With no more than the classifier samples.
#[test]
fn finds_nearly_all_names_in_samples() {
    let Some(corpus) = corpus() else { return };
    let mut tally = Tally::default();
    for want in Expected::load(&corpus) {
        let payloads = capture::payloads(&corpus.join("pcap").join(&want.file));
        tally.add(&want, &NetwatchResult::new(&payloads, NameLimits::default(), LIVE));
    }
    tally.print();
    assert_eq!(tally.wrong, [], "wrong names");
    assert!(tally.thousandths() >= 970, "{} of {}: {:?}", tally.union.found, tally.union.expected, tally.missed);
}

#[test]
fn fingerprints_equal_those_of_ndpi() {
    let Some(corpus) = corpus() else { return };
    let (mut compared, mut exact, mut different) = (0, 0, Vec::new());
    for want in Expected::load(&corpus) {
        let payloads = capture::payloads(&corpus.join("pcap").join(&want.file));
        let found = NetwatchResult::new(&payloads, NameLimits::replay(), Budget::All);
        for (flow, theirs) in want.flows.iter().filter_map(|flow| flow.ja4.as_ref().map(|ja4| (flow, ja4))) {
            let hello = found.flow(flow).and_then(|facts| facts.hello.as_ref());
            let ours = hello.and_then(|hello| hello.ja4.as_ref()).map(ToString::to_string).unwrap_or_default();
            compared += 1;
            exact += usize::from(ours == *theirs);
            if ours != ja4::corrected(theirs, &ours) && !listed(&ja4::EXCEPTIONS, &want.file, theirs) {
                different.push(format!("{} {:?}: nDPI {theirs}, netwatch {ours}", want.file, flow.ends));
            }
        }
    }
    println!(
        "{compared} fingerprints compared, {exact} identical, the others differ where nDPI deviates from the specification"
    );
    assert!(compared > 450);
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Random changes, cuts and repetitions cause no panic, and memory stays within the limits.
#[test]
fn tolerates_damaged_packets() {
    let Some(corpus) = corpus() else { return };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for want in Expected::load(&corpus) {
        let payloads = capture::payloads(&corpus.join("pcap").join(&want.file));
        let damaged: Vec<Payload> = payloads.iter().map(|payload| damage(payload, &mut random)).collect();
        let limits = NameLimits {
            direction_bytes: 2048,
            waiting_bytes: 1 << 16,
            open_flows: 64,
            flows: 256,
            addresses: 64,
            lookups: 64,
            pending: 64,
            table_bytes: 1 << 18,
        };
        let found = NetwatchResult::new(&damaged, limits, Budget::All);
        assert_eq!(found.names.waiting_bytes(), 0, "no bytes are buffered at the end");
        assert!(
            found.names.flows().count() <= 256
                && found.names.addresses().count() <= 64
                && found.names.lookups().len() <= 64
        );
    }
}

fn damage(payload: &Payload, random: &mut u64) -> Payload {
    let mut next = || {
        // Marsaglia's xorshift.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random as usize
    };
    let mut bytes = payload.bytes.clone();
    for _ in 0..next() % 4 {
        if !bytes.is_empty() {
            let at = next() % bytes.len().min(512);
            bytes[at] = next() as u8;
        }
    }
    if next() % 4 == 0 {
        bytes.truncate(next() % (bytes.len() + 1));
    }
    payload.with(bytes)
}
