//! `netwatch check` and `netwatch learn` on real traffic: verdicts, exit codes, lost observations.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use netwatch_tests::{FinishedRun, StartOptions, TestInternet, addresses::*, internet};
use serde_json::Value;

use crate::TRAFFIC;

const APP_ONLY: &str = "# The app.\n[[allow]]\nname = \"app.example\"\nport = [80, 443]\nprotocol = \"tcp\"\n";

fn write_policy(net: &TestInternet, text: &str) {
    fs::write(net.host.dir().join("netwatch.toml"), text).expect("write the policy");
}

fn check(net: &TestInternet, script: &str) -> FinishedRun {
    net.host.netwatch(&["check", "--", "sh", "-c", script])
}

#[test]
fn an_allowed_command_passes_with_its_own_exit_code() {
    let net = internet!();
    write_policy(&net, APP_ONLY);
    let script = "echo progress; curl -sSk -o /dev/null https://app.example/ http://app.example/";
    let run = check(&net, script);
    assert!(run.assert_ok().stdout.starts_with("netwatch.toml: passed\n"), "{run}");
    assert!(run.stderr.contains("progress\n") && !run.stdout.contains("progress"), "{run}");
    check(&net, &format!("{script}; exit 7")).assert_code(7);
    net.host.netwatch(&["check"]).assert_ok();
    let absent = net.host.netwatch(&["check", "--", "no-such-program"]);
    assert!(absent.assert_code(127).stdout.is_empty(), "{absent}");
}

#[test]
fn a_violation_names_the_program_the_evidence_and_the_lines_to_add() {
    let net = internet!();
    write_policy(&net, APP_ONLY);
    let script = "curl -4 -sSk -o /dev/null https://app.example/; curl -4 -sS http://app.example:81/; exit 7";
    let run = check(&net, script);
    run.assert_code(1);
    for line in [
        "netwatch.toml: 1 violation",
        "VIOLATION  tcp/81 to app.example",
        "  program  curl",
        "  address  203.0.113.10",
        "  name     app.example (DNS response)",
        "  count    1 connection, every attempt failed",
        "  nearest  netwatch.toml:2 (tcp/80, 443 app.example): the port differs",
        "    port = 81",
    ] {
        assert!(run.stdout.lines().any(|own| own == line), "{line}: {run}");
    }
    let added: Vec<&str> = run.stdout.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    write_policy(&net, &format!("{APP_ONLY}\n{}\n", added.join("\n")));
    net.host.netwatch(&["check"]).assert_ok();
    check(&net, script).assert_code(7);
}

#[test]
fn a_server_name_is_no_proof() {
    let net = internet!();
    write_policy(&net, "[[allow]]\nname = [\"app.example\", \"*.trusted.test\"]\n");
    let claim = |to: &str, host: &str| {
        check(&net, &format!("curl -4 -sSk -o /dev/null --connect-to {host}:443:{to}:443 https://{host}/"))
    };
    let unproven = claim(&APP_V4.to_string(), "cdn.trusted.test");
    let reason = "  reason   no DNS response gave cdn.trusted.test this address";
    assert!(unproven.assert_code(1).stdout.lines().any(|line| line == reason), "{unproven}");
    let contradicted = claim("app.example", "evil.test");
    let reason = "  reason   the server name evil.test contradicts the DNS response";
    assert!(contradicted.assert_code(1).stdout.lines().any(|line| line == reason), "{contradicted}");
    claim("app.example", "app.example").assert_ok();
}

#[test]
fn a_name_that_is_only_looked_up_needs_a_rule() {
    let net = internet!();
    write_policy(&net, APP_ONLY);
    let run = check(&net, "getent ahosts secret.evil.example || true");
    assert!(run.assert_code(1).stdout.contains("VIOLATION  lookup of secret.evil.example\n"), "{run}");
    write_policy(&net, &format!("lookups = \"any\"\n{APP_ONLY}"));
    net.host.netwatch(&["check"]).assert_ok();
}

#[test]
fn programs_of_rules_are_proven_by_their_sockets() {
    let net = internet!();
    let script = "curl -4 -sS -o /dev/null http://app.example/";
    write_policy(&net, &format!("{APP_ONLY}process = \"curl\"\n"));
    check(&net, script).assert_ok();
    write_policy(&net, &format!("{APP_ONLY}process = \"sh\"\n"));
    let run = check(&net, script);
    assert!(run.assert_code(1).stdout.contains("the program differs"), "a wrapper is not the program: {run}");
}

#[test]
fn what_is_learned_is_allowed_and_updates_keep_comments() {
    let net = internet!();
    let learned = "curl -sSk -o /dev/null https://app.example/; curl -sS http://app.example:81/; exit 3";
    let learn = net.host.netwatch(&["learn", "--", "sh", "-c", learned]);
    assert!(learn.assert_code(3).stdout.contains("# Learned by netwatch learn from run "), "{learn}");
    let policy = format!("# Reviewed by Ann.\n{}", learn.stdout);
    write_policy(&net, &policy);
    net.host.netwatch(&["check"]).assert_ok();
    let other = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 3 100; {learned}");
    check(&net, &other).assert_code(1);
    let update = net.host.netwatch(&["learn", "--update", "netwatch.toml"]);
    assert!(update.assert_ok().stderr.contains("1 rule added to netwatch.toml"), "{update}");
    let text = fs::read_to_string(net.host.dir().join("netwatch.toml")).expect("the policy");
    let added = format!("name = \"app.example\"  # traffic\nport = {ECHO}\nprotocol = \"udp\"\n");
    assert!(text.starts_with(&policy) && text.ends_with(&added), "{text}");
    net.host.netwatch(&["check"]).assert_ok();
    let again = net.host.netwatch(&["learn", "--update", "netwatch.toml"]);
    assert!(again.assert_ok().stderr.contains("allows these runs already"), "{again}");
}

#[test]
fn a_lost_observation_that_could_hide_a_violation_is_uncertain() {
    let net = internet!();
    // Stopped, netwatch reads no samples, and 16,000 packets of a kilobyte exceed the buffer.
    let script = format!("echo ready; read go; {TRAFFIC} flows {APP_V4}:{ECHO} 8000 1000; echo sent");
    let options = StartOptions { stdin: b"go\n".to_vec(), ..StartOptions::default() };
    let mut running = net.host.start_with(options, &["-q"], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGSTOP);
    running.wait_for_stdout("sent");
    running.signal(libc::SIGCONT);
    running.finish().assert_ok();
    write_policy(&net, &format!("[[allow]]\naddress = \"{APP_V4}\"\nport = {ECHO}\nprotocol = \"udp\"\n"));
    let run = net.host.netwatch(&["check"]);
    assert!(run.assert_code(1).stdout.contains("netwatch.toml: 1 uncertainty\n"), "{run}");
    assert!(run.stdout.contains("samples were lost: server names and lookups may be missing"), "{run}");
    net.host.netwatch(&["check", "--allow-uncertain"]).assert_ok();
    write_policy(&net, &format!("lookups = \"any\"\n[[allow]]\naddress = \"{APP_V4}\"\n"));
    net.host.netwatch(&["check"]).assert_ok();
}

#[test]
fn a_wrong_policy_is_reported_before_the_command_runs() {
    let net = internet!();
    let run = |words: &[&str]| {
        let run = check(&net, "touch ran");
        run.assert_error(2, words);
        assert!(!net.host.dir().join("ran").exists(), "{run}");
    };
    run(&["read", "netwatch.toml", "ENOENT", "netwatch learn"]);
    write_policy(&net, "[[allow]]\nport = 443\nnam = \"app.example\"\n");
    run(&["netwatch.toml:3:1", "unknown key nam"]);
    write_policy(&net, APP_ONLY);
    let path = net.host.dir().join("netwatch.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("change the mode");
    run(&["trust netwatch.toml", "every user can change", "chmod go-w"]);
}

#[test]
fn github_actions_get_annotations_and_a_summary() {
    let net = internet!();
    write_policy(&net, APP_ONLY);
    net.host.run(&["-q"], &["curl", "-4", "-sS", "-o", "/dev/null", "http://app.example/", "http://app.example:81/"]);
    let summary = net.host.dir().join("summary.md");
    fs::write(&summary, "before\n").expect("write the summary");
    let variables = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", summary.to_str().expect("a plain path"))];
    let run = net.host.netwatch_with(StartOptions::env(&variables), &["check", "--format", "json"]);
    let document: Value = serde_json::from_str(&run.assert_code(1).stdout).expect("JSON alone");
    assert_eq!((&document["passed"], &document["violations"][0]["port"]), (&false.into(), &REFUSED.into()), "{run}");
    let annotation = "::error file=netwatch.toml,line=2,title=tcp/81 to app.example::tcp/81 to app.example";
    assert!(run.stderr.lines().any(|line| line.starts_with(annotation)), "{run}");
    let text = fs::read_to_string(&summary).expect("the summary");
    assert!(text.starts_with("before\n## ❌ Network access: 1 violation\n"), "{text}");
    let command = ["check", "--", "curl", "-4", "-sS", "http://app.example:81/"];
    let run = net.host.netwatch_with(StartOptions::env(&variables), &command);
    assert!(run.assert_code(1).stderr.lines().any(|line| line.starts_with(annotation)), "{run}");
    let both = fs::read_to_string(&summary).expect("the summary");
    assert!(both.starts_with(&text) && both.len() > text.len(), "{both}");
    let local = net.host.netwatch(&["check", "--format", "github"]);
    assert!(local.assert_code(1).stdout.starts_with(annotation) && local.stderr.is_empty(), "{local}");
}

#[test]
fn a_json_report_of_another_machine_is_checked_without_root() {
    let net = internet!();
    net.host.run(&["-q"], &["curl", "-4", "-sS", "-o", "/dev/null", "http://app.example/"]).assert_ok();
    let (report, policy) = (net.host.dir().join("report.json"), net.host.dir().join("netwatch.toml"));
    net.host.netwatch(&["report", "--format", "json", "-o", &report.display().to_string()]).assert_ok();
    write_policy(&net, APP_ONLY);
    let passed = net.host.netwatch(&["check", &report.display().to_string()]);
    passed.assert_ok();
    fs::write(&policy, "").expect("an empty policy");
    let failed = net.host.netwatch(&["check", &report.display().to_string()]);
    assert!(failed.assert_code(1).stdout.contains("VIOLATION  tcp/80 to app.example"), "{failed}");
}
