//! `netwatch learn`: what it writes is allowed, and no more than needed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netwatch::allow::{
    AccessPeer, AccessTarget, AllowList, Decision, NamePattern, NetworkAccess, accesses, addition, check as check_list,
    learn, parse, policy as write_policy,
};
use netwatch::flow::{Direction, FlowKey, Increment, Protocol, Traffic};
use netwatch::name::{NameSource, SourcedName};
use netwatch::process::{Attempt, AttemptCause, AttemptTarget, Evidence, FlowUser, Process, ProcessId};
use netwatch::report::{DisplayName, FlowNaming, Report};
use netwatch::wire::Name;
use proptest::prelude::*;
use snapbox::assert_data_eq;

use crate::runs::by;
use crate::sample::scene::{connections, everything, lookup, name};
use crate::sample::{START_NS, facts, growth, key, report, table, tcp};
use crate::{check, subjects, today};

fn learned(reports: &[&Report]) -> String {
    write_policy(&learn(reports, &AllowList::default(), today()), reports)
}

#[test]
fn the_policy_of_everything_is_grouped_and_commented() {
    let run = everything();
    let text = learned(&[&run]);
    assert_data_eq!(text.clone(), snapbox::file!["../snapshots/learn.toml"].raw());
    let verdict = check(&[&run], &text);
    assert_eq!((subjects(&verdict), verdict.unused.as_slice()), (vec![], &[][..]));
}

#[test]
fn a_run_without_traffic_needs_no_rule() {
    let text = learned(&[&connections(&[])]);
    assert!(
        text.contains("# These runs need no rule.") && parse(&text).is_ok_and(|list| list.rules.is_empty()),
        "{text}"
    );
}

#[test]
fn a_name_that_is_not_proven_is_allowed_by_address() {
    let mut run = connections(&[("203.0.113.10", 443, None)]);
    let named = SourcedName { name: name("app.example"), source: NameSource::Sni, question: None, first_seen_ns: 0 };
    run.flows[0].naming = Some(Box::new(FlowNaming { names: vec![named], ..FlowNaming::default() }));
    let text = learned(&[&run]);
    assert!(text.contains("address = \"203.0.113.10\"  # not proven to be app.example\n"), "{text}");
    assert!(!text.contains("name = "), "{text}");
}

#[test]
fn names_of_one_address_share_the_name_that_is_needed_anyway() {
    let mut run = connections(&[("203.0.113.10", 443, None), ("203.0.113.11", 443, None)]);
    let both = vec![[203, 0, 113, 10].into(), [203, 0, 113, 11].into()];
    run.naming.lookups.push(lookup(name("a.example"), vec![[203, 0, 113, 10].into()]));
    run.naming.lookups.push(lookup(name("b.example"), both));
    let text = learned(&[&run]);
    assert!(text.contains("[[allow]]\nname = \"b.example\"\nport = 443\nprotocol = \"tcp\"\n"), "{text}");
    assert!(text.contains("[[allow]]\nname = \"a.example\"\nprotocol = \"dns\"\n"), "{text}");
}

#[test]
fn each_name_of_an_address_gets_the_ports_that_were_used_with_it() {
    let mut run = connections(&[("203.0.113.10", 443, None), ("203.0.113.10", 8443, None)]);
    for known in &mut run.flows {
        let host = if known.flow.key.remote.port == 443 { "a.example" } else { "b.example" };
        let display_name = Some(DisplayName { name: name(host), source: NameSource::Dns });
        known.naming = Some(Box::new(FlowNaming { display_name, ..FlowNaming::default() }));
    }
    let both = vec![[203, 0, 113, 10].into()];
    run.naming.lookups = ["a.example", "b.example"].map(|host| lookup(name(host), both.clone())).into();
    let text = learned(&[&run]);
    assert!(text.contains("name = \"a.example\"\nport = 443\n"), "{text}");
    assert!(text.contains("name = \"b.example\"\nport = 8443\n"), "{text}");
    assert!(!text.contains("dns"), "{text}");
}

#[test]
fn an_update_appends_what_is_missing_and_keeps_the_rest() {
    let old = "# Ours.\n[[allow]] # the registry\nname = \"app.example\"\nport = 443\nwhy = \"builds\" # ask Ann";
    let run = connections(&[("203.0.113.10", 443, Some("app.example")), ("203.0.113.11", 80, Some("new.example"))]);
    let list = parse(old).expect("a policy");
    let rules = learn(&[&run], &list, today());
    let text = old.to_owned() + &addition(&rules, &[&run], old);
    assert!(text.starts_with(old), "{text}");
    assert!(text.contains("# Added by netwatch learn from run 3f2a.\n"), "{text}");
    assert_eq!(parse(&text).expect("a policy").rules.len(), 2, "{text}");
    let verdict = check(&[&run], &text);
    assert_eq!((subjects(&verdict), verdict.unused.as_slice()), (vec![], &[][..]));
    let again = parse(&text).expect("a policy");
    assert_eq!(addition(&learn(&[&run], &again, today()), &[&run], &text), "");
}

#[test]
fn the_rule_for_another_program_allows_only_that_program() {
    let text = "[[allow]]\naddress = \"203.0.113.10\"\nport = 443\nprocess = \"wget\"\n";
    let (curl, python) = (by("curl", false), by("python3", false));
    let add = &check(&[&curl, &python], text).violations[0].add;
    assert!(add.contains("process = [\"curl\", \"python3\"]\n") && add.matches("[[allow]]").count() == 1, "{add}");
    assert!(!check(&[&curl, &python], &format!("{text}{add}")).fails(), "{add}");
    assert!(check(&[&by("nc", false)], &format!("{text}{add}")).fails(), "{add}");
    let list = crate::policy(text);
    let learned = addition(&learn(&[&curl], &list, today()), &[&curl], text);
    assert!(learned.contains("process = \"curl\"\n"), "{learned}");
    let add = &check(&[&curl], "").violations[0].add;
    assert!(!add.contains("process"), "no rule is for other programs: {add}");
}

#[test]
fn an_expired_rule_is_not_enough() {
    let run = connections(&[("203.0.113.10", 443, None)]);
    let old = parse("[[allow]]\nport = 443\nuntil = 2020-01-01\n").expect("a policy");
    assert_eq!(learn(&[&run], &old, today()).len(), 1);
}

const REMOTES: [&str; 9] = [
    "203.0.113.10",
    "203.0.113.11",
    "2001:db8:1::10",
    "198.51.100.9",
    "224.0.0.251",
    "10.87.0.1",
    "10.87.0.3",
    "fe80::1",
    "2001:db8:87::1",
];

fn any_remote() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(REMOTES.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

/// Names that people use, names that break out of text, and any bytes.
fn any_name() -> impl Strategy<Value = Name> {
    let usual = prop::sample::select(vec!["a.example", "b.example", "x.b.example", "10.113.0.203.in-addr.arpa"]);
    let odd = prop::sample::select(vec!["*.example", ".", "a b/c:d", "\"\n#'''", "\\042.x", "localhost", "*"]);
    let bytes = prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        6 => usual.prop_map(name),
        2 => odd.prop_map(Name::of_text),
        1 => bytes.prop_map(|bytes| Name::new(&bytes).unwrap_or_else(|| name("x"))),
        1 => any::<String>().prop_map(|text| Name::of_text(&text)),
    ]
}

/// A flow: remote, protocol, port of the server, whether the target opened it, whether it is a
/// fragment, and whether it was answered.
type AnyFlow = (IpAddr, u8, u16, bool, bool, bool);

fn any_flow() -> impl Strategy<Value = AnyFlow> {
    let protocol = prop::sample::select(vec![6, 6, 17, 17, 1, 58, 47, 132]);
    let port = prop_oneof![prop::sample::select(vec![53, 80, 443, 444, 445]), any::<u16>()];
    (any_remote(), protocol, port, prop::bool::weighted(0.8), prop::bool::weighted(0.1), prop::bool::weighted(0.9))
}

fn increment((at, (remote, protocol, port, is_out, fragment, is_answered)): (usize, &AnyFlow)) -> Increment {
    let own = 40_000 + at as u16;
    let (local, remote_port) = if *is_out { (own, *port) } else { (*port, own) };
    let has_ports = Protocol(*protocol).has_ports() && !fragment;
    let (local, remote_port) = if has_ports { (local, remote_port) } else { (0, 0) };
    let key = FlowKey { fragment: *fragment, ..key(*protocol, local, *remote, remote_port) };
    let received = if *is_answered { (3, 300) } else { (0, 0) };
    let opened_by = if *is_out { Direction::Egress } else { Direction::Ingress };
    let increment = match *protocol {
        6 if !fragment => tcp(key, 1_000_000, (4, 400), received),
        _ => growth(Traffic::Flow(key), (4, 400), received),
    };
    Increment { opened_by, ..increment }
}

/// What a flow carries: server names with their source, the name that is displayed, and the process
/// with its evidence.
type AnyFacts = (Vec<(Name, bool)>, Option<(Name, u8)>, Option<(u32, bool)>);

fn any_facts() -> impl Strategy<Value = AnyFacts> {
    let claimed = prop::collection::vec((any_name(), any::<bool>()), 0..3);
    let shown = prop::option::of((any_name(), 0..4_u8));
    (claimed, shown, prop::option::of((0..3_u32, any::<bool>())))
}

fn add_facts(run: &mut Report, all: &[AnyFacts]) {
    for (known, (claimed, shown, user)) in run.flows.iter_mut().zip(all) {
        let source = |is_http| if is_http { NameSource::Http } else { NameSource::Sni };
        let named = |(name, is_http): &(Name, bool)| SourcedName {
            name: name.clone(),
            source: source(*is_http),
            question: None,
            first_seen_ns: START_NS,
        };
        let sources = [NameSource::Sni, NameSource::Dns, NameSource::Hosts, NameSource::Ptr];
        let display_name =
            shown.as_ref().map(|(name, at)| DisplayName { name: name.clone(), source: sources[usize::from(*at)] });
        let names = claimed.iter().map(named).collect();
        known.naming = Some(Box::new(FlowNaming { display_name, names, ..FlowNaming::default() }));
        let evidence = |is_proven| if is_proven { Evidence::Socket } else { Evidence::Netns };
        let user = user.map(|(process, is_proven)| FlowUser {
            process: ProcessId(process),
            evidence: evidence(is_proven),
            is_maker: true,
        });
        known.users = user.into_iter().collect();
    }
}

fn attempt(remote: IpAddr, port: u16) -> Attempt {
    Attempt {
        first_ns: START_NS,
        last_ns: START_NS,
        count: 1,
        packets: 0,
        target: AttemptTarget::Address((remote, port).into()),
        protocol: Some(Protocol::TCP),
        cause: AttemptCause::NoPacket,
        process: Some(ProcessId(1)),
    }
}

prop_compose! {
    fn any_report()(
        flows in prop::collection::vec(any_flow(), 0..14),
        facts_of_flows in prop::collection::vec(any_facts(), 14),
        lookups in prop::collection::vec((any_name(), prop::collection::vec(any_remote(), 0..4)), 0..8),
        attempts in prop::collection::vec((any_remote(), 1..3_u16), 0..3),
        folded in prop::collection::vec((any::<prop::sample::Index>(), any_name()), 0..3),
    ) -> Report {
        let table = table(flows.iter().enumerate().map(increment));
        let mut run = report(facts(&table, &["app"]), &table);
        run.processes.list =
            ["sh", "curl", "a\nb"].map(|comm| Process { comm: comm.into(), ..Process::default() }).into();
        add_facts(&mut run, &facts_of_flows);
        run.naming.lookups = lookups.into_iter().map(|(name, addresses)| lookup(name, addresses)).collect();
        run.attempts = attempts.into_iter().map(|(remote, port)| attempt(remote, port)).collect();
        let count = run.endpoints.len();
        for (at, name) in folded.into_iter().filter(|_| count > 0) {
            let endpoint = at.index(count);
            let known = &mut run.endpoints[endpoint];
            known.endpoint.flows += 2;
            let named = SourcedName { name, source: NameSource::Quic, question: None, first_seen_ns: START_NS };
            known.names.push(named);
        }
        run
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_learned_is_allowed(runs in prop::collection::vec(any_report(), 1..3)) {
        let reports: Vec<&Report> = runs.iter().collect();
        let text = learned(&reports);
        let list = parse(&text).map_err(|error| TestCaseError::fail(format!("{error:?}\n{text}")))?;
        let verdict = check_list(&reports, &list, today());
        prop_assert!(verdict.violations.is_empty(), "{:?}\n{text}", subjects(&verdict));
        prop_assert!(learn(&reports, &list, today()).is_empty());
    }

    #[test]
    fn an_update_allows_both_runs_and_changes_no_line(first in any_report(), second in any_report()) {
        let old = learned(&[&first]);
        let list = parse(&old).map_err(|error| TestCaseError::fail(format!("{error:?}\n{old}")))?;
        let text = old.clone() + &addition(&learn(&[&second], &list, today()), &[&second], &old);
        prop_assert!(text.starts_with(&old));
        let list = parse(&text).map_err(|error| TestCaseError::fail(format!("{error:?}\n{text}")))?;
        let verdict = check_list(&[&first, &second], &list, today());
        prop_assert!(verdict.violations.is_empty(), "{:?}\n{text}", subjects(&verdict));
    }

    /// Exact names, addresses and ports: nothing is allowed that no run did.
    #[test]
    fn nothing_else_is_learned(seen in any_report(), other in any_report()) {
        let list = parse(&learned(&[&seen])).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let known = accesses(&seen);
        for access in accesses(&other) {
            let is_allowed = matches!(list.decide(&access, today()), Decision::Allowed(_));
            prop_assert!(!is_allowed || known.iter().any(|own| covers(own, &access)), "{access:?}\n{known:?}");
        }
    }
}

/// Whether a rule for one access may allow the other: the same service, or all ports for a
/// fragment, and one name or address in common. Clients are not compared, nor reverse lookups.
fn covers(own: &NetworkAccess, other: &NetworkAccess) -> bool {
    let names = |access: &NetworkAccess| -> BTreeSet<String> {
        let looked_up = if let AccessTarget::Lookup(name) = &access.target { Some(name) } else { None };
        let evident = access.asked.iter().chain(&access.claimed).map(|known| &known.name);
        evident.chain(looked_up).map(|name| NamePattern::exact(name).to_string()).collect()
    };
    let is_ping = |access: &NetworkAccess| access.protocol().starts_with("icmp");
    let is_reverse = |access: &NetworkAccess| access.protocol() == "dns" && access.remote().ends_with(".arpa");
    let is_service = (own.protocol() == other.protocol() && (own.port() == other.port() || own.port().is_none()))
        || (is_ping(own) && is_ping(other))
        || other.protocol() == "dns";
    let is_remote = own.direction == Direction::Ingress
        || (is_reverse(own) && is_reverse(other))
        || !names(own).is_disjoint(&names(other))
        || peer(own).is_some_and(|peer_of| Some(peer_of) == peer(other));
    own.direction == other.direction && is_service && is_remote
}

fn peer(access: &NetworkAccess) -> Option<AccessPeer> {
    if let AccessTarget::Service { peer, .. } = &access.target { Some(*peer) } else { None }
}
