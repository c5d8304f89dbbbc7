//! `--status`: numbers of a run while it lasts, on a terminal and as lines of JSON.

use std::process::Command;

use netwatch_tests::{StartOptions, TestHost, Tmux, internet, needs, wait_until};
use serde_json::Value;

const SIZE: (u16, u16) = (100, 12);
/// Part of every status line.
const LINE: &str = "connections open, ";

/// `netwatch run FLAGS -- sh -c SCRIPT` in tmux.
fn run<'h>(host: &'h TestHost, flags: &str, script: &str) -> Tmux<'h> {
    let command = format!("{} run --no-record {flags} -- sh -c '{script}'", host.binary().display());
    Tmux::start(host, SIZE, &command)
}

#[track_caller]
fn wait_for_line(tmux: &Tmux<'_>) {
    tmux.wait_until("a status line", |screen| screen.lines().last().is_some_and(|last| last.contains(LINE)));
}

#[test]
fn a_line_appears_while_the_command_is_quiet_and_its_output_stays_whole() {
    needs!("tmux");
    let net = internet!();
    let (quiet, end) = (net.host.gate(), net.host.gate());
    // More lines than the terminal has rows, so that it scrolls below and above the line.
    let script = format!(
        "curl -s -o /dev/null http://app.example/; echo one; {}; seq -f line-%g 100 130; printf no-newline; {}; echo done",
        quiet.wait(),
        end.wait()
    );
    let tmux = run(&net.host, "", &script);
    wait_for_line(&tmux);
    assert!(tmux.rows().iter().any(|row| row == "one"), "{}", tmux.screen());
    quiet.open();
    tmux.wait_for("no-newline");
    wait_for_line(&tmux);
    end.open();
    tmux.wait_for("ended-0");
    let shown = tmux.history();
    assert!(!shown.contains(LINE), "the line disappeared: {shown}");
    let expected: Vec<String> = (100..=130).map(|number| format!("line-{number}")).collect();
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("line-")).collect();
    assert_eq!(lines, expected, "{shown}");
    assert!(shown.lines().any(|line| line == "no-newlinedone"), "{shown}");
    assert!(shown.contains("verified"), "the summary is there: {shown}");
    assert_eq!(tmux.property("scroll_region_lower"), (SIZE.1 - 1).to_string(), "the last row scrolls again");
}

#[test]
fn there_is_no_line_with_quiet_or_off_or_while_the_command_edits_lines_itself() {
    needs!("tmux");
    let net = internet!();
    let lined = net.host.gate();
    let scripts = [
        ("-q", format!("echo ready; {}", lined.wait())),
        ("--status off", format!("echo ready; {}", lined.wait())),
        // As a shell while it edits its line, and as programs that draw on the whole terminal.
        ("", format!("stty -icanon -echo; echo ready; {}", lined.wait())),
    ];
    let without: Vec<Tmux<'_>> = scripts.iter().map(|(flags, script)| run(&net.host, flags, script)).collect();
    without.iter().for_each(|tmux| tmux.wait_for("ready"));
    // One that started later has its line.
    let with = run(&net.host, "", &format!("echo ready; {}", lined.wait()));
    wait_for_line(&with);
    for tmux in &without {
        assert!(!tmux.history().contains(LINE), "{}", tmux.history());
    }
    lined.open();
    without.iter().for_each(|tmux| tmux.wait_for("ended-0"));
}

#[test]
fn a_stopped_run_removes_its_line_and_shows_it_again_when_it_continues() {
    needs!("tmux");
    let net = internet!();
    let end = net.host.gate();
    let command = format!("{} run --no-record -- sh -c '{}'", net.host.binary().display(), end.wait());
    let tmux = Tmux::start(&net.host, SIZE, "PS1=prompt-; export PS1; sh -i");
    tmux.wait_for("prompt-");
    tmux.keys(&[&command, "Enter"]);
    wait_for_line(&tmux);
    tmux.keys(&["C-z"]);
    tmux.wait_until("a prompt without the line", |screen| !screen.contains(LINE) && screen.contains("Stopped"));
    tmux.keys(&["fg", "Enter"]);
    wait_for_line(&tmux);
    end.open();
    tmux.wait_until("the end of the run", |screen| screen.contains("verified") && !screen.contains(LINE));
}

#[test]
fn a_killed_netwatch_leaves_a_terminal_that_scrolls_everywhere() {
    needs!("tmux");
    let net = internet!();
    let tmux = run(&net.host, "", "echo ready; exec sleep 1000");
    wait_for_line(&tmux);
    let pid = net.host.sh("cat /run/netwatch/????????/card.json");
    let pid = serde_json::from_str::<Value>(&pid).expect("a card")["pid"].as_i64().expect("a pid");
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("start kill");
    assert!(killed.success());
    tmux.wait_for("ended-137");
    let last_row = (SIZE.1 - 1).to_string();
    wait_until(|| tmux.property("scroll_region_lower") == last_row, || "the whole terminal scrolls".to_owned());
}

#[test]
fn json_lines_match_their_schema_and_the_report() {
    let net = internet!();
    let end = net.host.gate();
    let script = format!("curl -s -o /dev/null http://app.example/; {}", end.wait());
    let run = net.host.start_with(StartOptions::default(), &["--status", "json:1"], &["sh", "-c", &script]);
    let lines = |stderr: &str| -> Vec<Value> {
        let lines = stderr.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    // The connection of curl ends, and neither it nor the lookup of its name stays open.
    let has_none_open = |lines: &[Value]| {
        let last = lines.last().map(|line| &line["connections"]);
        last.is_some_and(|last| last["opened"].as_u64() >= Some(2) && last["open"].as_u64() == Some(0))
    };
    let is_seen = |lines: &[Value]| lines.len() >= 3 && has_none_open(lines);
    wait_until(|| is_seen(&lines(&run.stderr())), || format!("three lines, none open: {}", run.stderr()));
    end.open();
    let run = run.finish();
    let lines = lines(&run.assert_ok().stderr);
    for line in &lines {
        let keys: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["connections", "duration_ns", "egress", "event", "failures", "ingress", "lost", "schema", "time"],
            "docs/live.md lists the keys"
        );
        assert_eq!((line["schema"].as_u64(), line["event"].as_str()), (Some(1), Some("status")), "{line}");
        for way in ["egress", "ingress"] {
            for key in ["packets", "wire_bytes", "wire_bytes_per_second"] {
                assert!(line[way][key].is_u64(), "{way} {key}: {line}");
            }
        }
        for key in ["opened", "open", "failed"] {
            assert!(line["connections"][key].is_u64(), "{key}: {line}");
        }
    }
    let durations: Vec<u64> = lines.iter().filter_map(|line| line["duration_ns"].as_u64()).collect();
    assert!(durations.is_sorted() && durations.len() == lines.len(), "{durations:?}");
    // The connection to the web server and the lookup of its name.
    let last = lines.last().expect("a line");
    assert!(last["connections"]["opened"].as_u64() >= Some(2), "{last}");
    assert_eq!(last["failures"].as_u64(), Some(0), "{last}");
    let totals = &run.report()["totals"];
    for way in ["egress", "ingress"] {
        assert!(last[way]["wire_bytes"].as_u64() <= totals[way]["wire_bytes"].as_u64(), "{last} {totals}");
    }
}
