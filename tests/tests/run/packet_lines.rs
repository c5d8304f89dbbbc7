//! Packets as lines: live, from a capture, and what tcpdump's flags change.

use std::fs;

use netwatch_tests::{TestHost, addresses::*, internet, needs};

use crate::TRAFFIC;

/// Runs a command whose packets are written to `x.pcapng` and printed to `lines.txt`.
fn record(host: &TestHost, script: &str) -> String {
    let flags = ["-q", "-w", "x.pcapng", "--packets=lines.txt"];
    host.run(&flags, &["sh", "-c", script]).assert_ok();
    fs::read_to_string(host.dir().join("lines.txt")).expect("the lines")
}

#[test]
fn the_lines_of_a_capture_are_those_of_the_run() {
    let net = internet!();
    let script =
        format!("curl -s http://app.example/ -o /dev/null; ping -c1 {APP_V4}; {TRAFFIC} udp {APP_V4}:{ECHO} 2 10");
    let live = record(&net.host, &script);
    let replayed = net.host.netwatch(&["replay", "--packets", "x.pcapng"]);
    assert_eq!(replayed.assert_ok().stdout, live, "{replayed}");
    for wanted in ["| app.example | curl[", "HTTP GET / HTTP/1.1", "ICMP echo request, id ", "ARP, Request who-has "] {
        assert!(live.contains(wanted), "{wanted}: {live}");
    }
    let limited = net.host.netwatch(&["replay", "--packets", "-c", "2", "-n", "-tttt", "-e", "x.pcapng"]);
    let text = &limited.assert_ok().stdout;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.starts_with("20") && text.contains(", ethertype "), "{text}");
}

#[test]
fn all_fragments_of_a_ping_have_its_process() {
    let net = internet!();
    let live = record(&net.host, &format!("ping -c1 -s 4000 {APP_V4}; ping -c1 -s 4000 {APP_V6}"));
    for (way, count) in [("-> ", 6), ("<- ", 6)] {
        let is_of_ping = |line: &&str| line.contains(way) && line.contains("fragment of ");
        let lines: Vec<_> = live.lines().filter(is_of_ping).collect();
        assert_eq!(lines.len(), count, "{live}");
        assert!(lines.iter().all(|line| line.contains("| ping[")), "{live}");
    }
}

#[test]
fn hellos_of_tls_are_shown_in_words() {
    let net = internet!();
    let live = record(&net.host, "curl -sk https://app.example/ -o /dev/null");
    for wanted in ["TLS ClientHello TLS 1.3 app.example (h2, http/1.1)", "TLS ServerHello TLS 1."] {
        assert!(live.contains(wanted), "{wanted}: {live}");
    }
}

/// The same bytes as `tcpdump -x` prints.
#[test]
fn bytes_are_printed_as_tcpdump_does() {
    let net = internet!();
    needs!("tcpdump");
    record(&net.host, "curl -s http://app.example/ -o /dev/null");
    net.host.netwatch(&["replay", "-q", "-w", "tcp.pcap", "--only", "endpoint=:80", "x.pcapng"]).assert_ok();
    for flag in ["-x", "-xx", "-X", "-XX"] {
        let ours = net.host.netwatch(&["replay", "--packets", flag, "tcp.pcap"]);
        let theirs = net.host.sh(&format!("tcpdump -n {flag} -r tcp.pcap 2>/dev/null"));
        let bytes = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with('\t')).map(|line| line.trim_end().to_owned()).collect()
        };
        let (ours, theirs) = (bytes(&ours.assert_ok().stdout), bytes(&theirs));
        assert!(ours.len() > 10, "{flag}: {ours:?}");
        assert_eq!(ours, theirs, "{flag}");
    }
}

/// Flags, sequence numbers, acknowledgments, windows and options of TCP are those of tcpdump.
#[test]
fn tcp_is_described_as_tcpdump_does() {
    let net = internet!();
    needs!("tcpdump");
    record(&net.host, "curl -s http://app.example/big -o /dev/null");
    net.host.netwatch(&["replay", "-q", "-w", "tcp.pcap", "--only", "endpoint=:80", "x.pcapng"]).assert_ok();
    let words = |text: &str| -> Vec<String> {
        let fields = |line: &str| Some(line.split_once("Flags [")?.1.split(", length ").next()?.to_owned());
        text.lines().filter_map(fields).collect()
    };
    let ours = net.host.netwatch(&["replay", "--packets", "tcp.pcap"]);
    let theirs = net.host.sh("tcpdump -n -r tcp.pcap 2>/dev/null");
    assert!(words(&theirs).len() > 20, "{theirs}");
    assert_eq!(words(&ours.assert_ok().stdout), words(&theirs));
}

#[test]
fn a_selection_leaves_out_packets_and_counts_all() {
    let net = internet!();
    let script = format!("curl -s http://app.example/ -o /dev/null; {TRAFFIC} udp {APP_V4}:{ECHO} 5 10");
    let flags = ["-q", "-w", "curl.pcapng", "--only", "process=curl", "--only", "endpoint=:80"];
    let run = net.host.run(&flags, &["sh", "-c", &script]);
    let counted = &run.assert_ok().report()["balance"]["counted"];
    let all = ["egress", "ingress"].map(|way| counted[way]["skbs"].as_u64().unwrap_or(0)).iter().sum::<u64>();
    let shown = net.host.netwatch(&["replay", "--packets", "curl.pcapng"]);
    let lines = shown.assert_ok().stdout.lines().count() as u64;
    assert!(shown.stdout.lines().all(|line| line.contains(".80") && line.contains("curl[")), "{shown}");
    assert!(lines >= 8 && lines + 10 <= all, "{lines} of {all}");
}

#[test]
fn a_closed_pipe_ends_the_lines_quietly() {
    let net = internet!();
    record(&net.host, "curl -s http://app.example/big -o /dev/null");
    let script = format!("{} replay --packets -x x.pcapng | head -1", net.host.binary().display());
    let text = net.host.sh(&format!("{script} 2>&1"));
    assert_eq!(text.lines().count(), 1, "{text}");
}
