//! A made-up run that needs everything there is: names, both families, resolvers, groups, servers,
//! failures, and names that attack.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netwatch::flow::{Direction, FlowKey, FlowTable, IcmpError, Increment, QuotedError, Traffic};
use netwatch::name::{Lookup, NameSource, ResponseTimes, SourcedName};
use netwatch::report::{DisplayName, FlowNaming, Report};
use netwatch::wire::dns::{Question, Rcode, RecordType};
use netwatch::wire::{Application, Name};

use super::{START_NS, facts, failed, growth, housekeeping, key, report, table, tcp};

/// Words that would break out of a comment, a quoted string, a line, a here-document or a document.
pub const ATTACKS: [&str; 7] = [
    "x\"; drop; # ",
    "a\naccept\nIPV4\n",
    "$(reboot)`reboot`'; reboot; '",
    "--> */ }} {{ <script>",
    "- {cidr: 0.0.0.0/0}\u{2028}",
    "\\\" counter accept comment \\\"",
    // Longer, once it is harmless, than nft takes.
    "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"",
];

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An address, and the name of flows to it.
pub struct NamedAddress {
    pub address: &'static str,
    pub name: &'static str,
    pub source: NameSource,
}

/// Gives the flows and endpoints to these addresses their names, as `Names` would have.
pub fn add_names(report: &mut Report, named: &[NamedAddress]) {
    for NamedAddress { address: to, name: called, source } in named {
        let (to, name) = (address(to), name(called));
        let display_name = Some(DisplayName { name: name.clone(), source: *source });
        let named = SourcedName { name: name.clone(), source: *source, question: None, first_seen_ns: START_NS };
        for flow in report.flows.iter_mut().filter(|flow| flow.flow.key.remote.addr == to) {
            flow.naming = Some(Box::new(FlowNaming { display_name: display_name.clone(), ..FlowNaming::default() }));
        }
        let is_there = |remote| matches!(remote, netwatch::flow::Remote::Address(address) if address == to);
        for endpoint in report.endpoints.iter_mut().filter(|endpoint| is_there(endpoint.endpoint.key.remote)) {
            endpoint.display_name = display_name.clone();
            endpoint.names.push(named.clone());
        }
        if *source == NameSource::Dns {
            report.naming.lookups.push(lookup(name, vec![to]));
        }
    }
}

/// A question that was answered with these addresses.
pub fn lookup(name: Name, addresses: Vec<IpAddr>) -> Lookup {
    Lookup {
        question: Question { name, kind: RecordType::A },
        application: Application::Dns,
        queried_by: Direction::Egress,
        queries: 1,
        repeats: Default::default(),
        responses: 1,
        outcomes: BTreeMap::from([(Rcode::NOERROR, 1)]),
        truncated: 0,
        response_times: ResponseTimes::default(),
        first_seen_ns: START_NS,
        addresses,
        aliases: vec![],
    }
}

fn open(address_: &str, protocol: u8, port: u16) -> Increment {
    let key = key(protocol, 40_000, address(address_), port);
    if protocol == 6 { tcp(key, 1_000_000, (4, 400), (3, 300)) } else { growth(Traffic::Flow(key), (1, 90), (1, 90)) }
}

/// A client that came to a port of the target.
pub fn came(from: &str, protocol: u8, port: u16) -> Increment {
    let key = FlowKey { ..key(protocol, port, address(from), 51_000) };
    Increment { opened_by: Direction::Ingress, ..growth(Traffic::Flow(key), (3, 300), (4, 400)) }
}

fn everything_table() -> FlowTable {
    let mut increments = vec![
        open("203.0.113.10", 6, 443),
        open("2001:db8:1::10", 6, 443),
        open("203.0.113.10", 17, 443),
        open("203.0.113.77", 6, 5432),
        open("203.0.113.20", 6, 40_123),
        open("203.0.113.30", 1, 0),
        open("2001:db8:1::30", 58, 0),
        open("203.0.113.31", 132, 9899),
        open("203.0.113.32", 47, 0),
        open("203.0.113.33", 89, 0),
        open("224.0.0.251", 17, 5353),
        open("ff02::fb", 17, 5353),
        open("255.255.255.255", 17, 67),
        came("198.51.100.200", 6, 8080),
        came("2001:db8:2::7", 6, 8080),
        came("10.87.0.1", 6, 9090),
        came("203.0.113.254", 1, 0),
        failed(key(6, 41_000, address("203.0.113.99"), 81), 1, true),
        failed(key(6, 41_001, address("2001:db8:1::10"), 81), 3, false),
        open("10.87.0.1", 17, 53),
        open("2001:db8:87::1", 6, 53),
        open("10.87.0.1", 6, 8000),
        growth(Traffic::Flow(key(17, 41_002, address("203.0.113.98"), 9)), (3, 180), (0, 0)),
        growth(Traffic::Flow(FlowKey { fragment: true, ..key(17, 0, address("203.0.113.10"), 0) }), (1, 1500), (0, 0)),
    ];
    increments.extend(ATTACKS.iter().zip(100u8..).map(|(_, host)| open_v4(host)));
    increments.extend(housekeeping());
    let mut table = table(increments);
    table.note_icmp_error(QuotedError {
        flow: key(17, 41_002, address("203.0.113.98"), 9),
        error: IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 0,
    });
    table
}

fn open_v4(host: u8) -> Increment {
    tcp(key(6, 42_000, [203, 0, 113, host].into(), 443), 1_000_000, (4, 400), (3, 300))
}

/// The run.
pub fn everything() -> Report {
    let table = everything_table();
    let mut report = report(facts(&table, &["/usr/bin/app", "--password", "secret"]), &table);
    add_names(
        &mut report,
        &[
            NamedAddress { address: "203.0.113.10", name: "app.example", source: NameSource::Dns },
            NamedAddress { address: "2001:db8:1::10", name: "app.example", source: NameSource::Dns },
            NamedAddress { address: "203.0.113.20", name: "ftp.example.org", source: NameSource::Sni },
        ],
    );
    for (attack, host) in ATTACKS.iter().zip(100u8..) {
        let to: &'static str = Box::leak(format!("203.0.113.{host}").into_boxed_str());
        add_names(&mut report, &[NamedAddress { address: to, name: attack, source: NameSource::Dns }]);
    }
    report
}

/// A run of nothing but these connections, that worked.
pub fn connections(to: &[(&'static str, u16, Option<&'static str>)]) -> Report {
    let table = table(to.iter().map(|(address, port, _)| open(address, 6, *port)));
    let mut report = report(facts(&table, &["app"]), &table);
    let named = to
        .iter()
        .filter_map(|(address, _, name)| Some(NamedAddress { address, name: (*name)?, source: NameSource::Dns }));
    add_names(&mut report, &named.collect::<Vec<_>>());
    report
}
