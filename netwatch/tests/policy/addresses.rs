//! The addresses of names: used, attempted, or only listed by DNS.

use netwatch::flow::Protocol;
use netwatch::name::{Lookup, NameSource};
use netwatch::policy::{Requirements, RuleFormat, RuleOptions};
use netwatch::process::{Attempt, AttemptCause, AttemptTarget};
use netwatch::report::Report;
use netwatch::wire::dns::{Question, Rcode, RecordType};

use crate::content::{active, plain};
use crate::rules;
use crate::sample::scene::{NamedAddress, add_names, address, connections, everything, lookup, name};
use crate::sample::{facts, failed, key, report, table};

#[test]
fn one_address_of_several_names_is_listed_with_each() {
    let table = table([
        crate::sample::tcp(key(6, 1, address("203.0.113.10"), 443), 1, (1, 80), (1, 80)),
        crate::sample::tcp(key(6, 2, address("203.0.113.10"), 443), 1, (1, 80), (1, 80)),
    ]);
    let mut report = report(facts(&table, &["app"]), &table);
    add_names(&mut report, &[NamedAddress { address: "203.0.113.10", name: "a.example", source: NameSource::Dns }]);
    let other = netwatch::report::DisplayName { name: name("b.example"), source: NameSource::Sni };
    report.flows[1].naming.as_mut().expect("it has names").display_name = Some(other);
    assert_eq!(names(&report), ["a.example"], "DNS gave b.example no address");
    report.naming.lookups.push(lookup(name("b.example"), vec![address("203.0.113.10")]));
    assert_eq!(names(&report), ["a.example", "b.example"]);
    let cilium = rules(RuleFormat::Cilium, &[&report], &plain());
    for name in ["a.example", "b.example"] {
        assert!(cilium.contains(&format!("matchName: \"{name}\"")), "{cilium}");
    }
}

/// The names of the requirements; empty for those without.
fn names(report: &Report) -> Vec<String> {
    let needs = Requirements::of(&[report], &plain()).needs;
    needs.iter().map(|need| need.name.as_ref().map(ToString::to_string).unwrap_or_default()).collect()
}

#[test]
fn a_proxy_is_one_row_with_its_own_name_and_all_its_addresses() {
    for other_was_looked_up in [false, true] {
        let mut report = connections(&[("203.0.113.10", 3128, Some("proxy.example"))]);
        report.naming.lookups.push(lookup(name("proxy.example"), vec![address("203.0.113.11")]));
        if other_was_looked_up {
            report.naming.lookups.push(lookup(name("app.example"), vec![address("198.51.100.7")]));
        }
        // The client sends it to the proxy: `CONNECT app.example:443`.
        let named = NamedAddress { address: "203.0.113.10", name: "app.example", source: NameSource::Http };
        add_names(&mut report, &[named]);
        assert_eq!(names(&report), ["proxy.example"]);
        let text = rules(RuleFormat::Csv, &[&report], &plain());
        for line in
            ["proxy.example,tcp,3128,outbound,203.0.113.10,yes", "proxy.example,tcp,3128,outbound,203.0.113.11,no"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("app.example"), "{text}");
    }
}

#[test]
fn unused_addresses_of_dns_responses_are_listed_and_marked() {
    let mut report = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    report.naming.lookups.push(lookup(name("app.example"), vec![address("203.0.113.11"), address("2001:db8::11")]));
    report.naming.lookups.push(lookup(name("other.example"), vec![address("203.0.113.12")]));
    let used = RuleOptions { only_used: true, ..plain() };
    for format in RuleFormat::ALL {
        let text = rules(format, &[&report], &used);
        assert!(!text.contains("203.0.113.11"), "{format:?}: {text}");
        let text = rules(format, &[&report], &plain());
        assert!(text.contains("203.0.113.11") || format == RuleFormat::Cilium, "{format:?}: {text}");
    }
    let text = rules(RuleFormat::Table, &[&report], &plain());
    for line in ["  203.0.113.10\n", "  203.0.113.11 (not used)\n", "  2001:db8::11 (not used)\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = rules(RuleFormat::Csv, &[&report], &plain());
    assert!(text.contains("HTTPS?,app.example,tcp,443,outbound,2001:db8::11,no,required,,no"), "{text}");
    let text = rules(RuleFormat::Nft, &[&report], &plain());
    let header = text.lines().filter_map(|line| line.strip_prefix("#")).collect::<Vec<_>>().join(" ");
    let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(header.contains("did not use them: 2001:db8::11, 203.0.113.11."), "{text}");
    assert!(text.contains("ip daddr { 203.0.113.10, 203.0.113.11 } tcp dport 443"), "{text}");
    assert!(text.contains("ip6 daddr 2001:db8::11 tcp dport 443") && !text.contains("203.0.113.12"), "{text}");
}

#[test]
fn an_address_that_was_used_for_another_service_is_not_called_unused() {
    let mut report =
        connections(&[("203.0.113.10", 80, Some("app.example")), ("203.0.113.11", 8080, Some("app.example"))]);
    let answers = ["203.0.113.10", "203.0.113.11", "203.0.113.12"].map(address);
    report.naming.lookups.push(lookup(name("app.example"), answers.to_vec()));
    let text = rules(RuleFormat::Nft, &[&report], &plain());
    let header = text.lines().filter_map(|line| line.strip_prefix('#')).collect::<Vec<_>>().join(" ");
    let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(header.contains("did not use them: 203.0.113.12."), "{text}");
    let other = "only for other services: 203.0.113.10 (tcp/8080), 203.0.113.11 (tcp/80).";
    assert!(header.contains(other), "{text}");
}

#[test]
fn the_result_of_an_address_is_its_own() {
    let table = table([
        failed(key(6, 1, address("203.0.113.10"), 443), 1, true),
        failed(key(6, 2, address("203.0.113.11"), 443), 1, true),
    ]);
    let mut run = report(facts(&table, &["app"]), &table);
    let named = |address| NamedAddress { address, name: "app.example", source: NameSource::Dns };
    add_names(&mut run, &[named("203.0.113.10"), named("203.0.113.11")]);
    run.naming.lookups.push(lookup(name("app.example"), vec![address("203.0.113.12")]));
    let text = rules(RuleFormat::Csv, &[&run], &plain());
    for line in ["203.0.113.10,no,attempted,,yes,1 refused\r", "203.0.113.12,no,attempted,,no,\r"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// A name with two addresses, of which only the IPv4 one accepts connections.
fn fallback_to_v4() -> Report {
    let table = table([
        crate::sample::tcp(key(6, 1, address("203.0.113.10"), 443), 1, (1, 80), (1, 80)),
        failed(key(6, 2, address("2001:db8::10"), 443), 1, true),
    ]);
    let mut run = report(facts(&table, &["app"]), &table);
    let named = |address| NamedAddress { address, name: "app.example", source: NameSource::Dns };
    add_names(&mut run, &[named("203.0.113.10"), named("2001:db8::10")]);
    run
}

#[test]
fn an_attempted_address_of_a_name_that_works_is_marked_and_listed_once() {
    let run = fallback_to_v4();
    let text = rules(RuleFormat::Table, &[&run], &plain());
    let (required, notes) = text.split_once("\n- ").unwrap_or_else(|| panic!("{text}"));
    assert!(
        required.contains("203.0.113.10\n") && required.contains("2001:db8::10 (attempted: 1 refused)\n"),
        "{text}"
    );
    assert!(!text.contains("not used") && !text.contains("Attempted only."), "{text}");
    assert!(notes.contains("\"attempted\": every attempt"), "{text}");
    let only_used = RuleOptions { only_used: true, ..plain() };
    let text = rules(RuleFormat::Table, &[&run], &only_used);
    let (required, attempted) = text.split_once("Attempted only.").unwrap_or_else(|| panic!("{text}"));
    assert!(!required.contains("2001:db8::10") && attempted.contains("2001:db8::10\n"), "{text}");
    let text = rules(RuleFormat::Csv, &[&run], &plain());
    for line in [
        "HTTPS?,app.example,tcp,443,outbound,203.0.113.10,yes,required,,no",
        "HTTPS?,app.example,tcp,443,outbound,2001:db8::10,no,required,,yes,1 refused",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = rules(RuleFormat::Json, &[&run], &plain());
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    let v6 =
        serde_json::json!({ "address": "2001:db8::10", "used": false, "attempted": true, "failures": "1 refused" });
    for port in document["ports"].as_array().expect("a list") {
        assert!(port["addresses"].as_array().expect("a list").contains(&v6), "{text}");
    }
    let text = rules(RuleFormat::Nft, &[&run], &plain());
    assert!(active(RuleFormat::Nft, &text).contains("2001:db8::10"), "DNS lists it: {text}");
    assert!(!text.contains("Failed attempts, not opened"), "it is open: {text}");
    // It worked in another run.
    let good = connections(&[("2001:db8::10", 443, Some("app.example"))]);
    for reports in [[&run, &good], [&good, &run]] {
        let text = rules(RuleFormat::Table, &reports, &plain());
        assert!(!text.contains("ttempted"), "{text}");
    }
}

#[test]
fn an_address_that_failed_without_a_packet_is_attempted_too() {
    let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    run.naming.lookups.push(lookup(name("app.example"), vec![address("2001:db8::10")]));
    run.attempts = vec![Attempt {
        first_ns: 0,
        last_ns: 0,
        count: 1,
        packets: 0,
        target: AttemptTarget::Address("[2001:db8::10]:443".parse().expect("an end")),
        protocol: Some(Protocol::TCP),
        cause: AttemptCause::Errno(101),
        process: None,
    }];
    let text = rules(RuleFormat::Table, &[&run], &plain());
    assert!(text.contains("2001:db8::10 (attempted: 1 no route)\n") && !text.contains("is not listed"), "{text}");
    let used = RuleOptions { only_used: true, ..plain() };
    assert!(rules(RuleFormat::Table, &[&run], &used).contains("failed at once (no route) and is not listed"));
}

#[test]
fn resolvers_are_used_if_the_runs_queried_them() {
    let mut run = everything();
    run.dns.resolvers = vec!["192.0.2.53:53".parse().expect("an end")];
    let resolvers = vec![address("192.0.2.53"), address("192.0.2.54")];
    let options = RuleOptions { resolvers, ..plain() };
    let text = rules(RuleFormat::Csv, &[&run], &options);
    for line in ["outbound,192.0.2.53,yes,required,,no", "outbound,192.0.2.54,no,required,,no"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(rules(RuleFormat::Table, &[&run], &options).contains("those of --resolver"));
}

#[test]
fn names_without_an_address_are_notes() {
    let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    let failing = |text, rcode| Lookup { outcomes: [(rcode, 1)].into(), ..lookup(name(text), vec![]) };
    run.naming.lookups.push(failing("app.example", Rcode::NOERROR));
    run.naming.lookups.push(failing("typo.example", Rcode::NXDOMAIN));
    let text = rules(RuleFormat::Table, &[&run], &plain());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("DNS returned no address for these names: typo.example (NXDOMAIN)."), "{text}");
    run.naming.lookups.push(Lookup { queries: 0, outcomes: [].into(), ..lookup(name("slow.example"), vec![]) });
    let unresolved = Requirements::of(&[&run], &plain()).unresolved;
    assert_eq!(unresolved[0].to_string(), "slow.example (no response yet)", "a run in progress");
    run.naming.lookups.pop();
    let good = connections(&[("203.0.113.11", 443, Some("typo.example"))]);
    assert_eq!(Requirements::of(&[&run, &good], &plain()).unresolved, []);
}

#[test]
fn a_family_that_no_run_asked_for_is_a_gap() {
    let asked = |kinds: &[RecordType]| {
        let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
        let one = run.naming.lookups.remove(0);
        for kind in kinds {
            let question = Question { kind: *kind, ..one.question.clone() };
            let addresses = if *kind == RecordType::A { one.addresses.clone() } else { vec![] };
            run.naming.lookups.push(Lookup { question, addresses, ..one.clone() });
        }
        run
    };
    let gaps = |run: &Report| Requirements::of(&[run], &plain()).gaps;
    let v4 = asked(&[RecordType::A]);
    assert_eq!(gaps(&v4), ["only IPv4 addresses are known for app.example: the runs did not ask for IPv6 ones"]);
    for format in [RuleFormat::Table, RuleFormat::Markdown, RuleFormat::Json, RuleFormat::K8s] {
        let text = rules(format, &[&v4], &plain()).replace('#', " ");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("only IPv4 addresses are known for app.example"), "{format:?}: {text}");
    }
    assert_eq!(gaps(&asked(&[RecordType::A, RecordType::AAAA])), [""; 0], "it has no IPv6 address");
    let both = [&v4, &asked(&[RecordType::AAAA])];
    assert_eq!(Requirements::of(&both, &plain()).gaps, [""; 0], "another run asked");
    assert_eq!(
        gaps(&asked(&[])),
        ["only used addresses are known for app.example: the runs show no DNS lookup of them"]
    );
    let mut v6 = connections(&[("2001:db8::10", 443, Some("app.example"))]);
    v6.naming.lookups[0].question.kind = RecordType::AAAA;
    v6.interface.local.retain(std::net::IpAddr::is_ipv6);
    let expected = [
        "3f2a: the run had no IPv4, so IPv4 addresses are not listed",
        "only IPv6 addresses are known for app.example: the runs did not ask for IPv4 ones",
    ];
    assert_eq!(gaps(&v6), expected);
}
