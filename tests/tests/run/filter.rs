//! Filters of captures: which packets are in the file, what is counted, and what is reported when
//! an expression is wrong or the kernel cannot apply it.

use std::fs;

use netwatch_tests::{FinishedRun, TestHost, internet, needs};
use serde_json::Value;

const DOWNLOAD: [&str; 6] = ["curl", "-4", "-s", "http://app.example/big", "-o", "/dev/null"];

/// Runs a download with these flags of a capture. Returns the run and its report.
fn capture(host: &TestHost, flags: &[&str]) -> (FinishedRun, Value) {
    let before = ["run", "-j", "-o", "run.json", "--force", "-w", "x.pcapng"];
    let run = host.netwatch(&[&before[..], flags, &["--"], &DOWNLOAD].concat());
    run.assert_ok();
    let report = json(host, "run.json");
    (run, report)
}

fn json(host: &TestHost, name: &str) -> Value {
    let text = fs::read_to_string(host.dir().join(name)).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

/// The report of a capture file.
fn replay(host: &TestHost, flags: &[&str]) -> Value {
    host.netwatch(&[&["replay", "-j", "-o", "replay.json"][..], flags].concat()).assert_ok();
    json(host, "replay.json")
}

fn ports(report: &Value) -> Vec<u64> {
    let flows = report["flows"].as_array().expect("flows");
    let mut ports: Vec<u64> = flows.iter().filter_map(|flow| flow["remote_port"].as_u64()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn packets(report: &Value) -> u64 {
    ["egress", "ingress"].map(|way| report["totals"][way]["packets"].as_u64().unwrap_or(0)).iter().sum()
}

fn notes(report: &Value) -> String {
    report["notes"].to_string()
}

/// Seen, captured, filtered and lost, as the note about the filter has them.
fn balance(report: &Value) -> [u64; 4] {
    let notes = notes(report);
    let (_, note) = notes.split_once("the capture has a filter: ").unwrap_or_else(|| panic!("{notes}"));
    let numbers: Vec<u64> = note.split(' ').filter_map(|word| word.parse().ok()).take(4).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{notes}"))
}

#[test]
fn only_matching_packets_are_captured_and_all_are_counted() {
    let net = internet!();
    let (_, report) = capture(&net.host, &["--super-frames", "--filter", "tcp port 80"]);
    assert!(ports(&report).contains(&53) && ports(&report).contains(&80), "flows are never filtered: {report}");
    let file = replay(&net.host, &["x.pcapng"]);
    assert_eq!(ports(&file), [80]);
    let [seen, captured, filtered, lost] = balance(&report);
    assert_eq!((captured, lost), (packets(&file), 0), "{}", notes(&report));
    assert!(filtered > 0 && seen == captured + filtered, "{}", notes(&report));
    assert!(!notes(&report).contains("not by the kernel"), "{}", notes(&report));
}

#[test]
fn the_file_states_the_filter_and_its_counts() {
    let net = internet!();
    needs!("capinfos");
    let (_, report) = capture(&net.host, &["--super-frames", "--filter", "udp port 53"]);
    let [seen, captured, filtered, _] = balance(&report);
    let facts = net.host.sh("capinfos x.pcapng");
    assert!(facts.contains("udp port 53"), "{facts}");
    let file = fs::read(net.host.dir().join("x.pcapng")).expect("a file");
    // Received, dropped and accepted of the interface statistics: options 4, 5 and 6.
    let option = |code: u16, value: u64| [&code.to_le_bytes()[..], &8_u16.to_le_bytes(), &value.to_le_bytes()].concat();
    let statistics = [option(4, seen), option(5, 0), option(6, captured)].concat();
    assert!(file.windows(statistics.len()).any(|window| window == statistics), "{seen} seen, {captured} captured");
    let comment = format!("capture: {seen} packets seen = {captured} captured + {filtered} filtered + 0 lost");
    assert!(file.windows(comment.len()).any(|window| window == comment.as_bytes()), "{comment}");
}

/// The payload of TCP is outside the linear part of the kernel's buffers.
#[test]
fn a_filter_reads_the_payload() {
    let net = internet!();
    let get = "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420";
    let (_, report) = capture(&net.host, &["--filter", get]);
    let [seen, captured, filtered, lost] = balance(&report);
    assert_eq!((captured, lost, filtered), (1, 0, seen - 1), "{}", notes(&report));
    assert_eq!(packets(&replay(&net.host, &["x.pcapng"])), 1);
}

#[test]
fn a_replay_filters_as_a_capture_does() {
    let net = internet!();
    needs!("tcpdump");
    let (_, whole) = capture(&net.host, &[]);
    for (expression, count) in [("udp port 53", "udp port 53"), ("tcp and outbound", "tcp dst port 80"), ("arp", "arp")]
    {
        let file = replay(&net.host, &["--filter", expression, "x.pcapng"]);
        let expected = net.host.sh(&format!("tcpdump -r x.pcapng '{count}' 2>/dev/null | wc -l"));
        let counted = ["egress", "ingress"].map(|way| file["balance"]["counted"][way]["skbs"].as_u64().unwrap_or(0));
        assert_eq!(counted.iter().sum::<u64>().to_string(), expected.trim(), "{expression}");
        assert!(notes(&file).contains("did not match the filter"), "{file}");
    }
    let none = replay(&net.host, &["x.pcapng"]);
    assert_eq!(packets(&none), packets(&whole), "without a filter everything is counted");
}

#[test]
fn a_wrong_expression_is_refused_before_the_run() {
    let net = internet!();
    let before = net.host.state();
    for (flags, expected) in [
        (["--filter", "tcp prt 80"], "cannot compile filter tcp prt 80: syntax error at column 5"),
        (["--filter", "udp and port nothing"], "unknown port 'nothing' at column 14"),
        (["--filter-code", "missing"], "cannot read filter code of missing: No such file or directory (ENOENT)"),
        (["--filter-code", "wrong"], "cannot use filter code of wrong: instruction 0 has the unknown code 0xff"),
    ] {
        fs::write(net.host.dir().join("wrong"), "2\n255 0 0 0\n6 0 0 0\n").expect("written");
        let arguments = [&["run", "-w", "x.pcapng"][..], &flags, &["--", "touch", "ran"]].concat();
        let run = net.host.netwatch(&arguments);
        assert!(run.assert_code(125).stderr.contains(expected), "{run}");
    }
    assert!(!net.host.dir().join("ran").exists(), "the command was not started");
    net.host.assert_nothing_left(&before);
}

#[test]
fn code_of_tcpdump_filters_as_its_expression() {
    let net = internet!();
    needs!("tcpdump");
    net.host.sh("tcpdump -y EN10MB -ddd 'udp port 53' > dns.bpf");
    let (_, report) = capture(&net.host, &["--filter-code", "dns.bpf"]);
    assert_eq!(ports(&replay(&net.host, &["x.pcapng"])), [53]);
    let [seen, captured, filtered, _] = balance(&report);
    assert!(captured >= 2 && seen == captured + filtered, "{}", notes(&report));
    let facts = String::from_utf8_lossy(&fs::read(net.host.dir().join("x.pcapng")).expect("a file")).into_owned();
    assert!(facts.contains("filter code: dns.bpf"), "the file states where its packets come from");
}

#[test]
fn a_filter_that_the_kernel_cannot_apply_is_applied_in_user_space_and_reported() {
    let net = internet!();
    let filter = "ip6 protochain 6 or ip protochain 6";
    let (_, report) = capture(&net.host, &["--super-frames", "-s", "80", "--filter", filter]);
    assert!(notes(&report).contains("is filtered by netwatch and not by the kernel"), "{}", notes(&report));
    let file = replay(&net.host, &["x.pcapng"]);
    assert_eq!(ports(&file), [80]);
    let [seen, captured, filtered, lost] = balance(&report);
    assert_eq!((captured, lost), (packets(&file), 0), "{}", notes(&report));
    assert!(filtered > 0 && seen == captured + filtered, "{}", notes(&report));
    let size = net.host.dir().join("x.pcapng").metadata().expect("a file").len();
    assert!(size < report["totals"]["ingress"]["wire_bytes"].as_u64().expect("a number") / 2, "heads only: {size}");
}

#[test]
fn printed_packets_are_filtered_too() {
    let net = internet!();
    let run =
        net.host.netwatch(&[&["run", "-q", "--packets", "--filter", "tcp port 80", "--"][..], &DOWNLOAD].concat());
    let text = &run.assert_ok().stderr;
    assert!(text.contains("Flags [S]") && !text.contains("DNS "), "{text}");
}

#[test]
fn a_tail_shows_only_matching_packets() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("echo ready; until [ -e {} ]; do curl -s -o /dev/null http://app.example/; done", gate.path());
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = net.host.netwatch(&["tail", "-c", "4", "--filter", "udp port 53"]);
    let lines: Vec<_> = tail.assert_ok().stdout.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.contains("DNS ")), "{tail}");
    let wrong = net.host.netwatch(&["tail", "--filter", "udp prt 53"]);
    assert!(wrong.assert_code(2).stderr.contains("syntax error at column 5"), "{wrong}");
    gate.open();
    run.finish().assert_ok();
}
