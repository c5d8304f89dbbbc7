//! `netwatch diff` on real runs: differences, exit codes, formats.

use std::fs;

use netwatch_tests::{TestInternet, addresses::*, internet};
use serde_json::Value;

use crate::TRAFFIC;

fn run(net: &TestInternet, command: &str) {
    net.host.run(&["-q"], &["sh", "-euc", command]).assert_ok();
}

/// A command that uses names, both families, TCP and UDP.
fn script() -> String {
    format!(
        "curl -sSk -o /dev/null https://app.example/ http://app.example/big; {TRAFFIC} udp {APP_V4}:{ECHO} 5 100; \
        curl -sS http://app.example:{REFUSED}/ || true; getent ahosts missing.example || true"
    )
}

#[test]
fn runs_of_the_same_command_do_not_differ() {
    let net = internet!();
    for _ in 0..3 {
        run(&net, &script());
    }
    for sides in [["3", "2"], ["2", "1"], ["3,2", "1"], ["1", "1"]] {
        let diff = net.host.netwatch(&["diff", sides[0], sides[1]]);
        assert!(diff.assert_code(0).stdout.contains("nothing differs"), "{diff}");
    }
}

#[test]
fn new_endpoints_are_listed_with_exit_code_1() {
    let net = internet!();
    run(&net, "curl -4 -sSk -o /dev/null https://app.example/");
    run(
        &net,
        &format!(
            "curl -4 -sSk -o /dev/null https://app.example/ http://app.example/big; {TRAFFIC} udp {APP_V4}:{ECHO} 5 100"
        ),
    );
    let diff = net.host.netwatch(&["diff", "2", "1"]);
    for line in ["+ tcp/80 out app.example", "+ udp/7 out", "+ http over tcp"] {
        assert!(diff.assert_code(1).stdout.contains(line), "{line}: {diff}");
    }
    let reversed = net.host.netwatch(&["diff", "1", "2"]);
    assert!(reversed.assert_code(1).stdout.contains("- tcp/80 out app.example"), "{reversed}");
    let json = net.host.netwatch(&["diff", "-j", "-o", "diff.json", "2", "1"]);
    assert!(json.assert_code(1).stdout.is_empty(), "{json}");
    let document: Value = serde_json::from_slice(&fs::read(net.host.dir().join("diff.json")).unwrap()).unwrap();
    assert_eq!((&document["schema"], &document["same"]), (&2.into(), &false.into()));
    let markdown = net.host.netwatch(&["diff", "--format", "markdown", "2", "1"]);
    assert!(
        markdown.assert_code(1).stdout.contains("| appeared | endpoints | `tcp/80 out app.example` |"),
        "{markdown}"
    );
}

#[test]
fn exit_codes_are_those_of_diff() {
    let net = internet!();
    run(&net, "true");
    run(&net, "curl -4 -sSk -o /dev/null https://app.example/");
    let table: [(&[&str], i32); 9] = [
        (&["1", "1"], 0),
        (&["2", "1"], 1),
        (&["-q", "2", "1"], 1),
        (&["--ignore", "appeared,changed", "--only", "endpoints", "2", "1"], 0),
        (&["--only", "failures", "2", "1"], 0),
        (&["2", "7"], 2),
        (&["no-such-file.netwatch", "1"], 2),
        (&["1,", "1"], 2),
        (&["--threshold", "0.5", "2", "1"], 2),
    ];
    for (arguments, code) in table {
        let diff = net.host.netwatch(&[&["diff"], arguments].concat());
        diff.assert_code(code);
        assert!(!arguments.contains(&"-q") || diff.stdout.is_empty(), "{diff}");
        assert_eq!(code == 2, !diff.stderr.is_empty(), "{diff}");
    }
}
