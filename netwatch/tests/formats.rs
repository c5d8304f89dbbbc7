//! NDJSON, CSV and Markdown, held by snapshots and by what their readers need of them.

mod sample;

use std::collections::BTreeMap;

use netwatch::format::{csv, json, markdown};
use netwatch::report::Report;
use sample::{outputs, rich};
use serde_json::Value;
use snapbox::{assert_data_eq, file};

fn ndjson(report: &Report) -> String {
    let mut text = Vec::new();
    json::lines::write(report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn as_csv(report: &Report) -> String {
    let mut text = Vec::new();
    csv::write_header(&mut text).unwrap();
    csv::write(report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn as_markdown(report: &Report) -> String {
    let mut text = Vec::new();
    markdown::write(report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn markdown_of_a_build() {
    assert_data_eq!(as_markdown(&rich::build()), file!["snapshots/build.md"].raw());
}

#[test]
fn markdown_has_no_number_of_failures_that_may_be_unknown() {
    let mut report = rich::build();
    report.processes.local_sockets.iter_mut().for_each(|peer| peer.failed = 0);
    let text = as_markdown(&report);
    assert!(text.contains("| Path | Connections |\n|---|--:|\n| `/run/docker.sock` | 2 |\n"), "{text}");
}

#[test]
fn markdown_of_a_capture() {
    let table = sample::download();
    let report = sample::report(sample::replayed(&table, netwatch::flow::Amount::default()), &table);
    assert_data_eq!(as_markdown(&report), file!["snapshots/replay.md"].raw());
}

#[test]
fn markdown_of_nothing() {
    let table = netwatch::flow::FlowTable::default();
    let report = sample::report(sample::facts(&table, &["true"]), &table);
    assert!(as_markdown(&report).contains("None: no outgoing connection was answered."));
}

#[test]
fn markdown_has_every_name_of_an_address() {
    let flow = |port, sent| sample::tcp(sample::key(6, port, sample::v4(10), 443), 1, (3, sent), (2, 200));
    let mut table = sample::table([flow(1, 1_000), flow(2, 2_000), flow(3, 4_000)]);
    // No datagram to this endpoint was answered, and only some came back as errors: not all failed.
    let log = |port| {
        sample::growth(netwatch::flow::Traffic::Flow(sample::key(17, port, sample::v4(51), 514)), (1, 90), (0, 0))
    };
    (4..6).for_each(|port| drop(table.apply(log(port))));
    table.note_icmp_error(netwatch::flow::QuotedError {
        flow: sample::key(17, 4, sample::v4(51), 514),
        error: netwatch::flow::IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 0,
    });
    let mut report = sample::report(sample::facts(&table, &["app"]), &table);
    for flow in &mut report.flows {
        let name = match flow.flow.key.local.port {
            1 => "a.example",
            2 => "b.example",
            _ => continue,
        };
        let display_name =
            netwatch::report::DisplayName { name: sample::scene::name(name), source: netwatch::name::NameSource::Sni };
        flow.naming =
            Some(Box::new(netwatch::report::FlowNaming { display_name: Some(display_name), ..Default::default() }));
    }
    let text = as_markdown(&report);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for (host, port, connections, sent) in [
        ("`a.example`", "tcp/443", "1", "1.00 kB"),
        ("`b.example`", "tcp/443", "1", "2.00 kB"),
        ("(no name)", "tcp/443", "1", "4.00 kB"),
        ("(no name)", "udp/514", "2", "180 B"),
    ] {
        let is = |row: &&Vec<&str>| row.len() == 10 && row[1] == host && row[2] == port;
        let row = rows.iter().find(is).unwrap_or_else(|| panic!("{host}: {text}"));
        assert_eq!((row[6], row[7]), (connections, sent), "{text}");
    }
}

#[test]
fn markdown_names_what_a_wrapper_ran() {
    let mut report = rich::build();
    let shell = &mut report.processes.list[0];
    (shell.comm, shell.exe) = ("sh".into(), Some("/bin/sh".into()));
    shell.cmdline = Some(["sh", "-c", "cargo build"].map(str::to_owned).into());
    let text = as_markdown(&report);
    assert!(text.starts_with("# Network traffic of `") && !text.starts_with("# Network traffic of `sh`"), "{text}");
}

#[test]
fn markdown_lists_gaps() {
    let mut table = netwatch::flow::FlowTable::new(1);
    for host in 1..=5 {
        table.apply(sample::growth(
            netwatch::flow::Traffic::Flow(sample::key(17, 1, sample::v4(host), 99)),
            (1, 90),
            (1, 90),
        ));
    }
    let mut facts = sample::facts(&table, &["app"]);
    facts.complete = false;
    let text = as_markdown(&sample::report(facts, &table));
    for gap in ["the run had not ended", "the endpoint table was full, some remotes of udp"] {
        assert!(text.contains(&format!("\n- **Incomplete**: {gap}")), "{gap}: {text}");
    }
}

#[test]
fn nothing_from_the_wire_is_markup() {
    let text = as_markdown(&rich::hostile());
    for line in text.lines() {
        let mut outside = String::new();
        let mut rest = line;
        // Code spans as CommonMark reads them: from a run of backticks to the next run of the same
        // length.
        while let Some(at) = rest.find('`') {
            outside += &rest[..at];
            let fence = &rest[at..at + rest[at..].chars().take_while(|c| *c == '`').count()];
            let inside = &rest[at + fence.len()..];
            let end = inside
                .match_indices(fence)
                .find(|(at, _)| !inside[..*at].ends_with('`') && !inside[at + fence.len()..].starts_with('`'));
            let Some((end, _)) = end else { panic!("a code span without an end: {line}") };
            rest = &inside[end + fence.len()..];
        }
        outside += rest;
        assert!(!outside.contains(['<', '>']) && !outside.contains("onerror"), "{line}");
        if line.starts_with('|') {
            let cells = line.replace(r"\|", "").matches('|').count();
            assert!([4, 5, 9].contains(&cells), "{cells}: {line}");
        }
    }
}

#[test]
fn csv_of_a_build() {
    assert_data_eq!(as_csv(&rich::build()), file!["snapshots/build.csv"].raw());
}

#[test]
fn csv_adds_up_and_is_read_by_others() {
    let report = rich::hostile();
    let text = as_csv(&report);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let sum = |column: &str| {
        let on_link = rows.iter().filter(|row| row["kind"] != "loopback_flow");
        on_link.map(|row| row[column].parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!(sum("egress_wire_bytes"), report.totals.egress.wire_bytes);
    assert_eq!(sum("ingress_packets"), report.totals.ingress.packets);
    assert_eq!(sum("egress_skbs"), report.totals.egress.skbs);
    let formula = |cell: &String| cell.starts_with(['=', '+', '-', '@']);
    assert!(!rows.iter().flat_map(BTreeMap::values).any(formula));
    assert!(rows.iter().any(|row| row["name"].contains("</script>")), "it is all there");
}

#[test]
fn each_line_is_an_object_with_a_type() {
    let report = rich::build();
    let text = ndjson(&report);
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["run_id"], "3f2a");
        *types.entry(object["type"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected = [
        ("report", 1),
        ("endpoint", report.endpoints.len()),
        ("flow", report.flows.len()),
        ("loopback_flow", report.loopback.flows.len()),
        ("lookup", report.naming.lookups.len()),
        ("attempt", report.attempts.len()),
        ("process", report.processes.list.len()),
        ("local_socket", report.processes.local_sockets.len()),
        ("interval", report.series.intervals.len()),
        ("endpoint_series", report.series.endpoints.len()),
    ];
    assert_eq!(types, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn lines_hold_what_the_document_holds() {
    let report = rich::build();
    let mut document = Vec::new();
    json::write(&report, &mut document).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let lines: Vec<Value> = ndjson(&report).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |wanted: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["type"] == wanted).map(|line| line[wanted].clone()).collect()
    };
    for (list, name) in [
        ("endpoints", "endpoint"),
        ("flows", "flow"),
        ("attempts", "attempt"),
        ("processes", "process"),
        ("local_sockets", "local_socket"),
    ] {
        assert_eq!(document[list], Value::from(of(name)), "{list}");
    }
    let head = of("report").remove(0);
    let missing = document.as_object().unwrap().keys().filter(|key| head.get(key).is_none()).collect::<Vec<_>>();
    assert_eq!(
        missing,
        ["attempts", "endpoints", "flows", "local_sockets", "processes", "series"],
        "what the head leaves out has lines of its own"
    );
    assert_eq!(document["dns"]["lookups"], Value::from(of("lookup")));
    assert_eq!(document["series"]["intervals"], Value::from(of("interval")));
    assert_eq!(document["series"]["endpoints"], Value::from(of("endpoint_series")));
    assert_eq!(document["loopback"]["flows"], Value::from(of("loopback_flow")));
}

#[test]
fn every_column_and_type_is_documented() {
    let docs = include_str!("../../docs/report.md");
    let types = [
        "report",
        "endpoint",
        "flow",
        "loopback_flow",
        "lookup",
        "attempt",
        "process",
        "local_socket",
        "interval",
        "endpoint_series",
    ];
    let missing: Vec<_> =
        csv::COLUMNS.iter().chain(&types).filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/report.md does not document {missing:?}");
}

/// Folded flows have no names, so the share of flows without a name does not include them. Every
/// format for people states that in the same words.
#[test]
fn folded_flows_are_mentioned_beside_the_share_of_named_flows() {
    let of = |room: usize, flows: u8| {
        let mut table = netwatch::flow::FlowTable::new(room);
        let flow = |host| netwatch::flow::Traffic::Flow(sample::key(17, 1, sample::v4(host), 99));
        (1..=flows).for_each(|host| drop(table.apply(sample::growth(flow(host), (1, 90), (1, 90)))));
        sample::report(sample::facts(&table, &["app"]), &table)
    };
    let all = |report: &Report| {
        let outputs = outputs::reports(report);
        let people = ["summary", "markdown", "html"];
        let outputs = outputs.into_iter().filter(|(format, _)| people.iter().any(|begin| format.starts_with(begin)));
        let one_line = |text: String| text.replace('\u{a0}', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        outputs.map(|(format, text)| (format, one_line(text))).collect::<Vec<_>>()
    };
    for (room, flows, remark) in [
        (3, 4, Some("1 folded flow is not included")),
        (3, 7, Some("4 folded flows are not included")),
        // More than can be distinguished, so the number is a lower bound.
        (3, 100, Some("at least 12 folded flows are not included")),
        (3, 3, None),
    ] {
        let report = of(room, flows);
        assert_eq!(report.naming.flows.flows, 3, "those that are kept one by one");
        let formats = all(&report);
        assert_eq!(formats.len(), 5);
        for (format, text) in formats {
            assert!(text.contains("of 3 flows"), "{format}: {text}");
            assert_eq!(
                (text.contains("flow is not included") || text.contains("flows are not included")),
                remark.is_some(),
                "{format}: {text}"
            );
            assert!(remark.is_none_or(|remark| text.contains(remark)), "{format}: {text}");
        }
    }
    let html = all(&of(3, 100)).pop().expect("the last of them").1;
    assert!(html.contains("<span>in at least 15 flows</span>"), "{html}");
    assert!(html.contains("At least 12 more flows are not listed"), "{html}");
}

#[test]
fn the_services_of_markdown_have_the_sums_of_the_report() {
    use netwatch::flow::{Direction, Increment, Traffic};
    let came = |increment: Increment| Increment { opened_by: Direction::Ingress, ..increment };
    let mut refused = sample::failed(sample::key(6, 8080, sample::v4(21), 51_001), 1, true);
    let tcp = refused.tcp.as_mut().expect("TCP");
    std::mem::swap(&mut tcp.syns.egress, &mut tcp.syns.ingress);
    std::mem::swap(&mut tcp.resets.egress, &mut tcp.resets.ingress);
    let icmp_error = sample::growth(Traffic::Flow(sample::key(58, 0, sample::v6(20), 0)), (0, 0), (1, 110));
    let table = sample::table([
        came(sample::tcp(sample::key(6, 8080, sample::v4(20), 51_000), 1, (6, 4_500), (7, 812))),
        came(refused),
        came(icmp_error),
    ]);
    let report = sample::report(sample::facts(&table, &["./server"]), &table);
    let [service] = &report.services()[..] else { panic!("{:?}", report.services()) };
    assert_eq!((service.port, service.clients, service.connections), (8080, 2, 2), "an ICMP error has no port");
    let text = as_markdown(&report);
    let incoming = text.split("## ").find(|part| part.starts_with("Incoming")).expect("there are some");
    let rows: Vec<&str> = incoming.lines().filter(|line| line.contains("(clients)")).collect();
    assert_eq!(rows.len(), 1, "{incoming}");
    let numbers = format!("| {} | ", service.connections);
    assert!(rows[0].contains(&numbers) && rows[0].replace('\u{a0}', " ").ends_with("| 866 B |"), "{incoming}");
}
