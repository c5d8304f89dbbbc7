//! The JSON document: snapshots, arithmetic, and the documentation of every key.

mod sample;
#[path = "policy/tool.rs"]
#[allow(dead_code, reason = "shared with the tests of other formats")]
mod tool;

use std::collections::BTreeSet;

use netwatch::flow::{Amount, FlowTable, IcmpError, Increment, Malformed, QuotedError, Traffic};
use netwatch::format::json;
use netwatch::report::{EndedBy, EndedEarly, ExitStatus, Facts, Report, ResourceUsage};
use sample::{download, download_report, facts, failed, growth, key, on_loopback, replayed, v4};
use serde_json::Value;
use snapbox::{assert_data_eq, file};

fn text(report: &Report) -> String {
    let mut text = Vec::new();
    json::write(report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn document(report: &Report) -> Value {
    serde_json::from_str(&text(report)).unwrap()
}

/// A report in which every optional key is present.
fn everything() -> Report {
    let mut table: FlowTable = download();
    let mut fragment = key(17, 0, v4(4), 0);
    fragment.fragment = true;
    let unreachable = key(17, 7, v4(9), 9);
    let increments: [Increment; 5] = [
        growth(Traffic::Flow(fragment), (1, 60), (0, 0)),
        growth(Traffic::Flow(unreachable), (1, 60), (0, 0)),
        growth(Traffic::NonIp(0x88cc), (1, 60), (0, 0)),
        growth(Traffic::Malformed(Malformed::IpLength), (0, 0), (1, 60)),
        on_loopback(failed(key(6, 6, v4(1), 5432), 1, true)),
    ];
    increments.into_iter().for_each(|increment| drop(table.apply(increment)));
    table.note_icmp_error(QuotedError {
        flow: unreachable,
        error: IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 0,
    });
    let facts = facts(&table, &["curl", "-sS", "https://app.example/"]);
    let usage = Some(ResourceUsage { user_ns: 310_000_000, system_ns: 90_000_000, memory_peak: Some(44_040_192) });
    let run = netwatch::report::Run {
        exit: Some(ExitStatus::Signal(15)),
        ended_by: Some(EndedBy::Signal(15)),
        usage,
        ..facts.run
    };
    let attempts = sample::processes::attempts();
    sample::named(Facts { run, attempts, ..facts }, &table)
}

#[test]
fn the_document() {
    assert_data_eq!(text(&everything()), file!["snapshots/everything.json"].raw());
}

/// The same of a capture, with every key that only a replay has.
fn replay() -> Report {
    let table = download();
    let mut facts = replayed(&table, Amount { skbs: 3, bytes: 4_321 });
    let replay = facts.replay.as_mut().unwrap();
    replay.local = vec!["198.51.100.0/24".to_owned()];
    replay.ended_early = Some(EndedEarly { offset: 123_456, cause: "stopped by a signal".to_owned() });
    sample::report(facts, &table)
}

#[test]
fn the_document_of_a_replay() {
    assert_data_eq!(text(&replay()), file!["snapshots/replay.json"].raw());
}

#[test]
fn optional_keys_are_left_out() {
    let table = FlowTable::default();
    let facts = facts(&table, &["true"]);
    let run = netwatch::report::Run { exit: None, ended_by: None, pid: None, ..facts.run };
    let report = sample::report(Facts { run, interface_counters: None, complete: false, ..facts }, &table);
    assert_data_eq!(text(&report), file!["snapshots/interim.json"].raw());
}

#[test]
fn parts_add_up_to_the_whole() {
    let json = document(&download_report());
    for direction in ["egress", "ingress"] {
        for counter in ["skbs", "bytes"] {
            let of = |value: &Value| {
                let equal = if counter == "skbs" { "packets" } else { "wire_bytes" };
                let of = &value[direction];
                of.get(counter).or(of.get(equal)).and_then(Value::as_u64).unwrap_or(0)
            };
            let sum = |list: &Value| list.as_array().unwrap().iter().map(of).sum::<u64>();
            let remainders: u64 = json["balance"]["remainders"].as_object().unwrap().values().map(of).sum();
            let flows = sum(&json["flows"]);
            assert_eq!(flows + of(&json["folded"]), of(&json["balance"]["flows"]));
            assert_eq!(sum(&json["endpoints"]), of(&json["balance"]["flows"]));
            assert_eq!(flows + remainders, of(&json["balance"]["interface"]));
            assert_eq!(json["balance"]["difference"][direction][counter], 0);
        }
    }
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../docs/json.md");
    let mut keys = BTreeSet::new();
    collect_keys(&document(&everything()), &mut keys);
    collect_keys(&document(&replay()), &mut keys);
    collect_keys(&document(&sample::rich::build()), &mut keys);
    let missing: Vec<_> = keys.iter().filter(|key| !docs.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/json.md does not document {missing:?}");
}

/// Validates the document on standard input. The published schema permits further keys, which later
/// versions may add; this one may not have any.
const VALIDATE: &str = "
import json, sys, jsonschema

def close(node):
    if isinstance(node, dict):
        if 'properties' in node:
            node['additionalProperties'] = False
        list(map(close, node.values()))

schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
close(schema)
jsonschema.validate(json.load(sys.stdin), schema, jsonschema.Draft202012Validator)
";

#[test]
fn documents_match_the_published_schema() {
    if !tool::has("python3-jsonschema", &[tool::PYTHON, "-c", "import jsonschema"]) {
        return;
    }
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/report.schema.json");
    let interim = include_str!("snapshots/interim.json").to_owned();
    for text in [text(&everything()), text(&replay()), text(&sample::rich::build()), interim] {
        tool::python(VALIDATE, &[schema], &text).assert_ok(&text);
        for (right, wrong) in [("\"flows\"", "\"flow\""), ("\"schema\": 2", "\"schema\": 3")] {
            let wrong = text.replacen(right, wrong, 1);
            assert!(!tool::python(VALIDATE, &[schema], &wrong).ok, "{right} is checked: {wrong}");
        }
    }
}

fn collect_keys(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            keys.insert(key.clone());
            collect_keys(inner, keys);
        }),
        Value::Array(list) => list.iter().for_each(|inner| collect_keys(inner, keys)),
        _ => {}
    }
}

/// The programs of the recipes in docs/json.md: what follows `jq` and its options, in quotes.
fn recipes() -> Vec<(Vec<String>, String)> {
    let page = include_str!("../../docs/json.md");
    let (_, section) = page.split_once("## Recipes for jq").expect("the section");
    let block = section.split("```").nth(1).expect("a block of code");
    let commands = block.split("\njq ").skip(1);
    let recipe = |command: &str| {
        let (options, rest) = command.split_once('\'').expect("a quote");
        let (program, _) = rest.split_once('\'').expect("its end");
        (options.split_whitespace().map(str::to_owned).collect(), program.to_owned())
    };
    commands.map(recipe).collect()
}

#[test]
fn the_recipes_of_the_page_run() {
    let recipes = recipes();
    assert_eq!(recipes.len(), 5, "{recipes:?}");
    if !tool::has("jq", &["jq", "--version"]) {
        return;
    }
    for report in [everything(), download_report()] {
        let text = text(&report);
        for (options, program) in &recipes {
            let output = tool::jq(options, program, &text);
            let is_test = options.iter().any(|option| option == "-e");
            assert!(output.ok || is_test && output.text.trim() == "false", "{program}: {}", output.text);
            assert!(!output.text.trim().is_empty(), "{program} prints nothing");
        }
    }
}
