//! The examples of the README: a command runs as usual, and its endpoints are reported with their
//! names.

use netwatch_tests::{StartOptions, addresses::*, internet, report, skip};

#[test]
fn curl_works_by_name_over_both_families() {
    let net = internet!();
    let cases = [("-4", "http", 80), ("-6", "http", 80), ("-4", "https", 443), ("-6", "https", 443)];
    for (family, scheme, port) in cases {
        let run = net.host.watch(&["curl", "-sSk", family, &format!("{scheme}://{APP}/")]);
        run.assert_ok();
        assert_eq!(run.stdout, "hello\n", "{run}");
        let remote = if family == "-4" { APP_V4.into() } else { std::net::IpAddr::from(APP_V6) };
        let endpoint = report::endpoint(run.report(), "tcp", remote, port);
        assert_eq!((endpoint["direction"].as_str(), endpoint["flows"].as_u64()), (Some("out"), Some(1)), "{run}");
        assert!(report::number(endpoint, "handshake_rtt_ns") > 0, "{run}");
    }
}

#[test]
fn the_report_contains_the_command_and_its_exit() {
    let net = internet!();
    let run = net.host.watch(&["sh", "-c", "exit 3", "two words"]);
    let document = run.assert_code(3).report();
    assert_eq!(document["schema"], 2);
    assert_eq!(document["run"]["command"], serde_json::json!(["sh", "-c", "exit 3", "two words"]));
    assert_eq!(document["run"]["exit_code"], 3);
    assert_eq!(document["run"]["user"], "root");
    assert!(report::number(document, "run.duration_ns") > 0);
    assert!(report::text(document, "run.started").ends_with('Z'), "RFC 3339 in UTC: {run}");
    assert_eq!(document["interface"]["mtu_bytes"], 1500);
    assert!(report::text(document, "interface.name").starts_with("nw"));
}

#[test]
fn standard_streams_belong_to_the_command() {
    let net = internet!();
    let run = net.host.run_with(StartOptions::stdin("one\ntwo\n"), &["-q"], &["sh", "-c", "cat; echo three >&2"]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("one\ntwo\n", "three\n"));
    let run = net.host.run(&[], &["true"]);
    assert_eq!(run.stdout, "", "the summary is not on stdout: {run}");
    assert!(!run.stderr.is_empty(), "the summary is on stderr: {run}");
}

#[test]
fn a_command_that_sends_nothing_gives_an_empty_report() {
    let net = internet!();
    let run = net.host.watch(&["true"]);
    assert!(report::list(run.assert_ok().report(), "endpoints").is_empty(), "{run}");
    assert_eq!(report::number(run.report(), "totals.egress.packets"), 0, "{run}");
}

#[test]
fn an_output_file_without_json_is_the_summary() {
    let net = internet!();
    let file = net.host.dir().join("summary.txt");
    let run =
        net.host.netwatch(&["run", "-q", "-o", file.to_str().unwrap(), "--", "curl", "-s", "http://app.example/"]);
    assert_eq!((run.assert_ok().stdout.as_str(), run.stderr.as_str()), ("hello\n", ""));
    let summary = std::fs::read_to_string(file).unwrap();
    assert!(summary.contains("every packet counted") && !summary.contains("DIFFERENCE"), "{summary}");
    assert!(summary.contains("\napp.example  tcp/80 http "), "{summary}");
}

#[test]
fn the_server_sees_the_address_of_the_host() {
    let net = internet!();
    for (family, client) in [("-4", HOST_V4.to_string()), ("-6", HOST_V6.to_string())] {
        let run = net.host.watch(&["curl", "-sS", family, "http://app.example/client"]);
        assert_eq!(run.assert_ok().stdout.trim(), client, "source NAT: {run}");
    }
}

#[test]
fn memory_is_small_while_an_idle_command_runs() {
    let net = internet!();
    if net.host.binary().ends_with("debug/netwatch") {
        return skip("a debug build is larger: run `cargo xtask test`");
    }
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let resident = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status of a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let kib = resident(running.pid()) + resident(running.guardian());
    println!("{kib} KiB resident");
    // Measured: 24.3 MiB with two processes, of which 3 MiB are their own memory and the rest are
    // pages of the program.
    assert!(kib < 26 * 1024, "{kib} KiB resident");
    running.signal(libc::SIGTERM);
    running.finish();
}
