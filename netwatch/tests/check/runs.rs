//! What a check finds in whole reports: which traffic counts, and what lost observations mean.

use netwatch::allow::{self, PolicyVerdict};
use netwatch::flow::{BalanceState, Direction, FlowKey, Increment, Protocol, Remote, Traffic};
use netwatch::format::check::CheckFormat;
use netwatch::format::json;
use netwatch::import;
use netwatch::name::{Hidden, NameSource, SourcedName};
use netwatch::process::{
    Attempt, AttemptCause, AttemptTarget, Evidence, FlowUser, LocalSocket, Process, ProcessId, ProcessLosses,
};
use netwatch::report::{DisplayName, EndedEarly, FlowNaming, Replay, Report};

use crate::formats::written;
use crate::sample::scene::{NamedAddress, add_names, address, came, connections, everything, lookup, name};
use crate::sample::{START_NS, facts, failed, growth, key, on_loopback, report, table, tcp};
use crate::{check, policy, subjects, today};

fn of(increments: impl IntoIterator<Item = Increment>) -> Report {
    let table = table(increments);
    report(facts(&table, &["app"]), &table)
}

fn open(to: &str, protocol: u8, port: u16) -> Increment {
    growth(Traffic::Flow(key(protocol, 40_000, address(to), port)), (1, 90), (1, 90))
}

/// Sends a server name in the first flow, which displays it.
fn claim(report: &mut Report, claimed: &str, source: NameSource) {
    claim_of_proxied(report, claimed, source);
    let naming = report.flows[0].naming.get_or_insert_default();
    naming.display_name = Some(DisplayName { name: name(claimed), source });
}

/// Sends a server name through a proxy in the first flow, which displays the name of the proxy.
fn claim_of_proxied(report: &mut Report, claimed: &str, source: NameSource) {
    let named = SourcedName { name: name(claimed), source, question: None, first_seen_ns: START_NS };
    report.flows[0].naming.get_or_insert_default().names.push(named);
}

/// The report of a run of another machine.
fn imported(run: &Report) -> Report {
    let mut bytes = Vec::new();
    json::write(run, &mut bytes).expect("a Vec accepts every write");
    import::report(&bytes).expect("a report")
}

#[test]
fn a_run_is_checked_by_names_addresses_and_ports() {
    let run = connections(&[
        ("203.0.113.10", 443, Some("app.example")),
        ("2001:db8::7", 443, Some("api.app.example")),
        ("198.51.100.9", 25, None),
    ]);
    let rules =
        "[[allow]]\nname = \"*.app.example\"\nport = 443\n\n[[allow]]\naddress = \"198.51.100.0/24\"\nport = 587\n";
    let verdict = check(&[&run], rules);
    assert_eq!(subjects(&verdict), ["tcp/25 198.51.100.9", "tcp/443 app.example"]);
    assert_eq!((verdict.checked, verdict.lookups, verdict.unused.as_slice()), (3, 2, &[1][..]));
    let all = format!("{rules}\n[[allow]]\nname = \"app.example\"\n\n[[allow]]\nport = 25\n");
    assert!(!check(&[&run], &all).fails());
}

#[test]
fn several_runs_are_one_verdict() {
    let one = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    let mut other = connections(&[("203.0.113.11", 443, Some("app.example"))]);
    other.run.id = "91bc".into();
    let verdict = check(&[&one, &other], "lookups = \"any\"\n");
    let [violation] = verdict.violations.as_slice() else { panic!("{verdict:?}") };
    assert_eq!((violation.addresses.len(), violation.count, violation.runs.len()), (2, 2, 2));
}

#[test]
fn the_addresses_of_a_name_are_one_violation_whether_used_or_attempted() {
    let table = table([
        tcp(key(6, 40_000, address("203.0.113.10"), 443), 1_000_000, (4, 400), (3, 300)),
        failed(key(6, 40_001, address("2001:db8::10"), 443), 1, true),
    ]);
    let mut run = report(facts(&table, &["app"]), &table);
    let named = |address| NamedAddress { address, name: "app.example", source: NameSource::Dns };
    add_names(&mut run, &[named("203.0.113.10"), named("2001:db8::10")]);
    let used = run.flows.iter().position(|known| known.flow.key.remote.addr.is_ipv4()).expect("a flow");
    run.flows.swap(0, used);
    claim(&mut run, "app.example", NameSource::Sni);
    for rules in ["", "[[allow]]\nname = \"app.example\"\nport = 80\nevidence = \"server-name\"\n"] {
        let verdict = check(&[&run], &format!("lookups = \"any\"\n{rules}"));
        let [violation] = verdict.violations.as_slice() else { panic!("{verdict:?}") };
        assert_eq!((violation.addresses.len(), violation.claimed.len(), violation.count), (2, 1, 2), "{violation:?}");
        assert!(!violation.only_failed, "{violation:?}");
    }
    run.naming.lookups.clear();
    let verdict = check(&[&run], "lookups = \"any\"\n");
    let reasons: Vec<bool> = verdict.violations.iter().map(|violation| violation.asked.is_empty()).collect();
    assert_eq!(reasons, [true, true], "without DNS responses, the server name proves nothing: {verdict:?}");
}

#[test]
fn a_server_name_that_contradicts_dns_is_a_violation() {
    let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    claim(&mut run, "evil.test", NameSource::Sni);
    let rules = "[[allow]]\nname = \"app.example\"\n";
    assert_eq!(subjects(&check(&[&run], rules)), ["tcp/443 evil.test"]);
    let both = "[[allow]]\nname = [\"app.example\", \"evil.test\"]\n";
    assert!(!check(&[&run], both).fails(), "both are allowed by the rule");
    let apart = "[[allow]]\nname = \"app.example\"\n[[allow]]\nname = \"evil.test\"\n";
    assert_eq!(subjects(&check(&[&run], apart)), ["tcp/443 evil.test"], "DNS gave evil.test no such address");
}

#[test]
fn a_connection_through_a_proxy_is_one_to_the_proxy() {
    let mut run = connections(&[("203.0.113.10", 3128, Some("proxy.example"))]);
    claim_of_proxied(&mut run, "app.example", NameSource::Http);
    claim_of_proxied(&mut run, "app.example", NameSource::Sni);
    claim_of_proxied(&mut run, "api.example", NameSource::Sni);
    let verdict = check(&[&run], "");
    let [violation] = verdict.violations.as_slice() else { panic!("{verdict:?}") };
    assert_eq!((violation.remote.as_str(), violation.count, violation.claimed.len()), ("proxy.example", 1, 3));
    let rule = "[[allow]]\nname = \"proxy.example\"\nport = 3128\nprotocol = \"tcp\"\nevidence = \"dns\"\n";
    assert_eq!(violation.add, rule);
    assert!(!check(&[&run], rule).fails());
    assert!(!check(&[&imported(&run)], rule).fails());
    let without_evidence = check(&[&run], "[[allow]]\nname = \"proxy.example\"\n");
    assert_eq!(subjects(&without_evidence), ["tcp/3128 proxy.example"], "any program can send these names");
}

#[test]
fn a_second_name_of_an_address_is_not_contradicted() {
    let rules = "[[allow]]\nname = \"app.example\"\n";
    let reason = |own: &'static str| {
        let mut run = connections(&[("203.0.113.10", 443, Some("app.example")), ("203.0.113.11", 443, Some(own))]);
        claim(&mut run, "api.example", NameSource::Sni);
        run.naming.lookups.push(lookup(name(own), vec![address("203.0.113.10")]));
        written(&run, rules, CheckFormat::Text)
    };
    let contradicts = "the server name api.example contradicts the DNS response";
    assert!(reason("other.example").contains(contradicts), "{}", reason("other.example"));
    assert!(!reason("api.example").contains(contradicts), "{}", reason("api.example"));
}

#[test]
fn each_server_name_of_a_connection_has_to_be_allowed() {
    let mut run = connections(&[("203.0.113.10", 80, Some("app.example"))]);
    run.naming.lookups.push(lookup(name("other.example"), vec![address("203.0.113.10")]));
    claim(&mut run, "app.example", NameSource::Http);
    claim(&mut run, "other.example", NameSource::Http);
    let rules = "lookups = \"any\"\n[[allow]]\nname = \"app.example\"\n";
    assert_eq!(subjects(&check(&[&run], rules)), ["tcp/80 other.example"]);
    claim(&mut run, "203.0.113.10", NameSource::Http);
    let all = format!("{rules}[[allow]]\nname = \"other.example\"\n");
    assert!(!check(&[&run], &all).fails(), "an address in a Host header is no name");
}

#[test]
fn the_cover_of_an_encrypted_server_name_contradicts_nothing() {
    let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    claim(&mut run, "cover.example", NameSource::Sni);
    let rules = "[[allow]]\nname = \"app.example\"\n";
    assert!(check(&[&run], rules).fails());
    run.flows[0].naming.as_mut().expect("names").hidden = vec![Hidden::Ech];
    assert!(!check(&[&run], rules).fails());
    assert!(!check(&[&imported(&run)], rules).fails());
}

#[test]
fn more_addresses_than_a_lookup_keeps_have_its_name() {
    let mut run = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    let rules = "[[allow]]\nname = \"app.example\"\n";
    run.naming.lookups[0].addresses = vec![address("203.0.113.99")];
    assert!(!check(&[&run], rules).fails(), "a response gave the address to the name");
    let mut answered = lookup(name("app.example"), vec![address("203.0.113.10")]);
    answered.queried_by = Direction::Ingress;
    run.naming.lookups.push(answered);
    assert!(check(&[&run], rules).fails(), "the program itself may have given it");
}

#[test]
fn names_of_the_hosts_file_are_the_answer_of_the_machine() {
    let mut run = connections(&[("203.0.113.10", 443, None)]);
    add_names(&mut run, &[NamedAddress { address: "203.0.113.10", name: "db.test", source: NameSource::Hosts }]);
    assert!(!check(&[&run], "[[allow]]\nname = \"db.test\"\n").fails());
    add_names(&mut run, &[NamedAddress { address: "203.0.113.10", name: "db.test", source: NameSource::Ptr }]);
    assert!(
        check(&[&run], "[[allow]]\nname = \"db.test\"\n").fails(),
        "the owner of an address chooses its PTR record"
    );
}

#[test]
fn what_exists_only_because_of_the_run_is_not_checked() {
    let run = of([
        open("10.87.0.1", 17, 53),
        open("2001:db8:87::1", 6, 53),
        open("10.87.0.3", 17, 137),
        came("203.0.113.254", 1, 0),
        on_loopback(tcp(key(6, 43_000, address("127.0.0.1"), 6379), 40_000, (12, 900), (11, 5_100))),
    ]);
    let verdict = check(&[&run], "");
    assert_eq!((subjects(&verdict), verdict.checked), (vec![], 0));
}

#[test]
fn every_other_kind_of_traffic_is_checked() {
    let run = of([
        open("10.87.0.1", 6, 5432),
        open("224.0.0.251", 17, 5353),
        open("203.0.113.53", 17, 53),
        open("203.0.113.30", 1, 0),
        open("203.0.113.32", 47, 0),
        came("198.51.100.200", 6, 8080),
        failed(key(6, 41_000, address("203.0.113.99"), 81), 1, true),
        growth(Traffic::Flow(FlowKey { fragment: true, ..key(17, 0, address("203.0.113.10"), 0) }), (1, 1500), (0, 0)),
    ]);
    let mut found = subjects(&check(&[&run], ""));
    found.sort();
    let expected = [
        "icmp 203.0.113.30",
        "protocol 47 203.0.113.32",
        "tcp/5432 the host itself",
        "tcp/8080 198.51.100.200",
        "tcp/81 203.0.113.99",
        "udp 203.0.113.10",
        "udp/53 203.0.113.53",
        "udp/5353 224.0.0.251",
    ];
    assert_eq!(found, expected);
    let rules = "[[allow]]\ndirection = \"in\"\nport = 8080\n\n[[allow]]\naddress = \"host\"\nport = 5432\n\n\
        [[allow]]\naddress = [\"203.0.113.0/24\", \"224.0.0.0/4\"]\n";
    assert!(!check(&[&run], rules).fails());
}

#[test]
fn what_a_remote_tried_without_an_answer_is_not_the_program() {
    let silent = growth(Traffic::Flow(key(17, 5000, address("198.51.100.200"), 51_000)), (0, 0), (3, 300));
    let run = of([Increment { opened_by: Direction::Ingress, ..silent }]);
    assert_eq!(check(&[&run], "").checked, 0);
}

#[test]
fn fragments_have_the_port_of_the_other_traffic_with_the_remote() {
    let fragment = || {
        growth(Traffic::Flow(FlowKey { fragment: true, ..key(17, 0, address("203.0.113.10"), 0) }), (1, 1500), (0, 0))
    };
    let rules = "[[allow]]\nprotocol = \"udp\"\nport = 4433\n";
    let one = of([open("203.0.113.10", 17, 4433), fragment()]);
    assert!(!check(&[&one], rules).fails());
    let learned = allow::policy(&allow::learn(&[&one], &policy(""), today()), &[&one]);
    assert!(learned.contains("port = 4433"), "{learned}");
    let two = of([open("203.0.113.10", 17, 4433), open("203.0.113.10", 17, 99), fragment()]);
    assert_eq!(subjects(&check(&[&two], rules)).len(), 2, "which of them it belongs to is not known");
}

#[test]
fn icmp_errors_of_the_kernel_are_not_ping() {
    let errors = [open("203.0.113.10", 17, 443), open("203.0.113.10", 1, 0)];
    let mut run = of(errors);
    let rules = "[[allow]]\nprotocol = \"udp\"\nport = 443\n";
    assert!(!check(&[&run], rules).fails());
    run.processes.list = vec![Process { comm: "ping".into(), ..Process::default() }];
    let ping = run.flows.iter_mut().find(|known| known.flow.key.protocol == 1).expect("ICMP");
    ping.users = vec![FlowUser { process: ProcessId(0), evidence: Evidence::Socket, is_maker: true }];
    assert_eq!(subjects(&check(&[&run], rules)), ["icmp 203.0.113.10"], "a process sent it");
}

fn without_a_packet(protocol: Protocol) -> Report {
    let mut run = connections(&[]);
    run.naming.lookups.push(lookup(name("app.example"), vec![address("2001:db8::7")]));
    run.attempts = vec![Attempt {
        first_ns: START_NS,
        last_ns: START_NS,
        count: 2,
        packets: 0,
        target: AttemptTarget::Address((address("2001:db8::7"), 443).into()),
        protocol: Some(protocol),
        cause: AttemptCause::Errno(101),
        process: None,
    }];
    run
}

#[test]
fn attempts_without_a_packet_are_attempts() {
    let run = without_a_packet(Protocol::TCP);
    let verdict = check(&[&run], "[[allow]]\nname = \"app.example\"\nport = 80\n");
    assert_eq!(subjects(&verdict), ["tcp/443 app.example"]);
    assert!(verdict.violations[0].only_failed);
    assert!(!check(&[&run], "[[allow]]\nname = \"app.example\"\n").fails());
    let sorting = without_a_packet(Protocol::UDP);
    assert!(!check(&[&sorting], "[[allow]]\nname = \"app.example\"\nport = 80\n").fails(), "it sends nothing");
}

#[test]
fn lookups_are_checked_unless_the_policy_excludes_them() {
    let mut run = connections(&[]);
    run.naming.lookups.push(lookup(name("secret.evil.test"), vec![]));
    assert_eq!(subjects(&check(&[&run], "")), ["dns secret.evil.test"]);
    assert!(!check(&[&run], "lookups = \"any\"\n").fails());
    run.naming.lookups[0].queried_by = Direction::Ingress;
    assert!(!check(&[&run], "").fails(), "a remote asked the program");
}

pub(crate) fn by(program: &str, wrapper: bool) -> Report {
    let mut run = connections(&[("203.0.113.10", 443, None)]);
    let process =
        |comm: &str| Process { comm: comm.into(), exe: Some(format!("/usr/bin/{comm}")), ..Process::default() };
    run.processes.list = vec![process("sh"), process(program)];
    let user = |process| FlowUser { process: ProcessId(process), evidence: Evidence::Socket, is_maker: true };
    run.flows[0].users = if wrapper { vec![user(0), user(1)] } else { vec![user(1)] };
    run
}

#[test]
fn a_wrapper_is_not_the_program() {
    for wrapper in [false, true] {
        let run = by("curl", wrapper);
        assert!(!check(&[&run], "[[allow]]\nprocess = \"curl\"\n").fails());
        let verdict = check(&[&run], "[[allow]]\nprocess = \"wget\"\n");
        assert_eq!(verdict.violations[0].programs.iter().collect::<Vec<_>>(), ["curl"]);
    }
}

#[test]
fn a_link_local_address_that_no_packet_reached_is_not_the_host() {
    let mut run = without_a_packet(Protocol::TCP);
    run.interface.gateway = vec![address("10.87.0.1")];
    run.attempts[0].target = AttemptTarget::Address("[fe80::99]:80".parse().expect("an end"));
    let verdict = check(&[&run], "");
    assert_eq!(verdict.violations[0].remote, "fe80::99");
}

#[track_caller]
fn assert_uncertain(verdict: &PolicyVerdict, words: &[&str]) {
    assert_eq!(verdict.uncertain.len(), words.len(), "{:?}", verdict.uncertain);
    for (text, words) in verdict.uncertain.iter().zip(words) {
        assert!(text.starts_with("3f2a: ") && text.contains(words), "{text}");
    }
    assert_eq!(verdict.fails(), !words.is_empty() || !verdict.violations.is_empty());
}

const BY_NAME: &str = "[[allow]]\nname = \"app.example\"\n";
const BY_ADDRESS: &str = "lookups = \"any\"\n[[allow]]\naddress = \"0.0.0.0/0\"\n";

fn named_run() -> Report {
    connections(&[("203.0.113.10", 443, Some("app.example"))])
}

#[test]
fn a_loss_is_uncertain_only_if_it_could_hide_a_violation() {
    let mut run = named_run();
    assert_uncertain(&check(&[&run], BY_NAME), &[]);
    run.lost.samples = 7;
    assert_uncertain(&check(&[&run], BY_NAME), &["7 samples were lost"]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    run.lost.samples = 0;
    run.naming.lost.open_flows = 3;
    assert_uncertain(&check(&[&run], BY_NAME), &["3 server names were possibly not read"]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    claim(&mut run, "app.example", NameSource::Sni);
    assert_uncertain(&check(&[&run], BY_NAME), &[]);
    run.naming.lost.lookups = 1;
    assert_uncertain(&check(&[&run], BY_NAME), &["1 DNS lookup or record was beyond the limits"]);
}

#[test]
fn unknown_remotes_are_always_uncertain() {
    let overflow = of([growth(Traffic::Overflow(6), (5, 300), (0, 0))]);
    assert_uncertain(&check(&[&overflow], BY_ADDRESS), &["5 packets found the flow table full"]);
    let mut others = named_run();
    others.endpoints[0].endpoint.key.remote = Remote::Others;
    assert_uncertain(&check(&[&others], BY_ADDRESS), &["the endpoint table was full"]);
    let mut early = named_run();
    early.complete = false;
    assert_uncertain(&check(&[&early], BY_ADDRESS), &["the run had not ended"]);
    assert!(!check(&[&early], &format!("uncertain = \"allow\"\n{BY_ADDRESS}")).fails());
}

#[test]
fn lost_process_events_matter_to_rules_of_programs() {
    let mut run = by("curl", false);
    let by_program = "[[allow]]\nprocess = \"curl\"\n";
    run.processes.lost.events = 2;
    assert_uncertain(&check(&[&run], by_program), &["2 process events or sockets were lost"]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    run.processes.lost = ProcessLosses { gone: 2, unreadable: 1, ..ProcessLosses::default() };
    assert_uncertain(&check(&[&run], by_program), &["3 processes exited or could not be read"]);
    assert_uncertain(&check(&[&imported(&run)], by_program), &["3 processes exited or could not be read"]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
}

#[test]
fn folded_connections_are_known_by_their_endpoint_only() {
    let mut run = named_run();
    run.endpoints[0].endpoint.flows += 4;
    assert_uncertain(&check(&[&run], BY_NAME), &["4 connections were folded: "]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    let named =
        SourcedName { name: name("evil.test"), source: NameSource::Sni, question: None, first_seen_ns: START_NS };
    run.endpoints[0].names.push(named);
    assert_eq!(subjects(&check(&[&run], BY_NAME)), ["tcp/443 evil.test"]);
}

#[test]
fn a_dns_server_of_the_program_itself_proves_nothing() {
    for (protocol, port, can_be_dns) in [(17, 53, true), (17, 5335, true), (6, 53, true), (6, 5335, false)] {
        let mut run = named_run();
        let flow = Traffic::Flow(key(protocol, 40_000, address("127.0.0.1"), port));
        run.loopback = of([on_loopback(growth(flow, (1, 60), (1, 90)))]).loopback;
        let words: &[&str] = if can_be_dns { &["a DNS server of its own"] } else { &[] };
        assert_uncertain(&check(&[&run], BY_NAME), words);
        assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    }
}

#[test]
fn folded_flows_of_the_loopback_can_hide_a_service_of_the_host() {
    let mut run = named_run();
    run.loopback =
        of([on_loopback(tcp(key(6, 43_000, address("127.0.0.1"), 6379), 40_000, (12, 900), (11, 5_100)))]).loopback;
    assert_uncertain(&check(&[&run], BY_NAME), &[]);
    run.loopback.flows.clear();
    run.interface.host_loopback.clear();
    assert_uncertain(&check(&[&run], BY_NAME), &["23 packets on the loopback"]);
    assert_uncertain(&check(&[&run], BY_ADDRESS), &[]);
    run.interface.host_loopback = ["tcp 127.0.0.1:6379"].map(|text| text.parse().unwrap()).into();
    assert_uncertain(&check(&[&run], BY_ADDRESS), &["23 packets on the loopback"]);
    assert_uncertain(&check(&[&imported(&run)], BY_ADDRESS), &["23 packets on the loopback"]);
}

#[test]
fn a_service_of_the_host_on_the_loopback_is_the_host() {
    let at = |protocol, port| {
        let connection = growth(Traffic::Flow(key(protocol, 40_000, address("127.0.0.1"), port)), (1, 60), (1, 90));
        on_loopback(connection)
    };
    let mut run = of([at(6, 5432), at(17, 53), at(6, 6379)]);
    run.interface.host_loopback = ["tcp 127.0.0.1:5432", "udp 127.0.0.1:53"].map(|text| text.parse().unwrap()).into();
    assert_eq!(subjects(&check(&[&run], "")), ["tcp/5432 the host itself", "udp/53 the host itself"]);
    assert_uncertain(&check(&[&run], "[[allow]]\naddress = \"host\"\n"), &[]);
    assert_eq!(check(&[&imported(&run)], "").violations, check(&[&run], "").violations);
}

#[test]
fn a_json_report_gives_the_same_verdict() {
    let run = everything();
    let imported = imported(&run);
    for rules in ["", BY_NAME, BY_ADDRESS, "[[allow]]\nname = \"app.example\"\nport = 443\n"] {
        let (own, other) = (check(&[&run], rules), check(&[&imported], rules));
        assert_eq!((own.violations, own.uncertain), (other.violations, other.uncertain), "{rules}");
    }
}

#[test]
fn a_json_report_is_as_uncertain_as_its_run() {
    let mut open = named_run();
    open.balance.state = BalanceState::Open;
    let mut cut = named_run();
    let ended_early = Some(EndedEarly { offset: 4_096, cause: "the file ends in a packet".into() });
    cut.replay = Some(Replay { file: "a.pcap".into(), ended_early, ..Default::default() });
    let mut sockets = named_run();
    let socket = |path: &str, failed, missing| LocalSocket {
        path: path.into(),
        connections: 2,
        failed,
        missing,
        processes: vec![],
    };
    sockets.processes.local_sockets =
        vec![socket("/run/docker.sock", 1, 1), socket("/run/a.sock", 2, 0), socket("@b", 0, 2)];
    let expected: [(_, &[&str], usize); 3] =
        [(open, &["the balance is open"], 0), (cut, &["up to byte 4096"], 0), (sockets, &[], 1)];
    for (run, uncertain, notes) in expected {
        let (own, other) = (check(&[&run], BY_ADDRESS), check(&[&imported(&run)], BY_ADDRESS));
        assert_eq!((&own.uncertain, &own.notes, own.fails()), (&other.uncertain, &other.notes, other.fails()));
        assert!(own.uncertain.iter().zip(uncertain).all(|(text, words)| text.contains(words)), "{own:?}");
        assert_eq!((own.uncertain.len(), own.notes.len()), (uncertain.len(), notes), "{own:?}");
    }
}

#[test]
fn a_capture_has_no_resolver_of_its_own() {
    let mut run = of([open("203.0.113.53", 17, 53)]);
    run.replay = Some(Replay { file: "a.pcap".into(), ..Replay::default() });
    assert_eq!(subjects(&check(&[&run], "")), ["udp/53 203.0.113.53"], "not recognized as DNS");
    let application = netwatch::report::ApplicationProtocol { name: "dns".into(), evidence: "message".into() };
    run.flows[0].naming = Some(Box::new(FlowNaming { application: Some(application), ..FlowNaming::default() }));
    assert_eq!(subjects(&check(&[&run], "")), Vec::<String>::new());
}
