//! Untrusted text (names, programs, arguments, paths) in every output: terminals do not interpret
//! it, and it is complete.

mod sample;

use netwatch::format::history::{RecordedFacts, RecordedRun, RecordingStatus};
use netwatch::format::json;
use netwatch::report::{EndedEarly, Replay, Report};
use sample::outputs::{self, written};
use sample::rich;

/// Each with what stands in its place where a name is shown.
fn texts() -> Vec<(&'static str, Vec<u8>, String)> {
    let all: [(&str, &[u8], &str); 6] = [
        ("markup", rich::HOSTILE.as_bytes(), ""),
        (
            "terminal",
            b"\x1b[2J\x1b]0;owned\x07\r\nx\x7f\xc2\x9b31m\x00y\x08\t",
            r"\027[2j\027]0;owned\007\013\010x\127\194\15531m\000y\008\009",
        ),
        ("reordered", "a\u{202e}b\u{2066}c\u{200f}d\u{feff}\u{2028}e".as_bytes(), r"a\226\128\174b"),
        ("invalid", b"\xff\xfe\xc0\x80\xf5x", r"\255\254\192\128\245x"),
        // Two letters are Cyrillic.
        ("homograph", "\u{430}\u{440}ple.example".as_bytes(), r"\208\176\209\128ple.example"),
        ("formula", b"=1+1", "=1+1"),
    ];
    let mut all: Vec<_> = all.map(|(what, bytes, shown)| (what, bytes.to_vec(), shown.to_owned())).into();
    all.push(("255 bytes", vec![b'x'; 255], "x".repeat(255)));
    all.push(("more", vec![b'x'; 2000], "x".repeat(255) + r"\…"));
    all
}

/// Of a run, and of a capture with the same in it.
fn outputs(report: &Report) -> Vec<(String, String)> {
    let hostile = &report.run.user;
    let replay = Replay {
        file: hostile.clone(),
        format: "pcap",
        link_types: vec![hostile.clone()],
        local: vec![hostile.clone()],
        ended_early: Some(EndedEarly { offset: 1, cause: hostile.clone() }),
        ..Replay::default()
    };
    let replayed = Report { replay: Some(replay), ..report.clone() };
    let of_capture = outputs_of(&replayed).into_iter().map(|(what, text)| (format!("{what} of a capture"), text));
    outputs_of(report).into_iter().chain(of_capture).collect()
}

fn outputs_of(report: &Report) -> Vec<(String, String)> {
    let held = RecordedFacts {
        command: report.run.command.clone(),
        started_ns: 0,
        duration_ns: 0,
        exit: None,
        egress_wire_bytes: 0,
        ingress_wire_bytes: 0,
    };
    let state = RecordingStatus::Unreadable(report.run.user.clone());
    let entry = RecordedRun {
        number: 1,
        id: "3f2a".into(),
        file: report.run.user.clone(),
        file_bytes: 1,
        state,
        facts: Some(held),
    };
    let mut all = outputs::reports(report);
    all.extend(outputs::rules(&[report]));
    all.extend(outputs::differences(&[&rich::build()], &[report]));
    all.extend(outputs::checks(&[report]));
    all.extend(outputs::history(entry));
    all.extend(outputs::exports(report));
    all
}

/// What moves a cursor, changes colours, hides or reorders what is around it.
fn is_obeyed(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[test]
fn nothing_is_obeyed_by_a_terminal() {
    for (what, bytes, _) in texts() {
        let report = rich::with_text(&bytes);
        for (output, text) in outputs(&report) {
            // Line ends are the output's own, those of CSV (RFC 4180) too.
            let text = text.replace("\r\n", "\n");
            let found = text.char_indices().find(|(_, c)| is_obeyed(*c));
            // Tabs indent nft's rules, which are on the page too.
            let found =
                found.filter(|(_, c)| !(*c == '\t' && (output.starts_with("rules") || output.starts_with("html"))));
            let around = found.map(|(at, _)| text[at.saturating_sub(80)..].chars().take(160).collect::<String>());
            assert!(found.is_none(), "{output} of {what}: {around:?}");
            // A line of its own would begin with what stands behind the line end, escaped.
            assert!(!text.lines().any(|line| line.starts_with(r"x\")), "{output} of {what}");
        }
    }
}

/// By one rule, so that it is the same name everywhere.
#[test]
fn names_are_shown_by_their_bytes() {
    for (what, bytes, shown) in texts() {
        let report = rich::with_text(&bytes);
        let name = report.endpoints[0].display_name.as_ref().expect("named").name.as_str();
        assert!(name.starts_with(&shown), "{what}: {name}");
        assert!(name.trim_end_matches('…').is_ascii(), "{what}: {name}");
        let in_json = serde_json::to_string(name).expect("text");
        for (output, text) in outputs(&report) {
            if ["json", "ndjson"].contains(&output.as_str()) {
                assert!(text.contains(&in_json), "{output} of {what}: {in_json}");
            }
            if output == "summary Endpoint 200" && name.len() < 50 {
                assert!(text.contains(&format!("\n{name} (198.51.100.20")), "{what}: {text}");
            }
        }
    }
}

/// JSON's readers get every byte that was there.
#[test]
fn json_is_whole() {
    for (what, bytes, _) in texts() {
        let report = rich::with_text(&bytes);
        let hostile = String::from_utf8_lossy(&bytes);
        let document = written(|out| json::write(&report, out).unwrap());
        let document: serde_json::Value =
            serde_json::from_str(&document).unwrap_or_else(|error| panic!("{what}: {error}"));
        for place in [
            "/processes/0/comm",
            "/processes/0/exe",
            "/processes/0/cmdline/0",
            "/local_sockets/0/path",
            "/run/command/0",
        ] {
            assert_eq!(
                document.pointer(place).and_then(serde_json::Value::as_str),
                Some(&*hostile),
                "{what} at {place}"
            );
        }
        for line in written(|out| json::lines::write(&report, out).unwrap()).lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}
