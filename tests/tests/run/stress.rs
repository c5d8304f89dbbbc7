//! Counts stay exact under stress: netwatch stopped, its interface deleted, a hundred thousand
//! connections.

use std::fs;
use std::time::Duration;

use netwatch_tests::{FinishedRun, StartOptions, addresses::*, internet, needs, report, wait_until};

use crate::TRAFFIC;

/// Options of a run that takes long on a busy machine.
fn long_run() -> StartOptions {
    StartOptions { limit: Duration::from_secs(300), ..StartOptions::default() }
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status of netwatch");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn netwatch_stopped_during_traffic_loses_samples_and_no_packet() {
    let net = internet!();
    let script = format!("echo ready; read go; {TRAFFIC} flows {APP_V4}:{ECHO} 8000 1000; echo sent");
    let options = StartOptions { stdin: b"go\n".to_vec(), ..long_run() };
    let mut running = net.host.start_with(options, &[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGSTOP);
    running.wait_for_stdout("sent");
    running.signal(libc::SIGCONT);
    let run = running.finish();
    let endpoint = report::endpoint(run.assert_ok().report(), "udp", APP_V4, ECHO);
    for direction in report::DIRECTIONS {
        report::assert_packets(endpoint, direction, 8000, 14 + 20 + 8 + 1000);
    }
    assert!(report::number(endpoint, "flows") > 5000, "some ports come twice: {run}");
    // 16,000 packets of a kilobyte exceed the 2 MiB of the buffer. The rest is counted as lost.
    assert!(report::number(run.report(), "lost.samples") > 1000, "{run}");
    assert!(run.stderr.contains("samples"), "{run}");
}

#[test]
fn the_flows_of_a_deleted_interface_are_reported() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 20 100; echo sent; {}", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("sent");
    net.host.sh("ip link delete $(ip -br link | grep -o '^nw[0-9a-f]*')");
    gate.open();
    let run = running.finish_without_interface();
    let document = run.assert_ok().report();
    assert!(document["balance"].get("interface").is_none(), "its counters are unknown, not zero: {run}");
    report::assert_packets(report::endpoint(document, "udp", APP_V4, ECHO), "egress", 20, 142);
    assert!(run.stderr.contains("unknown, the interface vanished"), "{run}");
}

/// How many requests wrk made: `  25310 requests in 3.10s, 4.61MB read`.
fn requests(run: &FinishedRun) -> i64 {
    let of_round = |line: &str| line.split_whitespace().next().and_then(|number| number.parse::<i64>().ok());
    run.stdout.lines().filter_map(of_round).sum()
}

#[test]
fn a_hundred_thousand_connections() {
    needs!("wrk");
    let net = internet!();
    // One connection per request, in rounds of three seconds.
    let script = format!(
        "total=0; while [ $total -lt 100000 ]; do
            wrk -t 1 -c 16 -d 3s -H 'Connection: close' http://{APP_V4}/ >round || exit 1
            grep ' requests in ' round
            total=$((total + $(awk '/requests in/ {{ print $1 }}' round)))
        done; echo done"
    );
    let folder = tempfile::tempdir().expect("a directory");
    let options = StartOptions { dir: Some(folder.path().to_owned()), ..long_run() };
    let mut running = net.host.start_with(options, &["-u", "root"], &["sh", "-c", &script]);
    let mut sizes = Vec::new();
    loop {
        let rounds = running.stdout().lines().count();
        let mut size = 0;
        // Read before the check, because the report at the end needs more memory.
        wait_until(
            || {
                size = resident_kib(running.pid());
                running.stdout().lines().count() > rounds || !running.is_running()
            },
            || "the end of a round".to_owned(),
        );
        if !running.is_running() || running.stdout().contains("done") {
            break;
        }
        sizes.push(size);
    }
    let run = running.finish();
    let endpoint = report::endpoint(run.assert_ok().report(), "tcp", APP_V4, 80);
    let (connections, requests) = (report::number(endpoint, "connections"), requests(&run));
    // At the end of each round wrk closes its sixteen connections without counting their requests.
    assert!(requests >= 100_000 && connections >= requests, "{connections} connections, {requests} requests: {run}");
    assert!(connections <= requests + 16 * run.stdout.lines().count() as i64 * 2, "{connections}, {requests}: {run}");
    let failed = report::FAILURES.map(|kind| report::number(endpoint, kind));
    assert_eq!(failed, [0; 4], "{run}");
    assert_eq!(report::number(run.report(), "lost.table_full"), 0, "finished flows leave the table: {run}");
    assert_eq!(
        report::number(run.report(), "attribution.lost.over_limit"),
        0,
        "the table of sockets has room for the open ones: {run}"
    );
    // After two thirds every local port was used: no new flows come. What may grow then is the
    // table of sockets that were closed a moment ago, which doubles when more of them come in a
    // second than before, and, on a busy machine, what waits to be processed.
    let (before, after) = sizes.split_at(sizes.len() / 3 * 2);
    let [most, last] = [before, after].map(|sizes| sizes.iter().max().copied().expect("more than one round"));
    let waiting = 32 * 1024;
    assert!(last < 200 * 1024 && last <= most + most / 2 + waiting, "{sizes:?} KiB resident: {run}");
    println!("{connections} connections, {most} KiB resident, {last} KiB in the last third");
}
