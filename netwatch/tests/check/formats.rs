//! A verdict in each format.

use netwatch::allow::AllowList;
use netwatch::format::check::{CheckFormat, CheckedPolicy, write};
use netwatch::name::{NameSource, SourcedName};
use netwatch::process::{Evidence, FlowUser, LocalSocket, Process, ProcessId};
use netwatch::report::{FlowNaming, Report};
use serde_json::Value;
use snapbox::assert_data_eq;

use crate::sample::START_NS;
use crate::sample::rich::HOSTILE;
use crate::sample::scene::{connections, lookup, name};
use crate::{check, policy};

/// A policy that the run of [`violating`] does not meet, with a rule of every state.
pub const POLICY: &str = "# The shop.\n[[allow]]\nname = \"*.shop.example\"\nport = 443\nprotocol = \"tcp\"\nwhy = \"API\"\n\n\
    [[allow]]\nname = \"old.example\"\nport = 443\nuntil = 2026-01-31\n\n\
    [[allow]]\nname = \"mail.example\"\nport = 25\n";

/// A run with violations of several kinds, a lost observation and a local socket.
pub fn violating() -> Report {
    let mut run = connections(&[
        ("203.0.113.10", 443, Some("api.shop.example")),
        ("203.0.113.11", 8443, Some("api.shop.example")),
        ("203.0.113.12", 443, Some("old.example")),
        ("2001:db8::66", 443, None),
    ]);
    let process = |comm: &str| Process { comm: comm.into(), ..Process::default() };
    run.processes.list = vec![process("sh"), process("shop.py")];
    for known in &mut run.flows {
        known.users = vec![FlowUser { process: ProcessId(1), evidence: Evidence::Socket, is_maker: true }];
    }
    let claimed = SourcedName {
        name: name("api.shop.example"),
        source: NameSource::Sni,
        question: None,
        first_seen_ns: START_NS,
    };
    let last = run.flows.iter_mut().find(|known| known.flow.key.remote.addr.is_ipv6()).expect("a flow");
    last.naming = Some(Box::new(FlowNaming { names: vec![claimed], ..FlowNaming::default() }));
    run.naming.lookups.push(lookup(name("tracker.test"), vec![]));
    run.lost.samples = 7;
    run.processes.local_sockets = vec![LocalSocket {
        path: "/run/docker.sock".into(),
        connections: 1,
        failed: 0,
        missing: 0,
        processes: vec![ProcessId(1)],
    }];
    run
}

pub fn written(run: &Report, rules: &str, format: CheckFormat) -> String {
    let (list, verdict): (AllowList, _) = (policy(rules), check(&[run], rules));
    let checked = CheckedPolicy { file: "ci/netwatch.toml", list: &list, verdict: &verdict };
    let mut text = Vec::new();
    write(&checked, format, &mut text).expect("memory accepts every write");
    String::from_utf8(text).expect("text")
}

#[test]
fn matches_the_snapshots() {
    let text = |format| written(&violating(), POLICY, format);
    assert_data_eq!(text(CheckFormat::Text), snapbox::file!["../snapshots/check.txt"].raw());
    assert_data_eq!(text(CheckFormat::Markdown), snapbox::file!["../snapshots/check.md"].raw());
    assert_data_eq!(text(CheckFormat::Json), snapbox::file!["../snapshots/check.json"].raw());
    assert_data_eq!(text(CheckFormat::Junit), snapbox::file!["../snapshots/check.xml"].raw());
    assert_data_eq!(text(CheckFormat::Sarif), snapbox::file!["../snapshots/check.sarif"].raw());
    assert_data_eq!(text(CheckFormat::Github), snapbox::file!["../snapshots/check-github.txt"].raw());
    let passed = written(&connections(&[("203.0.113.10", 443, None)]), "[[allow]]\nport = 443\n", CheckFormat::Text);
    assert_data_eq!(passed, snapbox::file!["../snapshots/check-passed.txt"].raw());
}

/// A run with text in the names and the program that tries to end every format.
pub fn hostile() -> Report {
    let mut run = violating();
    let odd = name(&format!("{HOSTILE}]]>\u{fffe}```\n::error::x|y"));
    run.naming.lookups.push(lookup(odd.clone(), vec![[203, 0, 113, 11].into()]));
    let claimed = SourcedName { name: odd, source: NameSource::Http, question: None, first_seen_ns: START_NS };
    for known in &mut run.flows {
        known.naming = Some(Box::new(FlowNaming { names: vec![claimed.clone()], ..FlowNaming::default() }));
    }
    run.processes.list[1].comm = "\u{1b}[2J\u{202e}|`%\r::set-output".into();
    run
}

#[test]
fn hostile_text_stays_text() {
    for format in CheckFormat::ALL {
        let text = written(&hostile(), POLICY, format);
        let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(is_obeyed), "{format:?}: {text}");
    }
    let github = written(&hostile(), POLICY, CheckFormat::Github);
    let is_command =
        |line: &str| ["::error file=", "::warning file=", "::notice file="].iter().any(|start| line.starts_with(start));
    assert!(github.lines().all(is_command), "{github}");
}

#[test]
fn the_manual_documents_every_key_of_the_json() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/check.md")).expect("the manual");
    let document: Value = serde_json::from_str(&written(&violating(), POLICY, CheckFormat::Json)).expect("JSON");
    let mut keys = Vec::new();
    collect(&document, &mut keys);
    for key in keys {
        assert!(manual.contains(&format!("`{key}`")), "docs/check.md does not name {key}");
    }
}

fn collect(value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            keys.push(key.clone());
            collect(value, keys);
        }),
        Value::Array(list) => list.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}
