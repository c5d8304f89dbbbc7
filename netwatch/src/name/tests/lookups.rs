//! DNS: lookups, response times, and names of addresses.

use super::*;
use crate::wire::dns::Rcode;
use crate::wire::testing::{DnsBuilder, dns_name, hex};

const A: u16 = 1;
const CNAME: u16 = 5;
const PTR: u16 = 12;
const SRV: u16 = 33;
const HTTPS: u16 = 65;

fn octets(n: u8) -> [u8; 4] {
    [203, 0, 113, n]
}

fn resolver() -> FlowKey {
    udp(53, 53)
}

/// A query and its response, 5 ms later.
fn exchange(names: &mut Names, time_ns: u64, query: DnsBuilder, response: DnsBuilder) {
    names.observe(&at(time_ns, sent(resolver(), &query.bytes())));
    names.observe(&at(time_ns + 5_000_000, received(resolver(), &response.bytes())));
}

fn look_up(names: &mut Names, time_ns: u64, name: &str, n: u8) {
    let response = DnsBuilder::response(1, 0, name, A).answer(name, A, &octets(n));
    exchange(names, time_ns, DnsBuilder::query(1, name, A), response);
}

#[test]
fn follows_aliases() {
    let mut names = names();
    let response = DnsBuilder::response(1, 0, "www.app.example", A)
        .answer("www.app.example", CNAME, &dns_name("edge.cdn.example"))
        .answer("edge.cdn.example", CNAME, &dns_name("e7.cdn.example"))
        .answer("e7.cdn.example", A, &octets(7))
        .additional("bank.example", A, &octets(8));
    exchange(&mut names, 1_000, DnsBuilder::query(1, "www.app.example", A), response);
    let [named] = names.address(v4(7)) else { panic!() };
    assert_eq!((named.name.as_str(), named.source), ("e7.cdn.example", NameSource::Dns));
    assert_eq!(
        (named.question.as_ref().unwrap().as_str(), named.shown().as_str()),
        ("www.app.example", "www.app.example")
    );
    assert_eq!(named.first_seen_ns, 5_001_000);
    assert!(names.address(v4(8)).is_empty(), "not reachable from the question");
    let [lookup] = names.lookups() else { panic!() };
    assert_eq!((lookup.queries, lookup.responses, lookup.failed(), lookup.unanswered()), (1, 1, 0, 0));
    assert_eq!((lookup.response_times.min_ns, lookup.response_times.mean_ns()), (5_000_000, Some(5_000_000)));
    assert_eq!(lookup.addresses, [v4(7)]);
    assert_eq!(
        lookup.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>(),
        ["edge.cdn.example", "e7.cdn.example"]
    );
    assert_eq!(names.flow(&resolver()).unwrap().application(), Some(Application::Dns));
}

#[test]
fn follows_services_and_hints() {
    let mut names = names();
    let response = DnsBuilder::response(1, 0, "_xmpp._tcp.example", SRV)
        .answer("_xmpp._tcp.example", SRV, &[&hex("0001 0002 1466")[..], &dns_name("srv.example")].concat())
        .additional("srv.example", A, &octets(7));
    exchange(&mut names, 0, DnsBuilder::query(1, "_xmpp._tcp.example", SRV), response);
    assert_eq!(names.address(v4(7))[0].name, "srv.example");
    let hint = [&hex("0001")[..], &dns_name("svc.example"), &hex("0004 0004"), &octets(8)].concat();
    let response = DnsBuilder::response(2, 0, "app.example", HTTPS).answer("app.example", HTTPS, &hint);
    exchange(&mut names, 0, DnsBuilder::query(2, "app.example", HTTPS), response);
    let named = &names.address(v4(8))[0];
    assert_eq!((named.name.as_str(), named.shown().as_str()), ("svc.example", "app.example"));
}

#[test]
fn reads_pointers() {
    let mut names = names();
    let question = "7.113.0.203.in-addr.arpa";
    let response = DnsBuilder::response(1, 0, question, PTR).answer(question, PTR, &dns_name("host.example"));
    exchange(&mut names, 0, DnsBuilder::query(1, question, PTR), response);
    let named = &names.address(v4(7))[0];
    assert_eq!((named.name.as_str(), named.source), ("host.example", NameSource::Ptr));
    assert_eq!(names.looked_up(v4(7), u64::MAX), None, "a pointer is no evidence of the name that was contacted");
    let question = format!("7.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
    let response = DnsBuilder::response(2, 0, &question, PTR).answer(&question, PTR, &dns_name("six.example"));
    exchange(&mut names, 0, DnsBuilder::query(2, &question, PTR), response);
    assert_eq!(names.address("2001:db8::7".parse().unwrap())[0].name, "six.example");
}

#[test]
fn counts_failed_and_unanswered_queries() {
    let mut names = names();
    exchange(
        &mut names,
        0,
        DnsBuilder::query(1, "missing.example", A),
        DnsBuilder::response(1, 3, "missing.example", A),
    );
    exchange(&mut names, 0, DnsBuilder::query(2, "broken.example", A), DnsBuilder::response(2, 2, "broken.example", A));
    for time_ns in [0, 1, 2] {
        names.observe(&at(time_ns, sent(resolver(), &DnsBuilder::query(3, "silent.example", A).bytes())));
    }
    // The resolver library asks again, from the same socket with the same id, and then once more.
    for id in [2, 9] {
        exchange(
            &mut names,
            0,
            DnsBuilder::query(id, "broken.example", A),
            DnsBuilder::response(id, 2, "broken.example", A),
        );
    }
    let [missing, broken, silent] = names.lookups() else { panic!() };
    assert_eq!((missing.failed(), missing.outcomes[&Rcode::NXDOMAIN]), (1, 1));
    assert_eq!((broken.failed(), broken.outcomes[&Rcode::SERVFAIL]), (3, 3));
    assert_eq!(broken.errors().collect::<Vec<_>>(), [(Rcode::SERVFAIL, 2, 3)]);
    assert_eq!((silent.queries, silent.unanswered(), silent.unanswered_lookups()), (3, 3, 1));
}

#[test]
fn a_query_without_a_response_is_in_flight_for_five_seconds() {
    let mut names = names();
    let query = || DnsBuilder::query(1, "slow.example", A);
    // A retransmission does not restart the time.
    for time_ns in [0, 4_000_000_000] {
        names.observe(&at(time_ns, sent(resolver(), &query().bytes())));
    }
    let unanswered = |names: &Names, now_ns| names.settled_lookups(now_ns)[0].unanswered();
    assert_eq!((unanswered(&names, 4_999_999_999), unanswered(&names, 5_000_000_000)), (0, 2));
    exchange(&mut names, 0, query(), DnsBuilder::response(1, 0, "slow.example", A));
    assert_eq!(names.settled_lookups(4_999_999_999)[0], names.lookups()[0]);
}

#[test]
fn measures_from_the_first_of_several_retransmissions() {
    let mut names = names();
    let query = DnsBuilder::query(1, "slow.example", A).bytes();
    names.observe(&at(0, sent(resolver(), &query)));
    names.observe(&at(1_000, sent(resolver(), &query)));
    let response = DnsBuilder::response(1, 0, "slow.example", A).bytes();
    names.observe(&at(3_000, received(resolver(), &response)));
    names.observe(&at(4_000, received(resolver(), &response)));
    let lookup = &names.lookups()[0];
    assert_eq!(
        (lookup.queries, lookup.responses, lookup.response_times.count, lookup.response_times.max_ns),
        (2, 2, 1, 3_000)
    );
}

#[test]
fn reads_truncated_responses_and_their_repetition_over_tcp() {
    let mut names = names();
    names.observe(&sent(resolver(), &DnsBuilder::query(1, "large.example", A).bytes()));
    names.observe(&received(resolver(), &DnsBuilder::new(1, 0x8380).question("large.example", A).bytes()));
    let key = tcp(53, 53);
    names.observe(&segment(sent(key, &DnsBuilder::query(2, "large.example", A).framed()), 1, 0));
    let response = DnsBuilder::response(2, 0, "large.example", A).answer("large.example", A, &octets(7)).framed();
    names.observe(&segment(received(key, &response), 1, 0));
    let [lookup] = names.lookups() else { panic!() };
    assert_eq!((lookup.queries, lookup.responses, lookup.truncated), (2, 2, 1));
    assert_eq!(names.address(v4(7))[0].name, "large.example");
}

/// Whether the target opened the flow decides whether a response without a query is trusted:
/// samples of queries may be lost, but another host must not name addresses by sending datagrams to
/// the target.
#[test]
fn trusts_unrequested_responses_only_in_flows_of_the_target() {
    let response = DnsBuilder::response(1, 0, "bank.example", A).answer("bank.example", A, &octets(7)).bytes();
    let mut names = names();
    names.observe(&NameSample { opened_by: Direction::Ingress, ..received(resolver(), &response) });
    assert!(names.address(v4(7)).is_empty());
    assert_eq!(names.lookups().len(), 1, "but it is counted");
    let mut names = super::names();
    names.observe(&received(resolver(), &response));
    assert_eq!(names.address(v4(7))[0].name, "bank.example");
}

#[test]
fn ignores_a_response_to_another_question() {
    let mut names = names();
    let key = resolver();
    let ingress = |sample| NameSample { opened_by: Direction::Ingress, ..sample };
    let query = DnsBuilder::query(1, "app.example", A).bytes();
    names.observe(&ingress(sent(key, &query)));
    let other = DnsBuilder::response(1, 0, "bank.example", A).answer("bank.example", A, &octets(7)).bytes();
    names.observe(&ingress(received(key, &other)));
    assert!(names.address(v4(7)).is_empty());
}

/// The local end is the lower one there, so the queries of the target may have either direction.
#[test]
fn reads_a_resolver_on_the_loopback() {
    let mut names = names();
    let end = |port| TransportAddress { addr: [127, 0, 0, 53].into(), port };
    let key = FlowKey { point: ObservationPoint::Loopback, local: end(53), remote: end(40_000), ..udp(0, 0) };
    let query = DnsBuilder::query(1, "app.example", A).bytes();
    let response = DnsBuilder::response(1, 0, "app.example", A).answer("app.example", A, &octets(7)).bytes();
    names.observe(&NameSample { opened_by: Direction::Ingress, ..received(key, &query) });
    names.observe(&NameSample { opened_by: Direction::Ingress, ..sent(key, &response) });
    let [lookup] = names.lookups() else { panic!() };
    assert_eq!((lookup.queried_by, lookup.queries, lookup.responses), (Direction::Egress, 1, 1));
    assert_eq!(names.address(v4(7))[0].name, "app.example");
}

#[test]
fn trusts_unrequested_multicast_responses() {
    let mut names = names();
    let mut key = udp(7, 5353);
    key.local.port = 5353;
    let response = DnsBuilder::new(0, 0x8400).answer("printer.local", A, &octets(7)).bytes();
    names.observe(&NameSample { opened_by: Direction::Ingress, ..received(key, &response) });
    let named = &names.address(v4(7))[0];
    assert_eq!((named.name.as_str(), named.source), ("printer.local", NameSource::Mdns));
    let response = DnsBuilder::new(0, 0x8400).answer("bank.example", A, &octets(8)).bytes();
    names.observe(&received(key, &response));
    assert!(names.address(v4(8)).is_empty(), "not a name of multicast DNS");
    names.observe(&sent(udp(8, 5355), &DnsBuilder::query(1, "host", A).bytes()));
    assert_eq!(names.lookups()[0].application, Application::Llmnr);
}

#[test]
fn compares_lookups_with_contacts() {
    let mut names = names();
    look_up(&mut names, 0, "used.example", 7);
    look_up(&mut names, 0, "unused.example", 8);
    look_up(&mut names, 50_000_000, "late.example", 9);
    let contact = |n, began_ns| Contact { address: v4(n), began_ns };
    let group = Contact { address: [224, 0, 0, 251].into(), began_ns: 0 };
    let contacts = [contact(7, 10_000_000), contact(9, 20_000_000), contact(10, 30_000_000), group];
    let usage = names.usage(&contacts);
    assert_eq!(usage.unused.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["unused.example"]);
    assert_eq!(usage.never_looked_up, [v4(9), v4(10)], "one of them only later");
}

#[test]
fn returns_each_changed_lookup_once() {
    let mut names = names();
    let changed = |names: &mut Names| -> Vec<(usize, String, u64)> {
        let changed = names.changed_lookups();
        changed.map(|(index, lookup)| (index, lookup.question.name.to_string(), lookup.responses)).collect()
    };
    let query = |id, name| DnsBuilder::query(id, name, 1).bytes();
    names.observe(&sent(udp(53, 53), &query(1, "a.example")));
    names.observe(&sent(udp(53, 53), &query(2, "b.example")));
    assert_eq!(changed(&mut names), [(0, "a.example".to_owned(), 0), (1, "b.example".to_owned(), 0)]);
    assert_eq!(changed(&mut names), []);
    let response = DnsBuilder::response(2, 0, "b.example", 1).answer("b.example", 1, &[203, 0, 113, 9]).bytes();
    names.observe(&received(udp(53, 53), &response));
    assert_eq!(changed(&mut names), [(1, "b.example".to_owned(), 1)]);
    assert_eq!(names.lookups().len(), 2);
}

#[test]
fn failed_lookups_count_as_in_a_report() {
    const NXDOMAIN: u16 = 3;
    const AAAA: u16 = 28;
    let mut names = names();
    for (id, kind) in [(1, A), (2, AAAA)] {
        let response = DnsBuilder::response(id, NXDOMAIN, "old.example", kind);
        exchange(&mut names, 1_000, DnsBuilder::query(id, "old.example", kind), response);
    }
    look_up(&mut names, 2_000, "app.example", 7);
    names.observe(&at(3_000, sent(resolver(), &DnsBuilder::query(4, "slow.example", A).bytes())));
    assert_eq!(names.failed_lookups(4_000), 1, "both types are one lookup, and the last may be answered");
    assert_eq!(names.failed_lookups(3_000 + RESPONSE_TIMEOUT_NS), 2);
    assert_eq!(names.lookups_with_error(), 1, "a late answer may take the other one back");
}
