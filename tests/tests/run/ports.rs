//! `netwatch ports`: the list of a run, of a command, and of a JSON report.

use std::fs;

use netwatch_tests::internet;

#[test]
fn a_command_is_run_first_and_standard_output_holds_the_list_only() {
    let net = internet!();
    let script = "echo progress; curl -sS -o /dev/null http://app.example/; curl -sS http://app.example:81/; exit 3";
    let run = net.host.netwatch(&["ports", "--", "sh", "-c", script]);
    assert_eq!(run.code, Some(3), "{run}");
    assert!(run.stdout.starts_with("Network access required by curl\n\n"), "{run}");
    assert!(run.stderr.contains("progress\n") && !run.stdout.contains("progress"), "{run}");
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row =
        |start: &[&str]| rows.iter().find(|row| row.starts_with(start)).unwrap_or_else(|| panic!("{run}")).clone();
    row(&["outbound", "tcp", "80", "app.example", "HTTP", "curl"]);
    row(&["outbound", "tcp", "81", "app.example", "2", "refused", "curl"]);
    let (required, attempted) = run.stdout.split_once("Attempted only.").unwrap_or_else(|| panic!("{run}"));
    assert!(required.contains(" 80 ") && !required.contains(" 81 ") && attempted.contains(" 81 "), "{run}");
    for address in ["203.0.113.10", "2001:db8:1::10"] {
        assert!(run.stdout.contains(address), "{address}: {run}");
    }
    let words: Vec<&str> = run.stdout.split_whitespace().collect();
    assert!(!words.contains(&"sh"), "{run}");
}

#[test]
fn a_json_report_of_another_machine_is_a_run() {
    let net = internet!();
    let report = net.host.dir().join("report.json");
    net.host.run(&["-q"], &["curl", "-sS", "-o", "/dev/null", "http://app.example/"]).assert_ok();
    let list = net.host.netwatch(&["ports"]).stdout;
    net.host.netwatch(&["report", "--format", "json", "-o", &report.display().to_string()]);
    net.host.netwatch(&["history", "rm", "--all"]);
    let imported = net.host.netwatch(&["ports", &report.display().to_string()]);
    assert_eq!(imported.stdout, list, "{imported}");
    fs::remove_file(report).expect("written");
}

#[test]
fn a_run_in_progress_is_a_run() {
    let net = internet!();
    let end = net.host.gate();
    let script = format!("curl -sS -o /dev/null http://app.example/; echo ready; {}", end.wait());
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let id = net.host.sh("basename /run/netwatch/????????");
    for arguments in [&["ports", id.trim()][..], &["ports", &id[..4]], &["ports"]] {
        let list = net.host.netwatch(arguments);
        assert!(list.assert_ok().stdout.contains("app.example"), "{list}");
    }
    end.open();
    run.finish().assert_ok();
}
