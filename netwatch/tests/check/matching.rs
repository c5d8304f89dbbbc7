//! The matcher, access by access.

use std::collections::BTreeSet;

use netwatch::allow::{
    AccessPeer, AccessTarget, Decision, EvidentName, Mismatch, NetworkAccess, PolicyDate, ProvenProgram,
};
use netwatch::flow::{Direction, Protocol};
use netwatch::name::NameSource;
use netwatch::wire::Name;
use proptest::prelude::*;

use crate::sample::scene::address;
use crate::{policy, today};

fn named(name: &str, source: NameSource) -> EvidentName {
    EvidentName { name: Name::of_text(name), source }
}

/// A connection to 203.0.113.10 by curl.
fn connection(port: u16, asked: &[&str], claimed: Option<&str>) -> NetworkAccess {
    let peer = AccessPeer::Address(address("203.0.113.10"));
    NetworkAccess {
        direction: Direction::Egress,
        target: AccessTarget::Service { peer, protocol: Protocol::TCP, port: Some(port) },
        claimed: claimed.map(|name| named(name, NameSource::Sni)).into_iter().collect(),
        asked: asked.iter().map(|name| named(name, NameSource::Dns)).collect(),
        own_name: None,
        programs: BTreeSet::from(["curl".to_owned()]),
        proven: vec![ProvenProgram { name: "curl".into(), path: Some("/usr/bin/curl".into()) }],
        count: 1,
        only_failed: false,
        is_folded: false,
        is_remnant: false,
    }
}

fn lookup(name: &str) -> NetworkAccess {
    NetworkAccess { target: AccessTarget::Lookup(Name::of_text(name)), ..connection(0, &[], None) }
}

/// Why the only rule does not allow it; empty if it does.
#[track_caller]
fn mismatches(rule: &str, access: &NetworkAccess) -> Vec<Mismatch> {
    let list = policy(&format!("[[allow]]\n{rule}\n"));
    let found = list.rules[0].mismatches(access, today());
    assert_eq!(found.is_empty(), matches!(list.decide(access, today()), Decision::Allowed(0)));
    found
}

#[test]
fn a_name_is_proven_by_a_dns_response_that_no_server_name_contradicts() {
    let rule = "name = \"*.app.example\"";
    let of = |asked: &[&str], claimed| mismatches(rule, &connection(443, asked, claimed));
    assert_eq!(of(&["a.app.example"], None), []);
    assert_eq!(of(&["a.app.example"], Some("a.app.example")), []);
    assert_eq!(of(&["a.app.example"], Some("b.app.example")), [], "the rule allows both");
    assert_eq!(of(&["evil.test", "a.app.example"], None), [], "two names share an address");
    assert_eq!(of(&["a.app.example"], Some("evil.test")), [Mismatch::Contradicted]);
    assert_eq!(of(&[], Some("a.app.example")), [Mismatch::NotAnswered], "any program can send this server name");
    assert_eq!(of(&["evil.test"], Some("a.app.example")), [Mismatch::NotAnswered]);
    assert_eq!(of(&["app.example"], None), [Mismatch::OtherNameInDomain], "a star is at least one label");
    assert_eq!(of(&[], None), [Mismatch::Name]);
}

#[test]
fn other_evidence_can_be_requested() {
    let of = |evidence: &str, asked: &[&str], claimed| {
        let rule = format!("name = \"app.example\"\nevidence = \"{evidence}\"");
        mismatches(&rule, &connection(443, asked, claimed))
    };
    assert_eq!(of("dns", &["app.example"], Some("behind.the.proxy")), []);
    assert_eq!(of("dns", &[], Some("app.example")), [Mismatch::NotAnswered]);
    assert_eq!(of("server-name", &[], Some("app.example")), []);
    assert_eq!(of("server-name", &["app.example"], None), [Mismatch::NoServerName]);
    assert_eq!(of("server-name", &["app.example"], Some("evil.test")), [Mismatch::Contradicted]);
}

#[test]
fn every_key_of_a_rule_has_to_match() {
    let access = connection(443, &["app.example"], None);
    let table: [(&str, &[Mismatch]); 14] = [
        ("port = 443", &[]),
        ("port = \"400-500\"", &[]),
        ("port = [80, 8443]", &[Mismatch::Port]),
        ("protocol = \"tcp\"", &[]),
        ("protocol = \"udp\"\nport = 443", &[Mismatch::Protocol]),
        ("protocol = \"icmp\"", &[Mismatch::Protocol]),
        ("address = \"203.0.113.0/24\"", &[]),
        ("address = \"host\"", &[Mismatch::Address]),
        ("address = \"203.0.113.11\"\nport = 443", &[Mismatch::Address]),
        ("name = \"app.example\"\naddress = \"198.51.100.0/24\"", &[Mismatch::Address]),
        ("port = 443\ndirection = \"in\"", &[Mismatch::Direction]),
        ("process = \"curl\"", &[]),
        ("process = [\"wget\", \"/usr/bin/curl\"]", &[]),
        ("process = \"/bin/curl\"", &[Mismatch::Process]),
    ];
    for (rule, expected) in table {
        assert_eq!(mismatches(rule, &access), expected, "{rule}");
    }
}

#[test]
fn a_rule_of_a_program_needs_proof_for_every_user_of_the_connection() {
    let mut access = connection(443, &[], None);
    access.proven.push(ProvenProgram { name: "nc".into(), path: None });
    assert_eq!(mismatches("process = \"curl\"", &access), [Mismatch::Process]);
    assert_eq!(mismatches("process = [\"curl\", \"nc\"]", &access), []);
    access.proven.clear();
    assert_eq!(mismatches("process = \"curl\"", &access), [Mismatch::Process], "only inferred");
}

#[test]
fn a_rule_applies_through_its_last_day() {
    let access = connection(443, &[], None);
    assert_eq!(mismatches("port = 443\nuntil = 2026-06-15", &access), []);
    let expired = Mismatch::Expired(PolicyDate::new(2026, 6, 14));
    assert_eq!(mismatches("port = 443\nuntil = 2026-06-14", &access), [expired]);
}

#[test]
fn the_machine_itself_is_no_address() {
    let target = AccessTarget::Service { peer: AccessPeer::Host, protocol: Protocol::TCP, port: Some(5432) };
    let access = NetworkAccess { target, ..connection(0, &[], None) };
    assert_eq!(mismatches("address = \"host\"\nport = 5432", &access), []);
    assert_eq!(mismatches("address = \"0.0.0.0/0\"", &access), [Mismatch::Address]);
}

#[test]
fn icmp_is_one_protocol_and_numbers_are_exact() {
    let ping = |protocol| {
        let peer = AccessPeer::Address(address("203.0.113.10"));
        NetworkAccess { target: AccessTarget::Service { peer, protocol, port: None }, ..connection(0, &[], None) }
    };
    for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
        assert_eq!(mismatches("protocol = \"icmp\"", &ping(protocol)), []);
    }
    assert_eq!(mismatches("protocol = 58", &ping(Protocol::ICMP)), [Mismatch::Protocol]);
    assert_eq!(mismatches("protocol = 47", &ping(Protocol(47))), []);
    assert_eq!(mismatches("port = 0", &ping(Protocol::ICMP)), [Mismatch::Port], "a protocol without ports");
}

#[test]
fn a_name_may_be_looked_up_if_a_rule_contains_it() {
    assert_eq!(mismatches("name = \"app.example\"\nport = 443", &lookup("APP.example.")), []);
    assert_eq!(mismatches("name = \"*.app.example\"\nprotocol = \"dns\"", &lookup("a.app.example")), []);
    assert_eq!(mismatches("name = \"app.example\"", &lookup("x.app.example")), [Mismatch::OtherNameInDomain]);
    assert_eq!(mismatches("address = \"0.0.0.0/0\"", &lookup("app.example")), [Mismatch::Name]);
    let only = mismatches("name = \"app.example\"\nprotocol = \"dns\"", &connection(443, &["app.example"], None));
    assert_eq!(only, [Mismatch::Protocol], "it allows the lookup alone");
}

#[test]
fn the_nearest_rule_is_the_one_with_the_smallest_difference() {
    let list = policy(
        "[[allow]]\nname = \"other.test\"\nport = 443\n\n[[allow]]\nname = \"www.app.example\"\nport = 443\n\n\
        [[allow]]\nname = \"app.example\"\nport = 8443\nprotocol = \"udp\"\n\n\
        [[allow]]\nname = \"app.example\"\nport = 80\n",
    );
    let Decision::Denied(Some(nearest)) = list.decide(&connection(443, &["app.example"], None), today()) else {
        panic!("a near rule");
    };
    assert_eq!((nearest.rule, nearest.mismatches.as_slice()), (3, &[Mismatch::Port][..]));
    let far = list.decide(&connection(443, &["unrelated.example2"], None), today());
    assert_eq!(far, Decision::Denied(None), "rules of other remotes are not near");
}

pub fn any_access() -> impl Strategy<Value = NetworkAccess> {
    let name = prop::sample::select(vec!["a.example", "b.a.example", "c.test"]);
    let asked = prop::collection::vec(name.clone(), 0..3);
    (asked, prop::option::of(name.clone()), 78..82_u16, any::<bool>(), prop::option::of(name)).prop_map(
        |(asked, claimed, port, is_udp, looked_up)| {
            let mut access = connection(port, &asked, claimed);
            if let (true, AccessTarget::Service { protocol, .. }) = (is_udp, &mut access.target) {
                *protocol = Protocol::UDP;
            }
            looked_up.filter(|_| port == 78).map_or(access, lookup)
        },
    )
}

pub fn any_rule() -> impl Strategy<Value = String> {
    let name = prop::option::of(prop::sample::select(vec!["a.example", "*.a.example", "*.example", "c.test"]));
    let address = prop::option::of(prop::sample::select(vec!["203.0.113.0/24", "203.0.113.8/29", "198.51.100.1"]));
    (name, address, prop::option::of(79..82_u16), any::<bool>()).prop_map(|(name, address, port, is_old)| {
        let name = name.map(|name| format!("name = \"{name}\"\n")).unwrap_or_default();
        let address = address.map(|address| format!("address = \"{address}\"\n")).unwrap_or_default();
        let port = port.map(|port| format!("port = {port}\n")).unwrap_or_default();
        let until = if is_old { "until = 2020-01-01\n" } else { "" };
        format!("[[allow]]\nprotocol = \"tcp\"\n{name}{address}{port}{until}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What lets a list be compiled into maps: its rules are alternatives without an order.
    #[test]
    fn a_list_allows_what_any_of_its_rules_allows(
        rules in prop::collection::vec(any_rule(), 0..5), access in any_access()
    ) {
        let is_allowed = |rules: &[String]| {
            matches!(policy(&rules.concat()).decide(&access, today()), Decision::Allowed(_))
        };
        let by_any = rules.iter().any(|rule| is_allowed(std::slice::from_ref(rule)));
        prop_assert_eq!(is_allowed(&rules), by_any);
        prop_assert_eq!(
            policy(&rules.concat()).compile().decide(&access, today()),
            policy(&rules.concat()).decide(&access, today())
        );
        let reversed: Vec<String> = rules.iter().rev().cloned().collect();
        prop_assert_eq!(is_allowed(&reversed), by_any);
    }
}
