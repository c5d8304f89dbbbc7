//! The content of the rules: a snapshot of every format, and no addresses of the run, secrets or
//! injected commands.

use std::collections::BTreeSet;
use std::path::Path;

use netwatch::flow::{Direction, FlowTable, Increment, Protocol, Traffic};
use netwatch::name::Lookup;
use netwatch::policy::{AddressFamily, Pattern, Requirements, RuleFormat, RuleOptions, Service};
use netwatch::process::{Attempt, AttemptCause, AttemptTarget, Evidence, FlowUser, Process, ProcessId};
use netwatch::report::Report;
use netwatch::wire::dns::Rcode;
use snapbox::{Data, assert_data_eq};

use crate::sample::scene::{ATTACKS, address, came, connections, everything, lookup, name};
use crate::sample::{facts, failed, growth, key, replayed, report, table};
use crate::{rules, variants};

pub fn plain() -> RuleOptions {
    RuleOptions::default()
}

#[test]
fn every_format_matches_its_snapshot() {
    for format in RuleFormat::ALL {
        let path = format!("{}/tests/snapshots/policy-{}.txt", env!("CARGO_MANIFEST_DIR"), format.name());
        let expected = Data::read_from(Path::new(&path), None).raw();
        assert_data_eq!(rules(format, &[&everything()], &plain()), expected);
    }
}

/// The lines that the tool interprets: no comments, and for JSON no header.
pub fn active(format: RuleFormat, text: &str) -> String {
    if format == RuleFormat::AwsSg {
        return text.split("\"egress\":").nth(1).expect("it has egress").to_owned();
    }
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_format_contains_addresses_of_the_run_or_arguments() {
    for format in RuleFormat::ALL {
        for options in variants() {
            let text = rules(format, &[&everything()], &options);
            for own in ["10.87.0.", "2001:db8:87:"] {
                assert!(!text.contains(own), "{format:?}: {own}\n{text}");
            }
            assert!(!text.contains("secret"), "{format:?}: arguments are confidential\n{text}");
        }
    }
}

#[test]
fn failed_attempts_are_comments_and_opened_on_request() {
    for format in RuleFormat::ALL.into_iter().filter(|format| !RuleFormat::TABLES.contains(format)) {
        let shut = rules(format, &[&everything()], &plain());
        assert!(!active(format, &shut).contains("203.0.113.99"), "{format:?}\n{shut}");
        assert!(shut.contains("203.0.113.99") && shut.contains("refused"), "{format:?}\n{shut}");
        let open = rules(format, &[&everything()], &RuleOptions { with_failed: true, ..plain() });
        assert!(active(format, &open).contains("203.0.113.99") || format == RuleFormat::Systemd, "{format:?}\n{open}");
    }
}

#[test]
fn what_remotes_attempted_is_no_failure_of_the_program() {
    let refused = |from: &str, port| {
        let mut increment = failed(key(6, port, address(from), 51_000), 1, true);
        let tcp = increment.tcp.as_mut().expect("TCP");
        std::mem::swap(&mut tcp.syns.egress, &mut tcp.syns.ingress);
        std::mem::swap(&mut tcp.resets.egress, &mut tcp.resets.ingress);
        Increment { opened_by: Direction::Ingress, ..increment }
    };
    let table =
        table([came("198.51.100.200", 6, 8080), refused("198.51.100.201", 8080), refused("198.51.100.201", 9999)]);
    let report = report(facts(&table, &["./server"]), &table);
    let requirements = Requirements::of(&[&report], &plain());
    assert!(requirements.failed.is_empty(), "{:?}", requirements.failed);
    assert_eq!(requirements.needs.iter().map(|need| need.service.to_string()).collect::<Vec<_>>(), ["tcp/8080"]);
    assert_eq!(requirements.left_out, ["tcp/9999 inbound: no connection of a remote succeeded"]);
}

#[test]
fn no_name_ends_a_comment_or_string() {
    // JSON has escapes of its own: `json_holds_names_as_they_are`.
    for format in RuleFormat::ALL.into_iter().filter(|format| *format != RuleFormat::Json) {
        for options in variants() {
            let text = rules(format, &[&everything()], &options);
            for attack in ATTACKS {
                assert!(!text.contains(attack), "{format:?}: {attack}\n{text}");
            }
            assert!(!active(format, &text).contains("reboot`") && !text.contains('\u{2028}'), "{format:?}\n{text}");
            // An attack on a separate line would start with these words.
            let lines = text.lines().filter(|line| ["accept", "IPV4"].contains(line));
            let marks = if format == RuleFormat::Iptables { 1 } else { 0 };
            assert_eq!(lines.count(), marks, "{format:?}\n{text}");
        }
    }
}

#[test]
fn json_holds_names_as_they_are() {
    let text = rules(RuleFormat::Json, &[&everything()], &plain());
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    let names: Vec<&str> =
        document["ports"].as_array().expect("a list").iter().filter_map(|port| port["name"].as_str()).collect();
    for attack in ATTACKS.map(|attack| name(attack).as_str().to_owned()) {
        assert!(names.contains(&attack.as_str()), "{attack}: {names:?}");
    }
    assert!(!text.contains('\u{2028}'), "{text}");
}

#[test]
fn tables_name_what_a_wrapper_ran() {
    let table = table([crate::sample::tcp(key(6, 1, address("203.0.113.10"), 443), 1, (1, 80), (1, 80))]);
    let mut report = report(facts(&table, &["/bin/sh", "-c", "python3 shop.py --token secret"]), &table);
    let process = |comm: &str, words: &[&str]| Process {
        comm: comm.into(),
        cmdline: Some(words.iter().map(|&word| word.into()).collect()),
        ..Process::default()
    };
    report.processes.list =
        vec![process("sh", &["/bin/sh", "-c", "…"]), process("python3", &["python3", "shop.py", "--token", "secret"])];
    report.endpoints[0].processes = vec![ProcessId(0), ProcessId(1)];
    let user = |process| FlowUser { process: ProcessId(process), evidence: Evidence::Socket, is_maker: true };
    report.flows[0].users = vec![user(1), user(0)];
    for format in RuleFormat::TABLES {
        let text = rules(format, &[&report], &plain());
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').collect();
        assert!(words.contains(&"shop.py") && !words.contains(&"sh"), "{format:?}: {text}");
    }
    assert!(rules(RuleFormat::Table, &[&report], &plain()).starts_with("Network access required by shop.py\n\n"));
}

#[test]
fn dns_over_the_gateway_opens_dns_to_the_users_resolvers() {
    let text = rules(RuleFormat::Nft, &[&everything()], &plain());
    assert!(text.contains("meta l4proto { tcp, udp } th dport 53 counter accept"), "{text}");
    let resolvers = vec![address("192.0.2.53"), address("2001:db8:53::53")];
    let text = rules(RuleFormat::Nft, &[&everything()], &RuleOptions { resolvers, ..plain() });
    assert!(text.contains("ip daddr 192.0.2.53 meta l4proto { tcp, udp } th dport 53 counter accept"), "{text}");
    assert!(text.contains("ip6 daddr 2001:db8:53::53 meta l4proto { tcp, udp } th dport 53 counter accept"), "{text}");
    assert!(!text.contains("\t\tmeta l4proto { tcp, udp } th dport 53"), "{text}");
}

#[test]
fn a_resolver_that_the_program_chose_is_a_peer() {
    let report = connections(&[("203.0.113.53", 53, None)]);
    let requirements = Requirements::of(&[&report], &plain());
    assert!(!requirements.dns);
    assert_eq!(requirements.needs.len(), 1);
}

#[test]
fn every_resolver_of_a_capture_counts_as_the_users_resolver() {
    let table = table([growth(Traffic::Flow(key(17, 50_000, address("203.0.113.53"), 53)), (1, 83), (1, 131))]);
    let capture = report(replayed(&table, netwatch::flow::Amount::default()), &table);
    let requirements = Requirements::of(&[&capture], &plain());
    assert!(requirements.dns && requirements.needs.is_empty(), "{requirements:?}");
    assert!(rules(RuleFormat::Nft, &[&capture], &plain()).contains("capture trace.pcapng of"));
}

#[test]
fn a_server_is_opened_at_its_port_to_any_remote() {
    let text = rules(RuleFormat::Nft, &[&everything()], &plain());
    assert!(text.contains("\t\ttcp dport 8080 counter accept"), "{text}");
    assert!(
        !text.contains("198.51.100.200") && !active(RuleFormat::Nft, &text).contains("9090"),
        "for any remote, and not for the machine itself\n{text}"
    );
    let text = rules(RuleFormat::Nft, &[&everything()], &RuleOptions { by_remote: true, ..plain() });
    assert!(
        text.contains("ip saddr 198.51.100.200 tcp dport 8080")
            && text.contains("ip6 saddr 2001:db8:2::7 tcp dport 8080")
    );
}

#[test]
fn a_port_that_other_hosts_use_too_is_not_left_out() {
    let table = table([came("10.87.0.1", 6, 80), came("198.51.100.200", 6, 80), came("10.87.0.1", 6, 9090)]);
    let report = report(facts(&table, &["server"]), &table);
    let requirements = Requirements::of(&[&report], &plain());
    assert_eq!(requirements.left_out, ["tcp/9090 used only by the machine itself needs no rule"]);
    assert!(rules(RuleFormat::Nft, &[&report], &plain()).contains("tcp dport 80 counter accept"));
}

#[test]
fn several_runs_are_one_list_and_one_success_is_enough() {
    let bad = table([failed(key(6, 1, address("203.0.113.10"), 443), 3, false)]);
    let bad = report(facts(&bad, &["app"]), &bad);
    let good = connections(&[("203.0.113.10", 443, None), ("203.0.113.11", 443, None)]);
    for reports in [[&bad, &good], [&good, &bad]] {
        let requirements = Requirements::of(&reports, &plain());
        assert!(requirements.failed.is_empty(), "{requirements:?}");
        assert_eq!(requirements.needs.len(), 1);
        assert_eq!(requirements.needs[0].peers.len(), 2);
        assert_eq!(requirements.sources.len(), 2);
    }
    assert_eq!(Requirements::of(&[&bad], &plain()).failed.len(), 1);
}

#[test]
fn the_header_lists_blind_spots() {
    let mut table = FlowTable::new(1);
    for port in 1..=5 {
        table.apply(growth(Traffic::Flow(key(17, port, [203, 0, 113, port as u8].into(), 99)), (1, 90), (1, 90)));
    }
    table.apply(growth(Traffic::Overflow(17), (7, 700), (0, 0)));
    let mut facts = facts(&table, &["app"]);
    facts.complete = false;
    facts.lost.samples = 3;
    facts.interface.local = vec![[10, 87, 0, 2].into()];
    let text = rules(RuleFormat::Table, &[&report(facts, &table)], &plain());
    for words in [
        "some remotes of udp",
        "the flow table was full for 7 packets",
        "had not ended",
        "3 samples were lost",
        "no IPv6",
    ] {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}\n{text}");
    }
    let complete = rules(RuleFormat::Table, &[&connections(&[("203.0.113.10", 443, None)])], &plain());
    assert!(!complete.contains("Incomplete"), "{complete}");
}

#[test]
fn the_header_lists_attempts_that_failed_before_a_packet_was_sent() {
    let mut report = connections(&[("203.0.113.10", 443, None)]);
    let attempt = |target: &str, cause| Attempt {
        first_ns: 0,
        last_ns: 0,
        count: 1,
        packets: 1,
        target: AttemptTarget::Address(target.parse().expect("an end")),
        protocol: Some(Protocol::TCP),
        cause,
        process: None,
    };
    report.attempts = vec![
        attempt("[2001:db8::9]:443", AttemptCause::Errno(101)),
        attempt("127.0.0.1:5432", AttemptCause::Errno(111)),
        attempt("203.0.113.9:443", AttemptCause::Refused),
        // By default the errno is not recorded.
        attempt("203.0.113.8:443", AttemptCause::NoPacket),
        attempt("127.0.0.1:5433", AttemptCause::NoPacket),
        // Another attempt succeeded.
        attempt("203.0.113.10:443", AttemptCause::NoPacket),
    ];
    let expected = [
        "3f2a: tcp 203.0.113.8:443 failed at once and is not listed",
        "3f2a: tcp [2001:db8::9]:443 failed at once (no route) and is not listed",
    ];
    assert_eq!(Requirements::of(&[&report], &plain()).gaps, expected);
    report.attempts.truncate(1);
    report.processes.list = vec![Process { comm: "curl".into(), ..Process::default() }];
    report.attempts[0].process = Some(ProcessId(0));
    let before = lookup(name("old.example"), vec![address("2001:db8::9")]);
    report.attempts[0].first_ns = before.first_seen_ns;
    report.naming.lookups.push(before);
    let expected = ["3f2a: tcp old.example, [2001:db8::9]:443 failed at once (no route) and is not listed (curl)"];
    assert_eq!(Requirements::of(&[&report], &plain()).gaps, expected);
}

#[test]
fn failures_name_the_program_in_every_format() {
    let mut report = everything();
    report.processes.list = vec![Process { comm: "curl".into(), ..Process::default() }];
    for known in &mut report.endpoints {
        known.processes = vec![ProcessId(0)];
    }
    report
        .naming
        .lookups
        .push(Lookup { outcomes: [(Rcode::NXDOMAIN, 1)].into(), ..lookup(name("missing.example"), vec![]) });
    report.attempts = vec![Attempt {
        first_ns: 0,
        last_ns: 0,
        count: 1,
        packets: 1,
        target: AttemptTarget::Name("missing.example".into(), "A".into()),
        protocol: None,
        cause: AttemptCause::Dns("nxdomain".into()),
        process: Some(ProcessId(0)),
    }];
    for format in RuleFormat::ALL {
        let text = rules(format, &[&report], &plain());
        let words = text.replace('#', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        if format == RuleFormat::Json {
            let unresolved = r#"{"name":"missing.example","responses":["NXDOMAIN"],"programs":["curl"]}"#;
            assert!(text.contains(unresolved), "{text}");
        } else if format != RuleFormat::Csv {
            assert!(words.contains("missing.example (NXDOMAIN) (curl)"), "{format:?}: {text}");
        }
        if !RuleFormat::TABLES.contains(&format) {
            assert!(words.contains("tcp/81 out 203.0.113.99: 1 refused (curl)"), "{format:?}: {text}");
        }
    }
}

#[test]
fn incoming_pings_and_fragments_are_not_required() {
    let requirements = Requirements::of(&[&everything()], &plain());
    let peers: Vec<String> = requirements.needs.iter().flat_map(|need| &need.peers).map(ToString::to_string).collect();
    assert!(!peers.contains(&"203.0.113.254/32".to_owned()), "{peers:?}");
    assert!(requirements.left_out.iter().any(|text| text.contains("fragments")), "{:?}", requirements.left_out);
    let unanswered = Increment {
        opened_by: Direction::Egress,
        ..growth(Traffic::Flow(key(1, 0, address("203.0.113.9"), 0)), (3, 240), (0, 0))
    };
    let table = table([unanswered]);
    let requirements = Requirements::of(&[&report(facts(&table, &["ping"]), &table)], &plain());
    assert!(
        requirements.needs.is_empty() && requirements.failed.len() == 1,
        "an echo request without a reply: {requirements:?}"
    );
}

#[test]
fn cilium_rules_use_names_of_dns_queries() {
    let text = rules(RuleFormat::Cilium, &[&everything()], &plain());
    assert!(text.contains("matchName: \"app.example\"") && !text.contains("203.0.113.10/32"), "{text}");
    assert!(
        text.contains("\"203.0.113.20/32\"") && !text.contains("matchName: \"ftp.example.org\""),
        "known only from SNI\n{text}"
    );
    assert!(text.contains("\"203.0.113.77/32\""), "{text}");
}

#[test]
fn cilium_follows_names_of_a_dns_server_that_the_program_chose() {
    let to = [("203.0.113.53", 53, None), ("203.0.113.54", 53, Some("dns.example")), ("203.0.113.10", 443, None)];
    let text = rules(RuleFormat::Cilium, &[&connections(&to)], &plain());
    let rules: Vec<&str> = text.split("\n    - ").collect();
    for (peer, has_proxy) in [("203.0.113.53/32", true), ("dns.example\"\n", true), ("203.0.113.10/32", false)] {
        let rule = rules.iter().find(|rule| rule.contains(peer)).unwrap_or_else(|| panic!("{peer}: {text}"));
        assert_eq!(rule.ends_with("dns:\n              - matchPattern: \"*\""), has_proxy, "{peer}: {rule}\n{text}");
    }
    let server = table([came("198.51.100.200", 17, 53)]);
    let server = report(facts(&server, &["server"]), &server);
    assert!(!super::rules(RuleFormat::Cilium, &[&server], &plain()).contains("dns:"), "a DNS server queries no other");
}

#[test]
fn iptables_rules_of_one_family_have_no_address_of_the_other() {
    let four =
        rules(RuleFormat::Iptables, &[&everything()], &RuleOptions { family: Some(AddressFamily::V4), ..plain() });
    let six =
        rules(RuleFormat::Iptables, &[&everything()], &RuleOptions { family: Some(AddressFamily::V6), ..plain() });
    assert!(!four.contains("2001:db8") && !six.contains("203.0.113."), "{four}\n{six}");
    assert!(four.contains("-d 203.0.113.10/32") && six.contains("-d 2001:db8:1::10/128"), "{four}\n{six}");
}

#[test]
fn reports_a_security_group_that_is_too_large() {
    let report = |count: u8| -> Report {
        let to: Vec<(&'static str, u16, Option<&'static str>)> =
            (1..=count).map(|host| (&*Box::leak(format!("203.0.113.{host}").into_boxed_str()), 443, None)).collect();
        connections(&to)
    };
    assert!(!rules(RuleFormat::AwsSg, &[&report(60)], &plain()).contains("a group has at most 60"));
    assert!(
        rules(RuleFormat::AwsSg, &[&report(61)], &plain())
            .contains("egress has 61 rules of one family; a group has at most 60")
    );
}

#[test]
fn systemd_does_not_restrict_the_remotes_of_an_open_port() {
    let server = table([came("198.51.100.200", 6, 8080)]);
    let server = report(facts(&server, &["server"]), &server);
    let open = rules(RuleFormat::Systemd, &[&server], &plain());
    assert!(
        !open.lines().any(|line| line.starts_with("IPAddressDeny")) && open.contains("\nSocketBindAllow=tcp:8080\n"),
        "{open}"
    );
    let shut = rules(RuleFormat::Systemd, &[&server], &RuleOptions { by_remote: true, ..plain() });
    assert!(shut.contains("\nIPAddressDeny=any\n") && shut.contains("\nIPAddressAllow=198.51.100.200\n"), "{shut}");
}

#[test]
fn systemd_reports_denied_resolvers_and_restricts_no_families() {
    let asked = table([growth(Traffic::Flow(key(17, 50_000, address("10.87.0.1"), 53)), (1, 83), (1, 131))]);
    let asked = report(facts(&asked, &["app"]), &asked);
    let is_reported = |report: &Report, options: &RuleOptions| {
        let text = rules(RuleFormat::Systemd, &[report], options);
        assert!(!active(RuleFormat::Systemd, &text).contains("RestrictAddressFamilies"), "{text}");
        text.contains("DNS is denied to every resolver")
    };
    assert!(is_reported(&asked, &plain()));
    assert!(!is_reported(&asked, &RuleOptions { resolvers: vec![address("192.0.2.53")], ..plain() }));
    assert!(!is_reported(&connections(&[("203.0.113.10", 443, None)]), &plain()), "it asked no DNS");
    assert!(!is_reported(&everything(), &plain()), "any remote may connect, so that nothing is denied");
}

#[test]
fn groups_are_listed_where_no_rule_can_express_them() {
    for format in [RuleFormat::K8s, RuleFormat::Cilium, RuleFormat::AwsSg] {
        let text = rules(format, &[&everything()], &plain());
        for group in ["udp/67 out (255.255.255.255)", "udp/5353 out (224.0.0.251, ff02::fb)"] {
            assert!(text.contains(group), "{format:?}: {text}");
        }
    }
}

#[test]
fn requirements_are_sorted_out_before_in_and_with_a_name_before_without() {
    let requirements = Requirements::of(&[&everything()], &plain());
    let rank = |need: &netwatch::policy::Need| (need.direction, need.name.is_none());
    assert!(requirements.needs.is_sorted_by_key(rank), "{requirements:?}");
    assert!(requirements.needs.iter().any(|need| matches!(need.name, Some(Pattern::Exact(_)))));
    assert!(requirements.needs.iter().any(|need| need.service == Service::Echo && need.peers.len() == 2));
}

#[test]
fn the_table_fits_the_terminal_and_keeps_every_address() {
    let wide = rules(RuleFormat::Table, &[&everything()], &plain());
    let addresses: BTreeSet<&str> =
        wide.split_whitespace().filter(|word| word.parse::<std::net::IpAddr>().is_ok()).collect();
    assert!(addresses.len() > 20, "{wide}");
    for width in [40, 60, 80, 100, 132] {
        let text = rules(RuleFormat::Table, &[&everything()], &RuleOptions { width: Some(width), ..plain() });
        assert!(text.lines().all(|line| line.len() <= width), "{width}:\n{text}");
        let words: BTreeSet<&str> = text.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
        assert!(addresses.iter().all(|address| words.contains(address)), "{width}:\n{text}");
    }
    let text = rules(RuleFormat::Table, &[&everything()], &RuleOptions { width: Some(80), ..plain() });
    assert_data_eq!(text, snapbox::file!["../snapshots/policy-table-80.txt"].raw());
}
