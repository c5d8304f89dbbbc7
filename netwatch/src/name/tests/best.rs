//! Which name is displayed, and reasons why names are hidden.

use super::*;
use crate::wire::testing::{DnsBuilder, HelloBuilder, dns_name, hex, vector8, vector16};

fn answer(names: &mut Names, time_ns: u64, name: &str, n: u8) {
    let message = DnsBuilder::response(1, 0, name, 1).answer(name, 1, &[203, 0, 113, n]).bytes();
    names.observe(&at(time_ns, received(udp(53, 53), &message)));
}

fn hello(names: &mut Names, flow: FlowKey, builder: &HelloBuilder) {
    names.observe(&segment(sent(flow, &builder.records(16_384)), 1, 0));
}

fn best<'a>(names: &'a Names, flow: &FlowKey, began_ns: u64) -> Option<(&'a str, NameSource)> {
    names.best(flow, began_ns).map(|best| (best.name.as_str(), best.source))
}

#[test]
fn prefers_names_of_the_flow_to_dns_and_dns_to_the_hosts_file() {
    let key = tcp(7, 443);
    let hosts = Hosts::parse("203.0.113.7 hosts.example");
    let mut names = Names::new(NameLimits::default(), hosts);
    assert_eq!(best(&names, &key, 100), Some(("hosts.example", NameSource::Hosts)));
    answer(&mut names, 50, "dns.example", 7);
    assert_eq!(best(&names, &key, 49), Some(("hosts.example", NameSource::Hosts)), "the response came later");
    assert_eq!(best(&names, &key, 50), Some(("dns.example", NameSource::Dns)));
    hello(&mut names, key, &HelloBuilder::named("sni.example"));
    assert_eq!(best(&names, &key, 50), Some(("sni.example", NameSource::Sni)));
    assert_eq!(
        best(&names, &tcp(7, 80), 50),
        Some(("dns.example", NameSource::Dns)),
        "another flow to the same address"
    );
    assert_eq!(best(&names, &tcp(8, 443), 50), None);
}

/// A client names the server that it asks: the target.
#[test]
fn a_client_of_the_target_is_not_named_after_what_it_asks_for() {
    let key = tcp(7, 40_001);
    let from_client = received(key, b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    let mut names = names();
    names.observe(&segment(NameSample { opened_by: Direction::Ingress, ..from_client }, 1, 0));
    assert_eq!(names.flow(&key).map(|facts| facts.names.len()), Some(1), "the name is known");
    assert_eq!(best(&names, &key, 0), None);
    answer(&mut names, 0, "client.example", 7);
    assert_eq!(best(&names, &key, 0), Some(("client.example", NameSource::Dns)));
}

#[test]
fn uses_the_last_response_before_the_flow() {
    let mut names = names();
    answer(&mut names, 10, "first.example", 7);
    answer(&mut names, 20, "second.example", 7);
    answer(&mut names, 30, "first.example", 7);
    let at_time = |time_ns| best(&names, &tcp(7, 443), time_ns).map(|(name, _)| name);
    assert_eq!(at_time(15), Some("first.example"));
    assert_eq!(at_time(25), Some("second.example"));
    assert_eq!(at_time(35), Some("first.example"));
    let seen: Vec<u64> = names.address(v4(7)).iter().map(|named| named.first_seen_ns).collect();
    assert_eq!(seen, [10, 20]);
}

fn ech(config_id: u8) -> HelloBuilder {
    let outer = [&hex("00 0001 0001")[..], &[config_id], &vector16(b"enc"), &vector16(b"payload")].concat();
    HelloBuilder::named("cover.example").extension(0xfe0d, outer)
}

/// Sends the HTTPS record of app.example with an ECH configuration of id 7 and public name
/// cover.example.
fn send_ech_config(names: &mut Names) {
    let config = [
        &[7][..],
        &hex("0020"),
        &vector16(&[1; 32]),
        &vector16(&hex("00010001")),
        &[0],
        &vector8(b"cover.example"),
        &[0, 0],
    ];
    let list = vector16(&[&hex("fe0d")[..], &vector16(&config.concat())].concat());
    let data = [&hex("0001")[..], &dns_name(""), &hex("0005"), &vector16(&list)].concat();
    let message = DnsBuilder::response(2, 0, "app.example", 65).answer("app.example", 65, &data).bytes();
    names.observe(&received(udp(53, 53), &message));
}

#[test]
fn prefers_dns_to_a_cover_name() {
    let mut names = names();
    answer(&mut names, 10, "app.example", 7);
    send_ech_config(&mut names);
    hello(&mut names, tcp(7, 443), &ech(7));
    assert_eq!(names.hidden(&tcp(7, 443)), [Hidden::Ech]);
    assert_eq!(best(&names, &tcp(7, 443), 20), Some(("app.example", NameSource::Dns)));
    hello(&mut names, tcp(9, 443), &ech(7));
    assert_eq!(best(&names, &tcp(9, 443), 20), Some(("cover.example", NameSource::Sni)), "without another name");
}

#[test]
fn a_cover_name_without_a_known_configuration_may_be_true() {
    let mut names = names();
    answer(&mut names, 10, "app.example", 7);
    send_ech_config(&mut names);
    hello(&mut names, tcp(7, 443), &ech(8));
    assert_eq!(names.hidden(&tcp(7, 443)), [Hidden::EchPossible]);
    assert_eq!(best(&names, &tcp(7, 443), 20), Some(("cover.example", NameSource::Sni)));
}

#[test]
fn reports_why_names_are_hidden() {
    let mut names = names();
    let hidden = |names: &mut Names, flow, builder: HelloBuilder| {
        hello(names, flow, &builder);
        names.hidden(&flow)
    };
    assert_eq!(hidden(&mut names, tcp(1, 443), HelloBuilder::named("dns.google").alpn(&["h2"])), [Hidden::Doh]);
    assert_eq!(hidden(&mut names, tcp(2, 853), HelloBuilder::named("resolver.example")), [Hidden::Dot]);
    assert_eq!(hidden(&mut names, tcp(3, 443), HelloBuilder::named("resolver.example").alpn(&["dot"])), [Hidden::Dot]);
    assert_eq!(hidden(&mut names, tcp(4, 443), HelloBuilder::default()), [Hidden::NoServerName]);
    assert_eq!(hidden(&mut names, tcp(5, 443), HelloBuilder::named("app.example")), []);
    assert_eq!(
        hidden(&mut names, tcp(6, 443), HelloBuilder::default().extension(0xffce, vec![])),
        [Hidden::Esni, Hidden::NoServerName]
    );
    let mut cloudflare = tcp(7, 443);
    cloudflare.remote.addr = [1, 1, 1, 1].into();
    assert_eq!(hidden(&mut names, cloudflare, HelloBuilder::default()), [Hidden::Doh, Hidden::NoServerName]);
    assert_eq!(names.hidden(&tcp(99, 1)), [], "an unknown flow");
}
