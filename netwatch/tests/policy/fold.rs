//! `--generalize`: every original is covered, and no rule is wider than documented.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netwatch::flow::{Direction, FIRST_EPHEMERAL_PORT, FailedAttempts, Protocol};
use netwatch::policy::{Generalize, Need, Pattern, RuleFormat, RuleOptions, Service, generalize};
use netwatch::wire::Name;
use proptest::prelude::*;

use crate::rules;
use crate::sample::scene::connections;

fn need(name: Option<&str>, port: u16, peers: &[IpAddr]) -> Need {
    let peers: BTreeSet<IpNet> = peers.iter().copied().map(IpNet::from).collect();
    let name = name.map(|name| Pattern::Exact(Name::new(name.as_bytes()).expect("a name")));
    Need {
        direction: Direction::Egress,
        service: Service::Ports(Protocol::TCP, port, port),
        queried: name.iter().cloned().collect(),
        unqueried: if name.is_some() { BTreeSet::new() } else { peers.clone() },
        name,
        peers,
        failed: FailedAttempts::default(),
        unused: BTreeSet::new(),
        attempted: BTreeSet::new(),
        peer_failures: BTreeMap::new(),
        purpose: netwatch::policy::Purpose::default(),
        programs: BTreeSet::new(),
    }
}

fn v4(last: [u8; 2]) -> IpAddr {
    [203, 0, last[0], last[1]].into()
}

fn nets(needs: &[Need]) -> Vec<String> {
    needs.iter().flat_map(|need| &need.peers).map(ToString::to_string).collect()
}

fn names(needs: &[Need]) -> Vec<String> {
    needs.iter().map(|need| need.name.as_ref().map(ToString::to_string).unwrap_or_default()).collect()
}

#[test]
fn addresses_of_one_name_become_the_smallest_prefix() {
    let fold = |name, last: &[[u8; 2]]| {
        let peers: Vec<IpAddr> = last.iter().copied().map(v4).collect();
        nets(&generalize(vec![need(name, 443, &peers)], &Generalize::default()))
    };
    assert_eq!(fold(Some("a.example"), &[[113, 8], [113, 11]]), ["203.0.113.8/30"]);
    assert_eq!(fold(Some("a.example"), &[[113, 1], [113, 200]]), ["203.0.113.0/24"]);
    assert_eq!(fold(Some("a.example"), &[[113, 1], [114, 1]]), ["203.0.113.1/32", "203.0.114.1/32"]);
    assert_eq!(fold(Some("a.example"), &[[113, 1]]), ["203.0.113.1/32"]);
    assert_eq!(
        fold(None, &[[113, 8], [113, 11]]),
        ["203.0.113.8/32", "203.0.113.11/32"],
        "two without a name may have different owners"
    );
    assert_eq!(fold(None, &[[113, 8], [113, 9], [113, 11]]), ["203.0.113.8/30"]);
}

#[test]
fn siblings_become_a_wildcard_but_not_below_a_public_suffix() {
    let fold = |all: &[&str]| {
        let needs = all.iter().zip(1u8..).map(|(name, host)| need(Some(name), 443, &[v4([host, 1])])).collect();
        names(&generalize(needs, &Generalize::default()))
    };
    assert_eq!(fold(&["a.cdn.example.org", "b.cdn.example.org", "c.cdn.example.org"]), ["*.cdn.example.org"]);
    assert_eq!(fold(&["a.example.org", "b.example.org", "c.example.org"]), ["*.example.org"]);
    for shared in ["org", "co.uk", "github.io", "example", "s3.amazonaws.com"] {
        let all: Vec<String> = ["a", "b", "c"].iter().map(|label| format!("{label}.{shared}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(fold(&all), all, "everybody can have a name below {shared}");
    }
    assert_eq!(fold(&["a.example.org", "b.example.org"]), ["a.example.org", "b.example.org"], "two are not three");
    assert_eq!(fold(&["a.example.org", "b.example.org", "x.c.example.org"]).len(), 3, "one label more, and no deeper");
    assert_eq!(fold(&["a b.example.org", "c d.example.org", "e f.example.org"]).len(), 3, "no host names");
}

#[test]
fn a_wildcard_is_for_dns_only_if_all_names_were_queried() {
    let three = |last: Need| {
        vec![need(Some("a.example.org"), 443, &[v4([1, 1])]), need(Some("b.example.org"), 443, &[v4([1, 2])]), last]
    };
    let folded = generalize(three(need(Some("c.example.org"), 443, &[v4([1, 3])])), &Generalize::default());
    assert_eq!(folded[0].queried.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*.example.org"]);
    let mut by_sni = need(Some("c.example.org"), 443, &[v4([2, 3])]);
    by_sni.unqueried = by_sni.peers.clone();
    by_sni.queried.clear();
    let folded = generalize(three(by_sni), &Generalize::default());
    assert_eq!(folded[0].queried.len(), 2, "{folded:?}");
    assert_eq!(folded[0].unqueried.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.2.3/32"]);
}

#[test]
fn three_ephemeral_ports_of_one_peer_become_the_range() {
    let ports = |ports: &[u16]| {
        let needs = ports.iter().map(|port| need(Some("ftp.example.org"), *port, &[v4([1, 1])])).collect();
        generalize(needs, &Generalize::default()).iter().map(|need| need.service.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&[21, 40_000, 50_000, 60_000]), ["tcp/21", "tcp/32768-65535"]);
    assert_eq!(ports(&[40_000, 50_000]), ["tcp/40000", "tcp/50000"]);
    assert_eq!(ports(&[1000, 2000, 3000]).len(), 3);
}

#[test]
fn ephemeral_ports_of_peers_without_a_name_count_by_peer() {
    // Three ports of the first peer, together with others; one or two ports of the others.
    let needs = vec![
        need(None, 40_000, &[v4([113, 1]), v4([113, 200])]),
        need(None, 50_000, &[v4([113, 1]), v4([114, 3])]),
        need(None, 60_000, &[v4([113, 1]), v4([113, 200])]),
        need(None, 443, &[v4([113, 1]), v4([114, 3])]),
    ];
    let folded = generalize(needs, &Generalize::default());
    let mut services: Vec<(String, Vec<String>)> = folded
        .iter()
        .map(|need| (need.service.to_string(), need.peers.iter().map(ToString::to_string).collect()))
        .collect();
    services.sort();
    let expected = [
        ("tcp/32768-65535", vec!["203.0.113.1/32"]),
        ("tcp/40000", vec!["203.0.113.200/32"]),
        ("tcp/443", vec!["203.0.113.1/32", "203.0.114.3/32"]),
        ("tcp/50000", vec!["203.0.114.3/32"]),
        ("tcp/60000", vec!["203.0.113.200/32"]),
    ];
    let expected =
        expected.map(|(service, peers)| (service.to_owned(), peers.into_iter().map(str::to_owned).collect()));
    assert_eq!(services, expected);
    assert!(folded.iter().all(|need| need.unqueried == need.peers && need.queried.is_empty()), "{folded:?}");
}

#[test]
fn two_addresses_of_a_wildcard_stay_separate() {
    let three = |hosts: [u8; 3]| {
        let all = ["a.example.org", "b.example.org", "c.example.org"].into_iter().zip(hosts);
        let needs = all.map(|(name, host)| need(Some(name), 443, &[v4([113, host])])).collect();
        let folded = generalize(needs, &Generalize::default());
        assert_eq!(names(&folded), ["*.example.org"]);
        nets(&folded)
    };
    assert_eq!(three([8, 11, 11]), ["203.0.113.8/32", "203.0.113.11/32"]);
    assert_eq!(three([8, 9, 11]), ["203.0.113.8/30"]);
}

#[test]
fn the_header_describes_the_generalization() {
    let report = connections(&[("203.0.113.8", 443, Some("a.example")), ("203.0.113.9", 443, Some("a.example"))]);
    let generalized =
        RuleOptions { generalize: Some(Generalize { v4: 28, ..Generalize::default() }), ..RuleOptions::default() };
    let text = rules(RuleFormat::Nft, &[&report], &generalized);
    assert!(text.contains("not wider than /28") && text.contains("ip daddr 203.0.113.8/31 tcp dport 443"), "{text}");
    assert!(!rules(RuleFormat::Nft, &[&report], &RuleOptions::default()).contains("Generalized"));
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, any::<u8>()).prop_map(|(net, host)| IpAddr::from([203, 0, net, host])),
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        (0u16..3, any::<u16>()).prop_map(|(net, host)| Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, host, 1).into()),
    ]
}

fn any_need() -> impl Strategy<Value = Need> {
    let name = prop::option::of(prop::sample::select(vec![
        "a.example.org",
        "b.example.org",
        "c.example.org",
        "d.example.org",
        "a.b.example.org",
        "a.co.uk",
        "b.co.uk",
        "c.co.uk",
        "x.github.io",
        "y.github.io",
        "z.github.io",
        "single",
    ]));
    let port = prop::sample::select(vec![80u16, 443, 40_000, 50_000, 60_000]);
    (name, port, prop::collection::vec(any_address(), 1..6)).prop_map(|(name, port, peers)| need(name, port, &peers))
}

fn covers_name(wide: &Option<Pattern>, name: &Option<Pattern>) -> bool {
    match (wide, name) {
        (Some(Pattern::Below(parent)), Some(Pattern::Exact(name))) => {
            name.as_str().split_once('.').is_some_and(|(_, rest)| *parent == *rest)
        }
        (wide, name) => wide == name,
    }
}

fn covers_service(wide: Service, service: Service) -> bool {
    match (wide, service) {
        (Service::Ports(a, first, last), Service::Ports(b, port, _)) => a == b && (first..=last).contains(&port),
        _ => wide == service,
    }
}

fn covers(wide: &Need, need: &Need, peer: &IpNet) -> bool {
    covers_name(&wide.name, &need.name)
        && covers_service(wide.service, need.service)
        && wide.peers.iter().any(|net| net.contains(peer))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_original_is_covered(needs in prop::collection::vec(any_need(), 0..12), v4 in 16u8..=32, v6 in 48u8..=128) {
        let folded = generalize(needs.clone(), &Generalize { v4, v6, names: 3 });
        for need in &needs {
            for peer in &need.peers {
                prop_assert!(folded.iter().any(|wide| covers(wide, need, peer)), "{need:?} {peer} in {folded:?}");
            }
        }
    }

    #[test]
    fn no_rule_is_wider_than_documented(needs in prop::collection::vec(any_need(), 0..12), v4 in 16u8..=32, v6 in 48u8..=128) {
        let originals: Vec<IpNet> = needs.iter().flat_map(|need| need.peers.iter().copied()).collect();
        for wide in generalize(needs.clone(), &Generalize { v4, v6, names: 3 }) {
            for net in &wide.peers {
                let most = if net.addr().is_ipv4() { v4 } else { v6 };
                let is_host = net.prefix_len() == net.max_prefix_len();
                prop_assert!(is_host || net.prefix_len() >= most, "{net}");
                // The prefix is the smallest one: each half of it has an original of this need.
                let mut halves = net.subnets(net.prefix_len() + 1).into_iter().flatten();
                let has_own = |half: IpNet| originals.iter().any(|one| half.contains(one));
                prop_assert!(is_host || halves.all(has_own), "{net}: {needs:?}");
            }
            if let Some(Pattern::Below(parent)) = &wide.name {
                prop_assert_eq!(parent.as_str(), "example.org");
                let children: BTreeSet<_> = needs.iter().filter(|need| covers_name(&wide.name, &need.name) && covers_service(wide.service, need.service)).map(|need| &need.name).collect();
                prop_assert!(children.len() >= 3, "{children:?}");
            }
            if let Service::Ports(_, first, last) = wide.service && first != last {
                prop_assert_eq!((first, last), (FIRST_EPHEMERAL_PORT, u16::MAX));
                let of = |has: &dyn Fn(&&Need) -> bool| needs.iter().filter(|need| covers_service(wide.service, need.service)).filter(has).map(|need| need.service).collect::<BTreeSet<_>>();
                // By peer: a name, or an address without one.
                let ports: Vec<_> = match &wide.name {
                    Some(name) => vec![of(&|need| covers_name(&Some(name.clone()), &need.name))],
                    None => originals.iter().filter(|peer| wide.peers.contains(peer)).map(|peer| of(&|need| need.name.is_none() && need.peers.contains(peer))).collect(),
                };
                prop_assert!(ports.iter().all(|ports| ports.len() >= 3), "{ports:?}");
            }
        }
    }
}
