//! Recordings of runs: their contents, their owners, and how many are kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use netwatch_tests::{StartOptions, TestHost, USER, USER_ID, addresses::*, internet};
use serde_json::Value;

use crate::TRAFFIC;

/// The recordings of root.
fn recordings_of_root(host: &TestHost) -> Vec<PathBuf> {
    files(&host.state_home().join("netwatch/runs"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The report of a recording, as JSON.
#[track_caller]
fn json_of(host: &TestHost, selector: &[&str]) -> String {
    host.netwatch(&[&["report", "--format", "json"], selector].concat()).assert_ok().stdout.clone()
}

#[test]
fn the_json_of_a_recording_equals_that_of_the_run() {
    let net = internet!();
    let script = format!(
        "curl -sk https://app.example/ http://app.example/big -o /dev/null; {TRAFFIC} udp {APP_V4}:{ECHO} 5 100; \
         {TRAFFIC} connect {APP_V4}:{REFUSED} 500; {TRAFFIC} connect [{APP_V6}]:{SILENT} 1200; curl -s http://127.0.0.1:1/; true"
    );
    net.host.netwatch(&["run", "-j", "-o", "run.json", "--", "sh", "-c", &script]).assert_ok();
    let json = fs::read_to_string(net.host.dir().join("run.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    assert!(report["flows"].as_array().is_some_and(|flows| flows.len() > 6), "{json}");
    let id = report["run"]["id"].as_str().unwrap();
    let recordings = recordings_of_root(&net.host);
    let [file] = recordings.as_slice() else { panic!("one file is expected: {recordings:?}") };
    for selector in [&[][..], &["1"], &[id], &[&id[..5]], &[file.to_str().unwrap()]] {
        assert_eq!(json_of(&net.host, selector), json, "{selector:?}");
    }
    let data = file.metadata().unwrap();
    assert_eq!((data.permissions().mode() & 0o777, data.uid()), (0o600, 0));
}

#[test]
fn record_writes_the_run_to_a_file_and_the_next_run_replaces_it() {
    let net = internet!();
    for command in ["true", "false"] {
        net.host.netwatch(&["run", "-j", "-o", "run.json", "--record", "x.netwatch", "--", command]);
        let json = fs::read_to_string(net.host.dir().join("run.json")).unwrap();
        assert_eq!(json_of(&net.host, &["./x.netwatch"]), json);
        assert!(json.contains(&format!("\"{command}\"")), "{json}");
    }
    assert!(recordings_of_root(&net.host).is_empty(), "it is written only to the given file");
}

#[test]
fn the_summary_of_a_recording_equals_that_of_the_run() {
    let net = internet!();
    let run = net.host.netwatch(&["run", "--", "curl", "-sk", "-o", "/dev/null", "https://app.example/"]);
    let shown = net.host.netwatch(&["history", "show"]);
    // The last line is for the person who has just run the command.
    let (summary, next) = run.assert_ok().stderr.split_once("next ").expect("what to do next");
    assert_eq!(shown.assert_ok().stdout, summary, "{run}");
    assert!(next.contains("netwatch ports"), "{run}");
}

#[test]
fn the_caller_of_sudo_lists_shows_and_removes_runs() {
    let net = internet!();
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    for command in ["true", "false"] {
        net.host.netwatch_with(sudo.clone(), &["run", "-q", "--", command]);
    }
    let folder = net.host.dir().join("home/.local/state/netwatch/runs");
    let recordings = files(&folder);
    assert_eq!(recordings.len(), 2);
    for path in recordings.iter().chain([&folder]) {
        let data = path.metadata().unwrap();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!((data.uid(), data.gid(), data.permissions().mode() & 0o777), (USER_ID, USER_ID, mode), "{path:?}");
    }
    // As the user, without root and without sudo.
    let user = format!(
        "setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups env -u XDG_STATE_HOME HOME={} {}",
        net.host.dir().join("home").display(),
        net.host.binary().display()
    );
    let list = net.host.sh(&format!("{user} history"));
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert_eq!((lines[1][0], *lines[1].last().unwrap()), ("1", "false"), "the newest run is the first: {list}");
    let listed: Value = serde_json::from_str(&net.host.sh(&format!("{user} history list -j"))).unwrap();
    assert_eq!(
        (&listed["runs"][0]["exit_code"], &listed["runs"][1]["exit_code"]),
        (&1.into(), &0.into()),
        "{listed:#}"
    );
    assert_eq!(listed["runs"][1]["state"], "complete");
    assert!(net.host.sh(&format!("{user} history show 2")).contains("exit 0 in"));
    net.host.sh(&format!("{user} history rm 2 2"));
    assert_eq!(files(&folder), recordings[1..]);
    net.host.sh(&format!("{user} history rm --all"));
    assert!(net.host.sh(&format!("{user} history")).contains("no recorded runs in "));
}

#[test]
fn only_the_newest_runs_are_kept_and_other_files_are_not_removed() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let folder = net.host.state_home().join("netwatch/runs");
    let foreign =
        ["notes.txt", "x.netwatch", "20200101T000000.000Z-12345678.netwatch.old"].map(|name| folder.join(name));
    foreign.iter().for_each(|path| fs::write(path, "mine").unwrap());
    for _ in 0..3 {
        net.host.netwatch(&["run", "-q", "--keep", "2", "--", "true"]).assert_ok();
    }
    assert_eq!(recordings_of_root(&net.host).len(), 2 + foreign.len());
    assert!(foreign.iter().all(|path| path.exists()));
    net.host.netwatch(&["run", "-q", "--keep-size", "1K", "--", "true"]).assert_ok();
    assert_eq!(
        recordings_of_root(&net.host).len(),
        1 + foreign.len(),
        "the current run is kept, however small the limit"
    );
}

#[test]
fn simultaneous_runs_have_one_recording_each() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("echo ready; {}", gate.wait());
    let mut running: Vec<_> = (0..3).map(|_| net.host.start(&[], &["sh", "-c", &script])).collect();
    running.iter_mut().for_each(|run| run.wait_for_stdout("ready"));
    gate.open();
    for run in running {
        run.finish().assert_ok();
    }
    let listed: Value = serde_json::from_str(&net.host.netwatch(&["history", "-j"]).assert_ok().stdout).unwrap();
    let states: Vec<_> = listed["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["complete"; 3]);
}

#[test]
fn no_record_and_commands_that_did_not_start_leave_no_recording() {
    let net = internet!();
    net.host.netwatch(&["run", "-q", "--no-record", "--", "true"]).assert_ok();
    net.host.run(&["-q"], &["/no/such/program"]).assert_code(127);
    net.host.netwatch(&["run", "-q", "--record", "x.netwatch", "--", "/etc/passwd"]).assert_code(126);
    net.host.netwatch(&["run", "-q", "--record", "y.netwatch", "--dns", "nowhere", "--", "true"]).assert_code(125);
    assert!(recordings_of_root(&net.host).is_empty());
    assert!(!net.host.dir().join("x.netwatch").exists() && !net.host.dir().join("y.netwatch").exists());
}

#[test]
fn the_recording_of_a_killed_run_contains_all_but_its_last_second() {
    let net = internet!();
    let script = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 5 100; echo sent; sleep 300");
    net.host.sh("mkdir killed");
    let started = Instant::now();
    let mut running = net.host.start(&["--record", "killed/run.netwatch"], &["sh", "-c", &script]);
    running.wait_for_stdout("sent");
    // At least one interval of a second was written after the flow.
    net.host.wait_until_recorded("killed/run.netwatch", |report| {
        let counts =
            report["endpoints"].as_array().into_iter().flatten().map(|endpoint| &endpoint["ingress"]["packets"]);
        counts.into_iter().any(|packets| *packets == 5) && report["run"]["duration_ns"].as_u64() > Some(1_000_000_000)
    });
    let busy = net.host.netwatch(&["report", "killed/run.netwatch"]);
    busy.assert_error(2, &["killed/run.netwatch", "a run that has not ended writes it"]);
    running.signal(libc::SIGKILL);
    running.finish();
    let limit = started.elapsed().as_nanos();
    let left = || net.host.sh("md5sum killed/*");
    let before = left();
    assert_eq!(before.lines().count(), 2, "the file and its write-ahead log: {before}");
    let report: Value = serde_json::from_str(&json_of(&net.host, &["killed/run.netwatch"])).unwrap();
    assert_eq!(report["complete"], false);
    let echoed = |flow: &&Value| flow["remote_port"] == ECHO;
    let flow = report["flows"].as_array().unwrap().iter().find(echoed).expect("the flow");
    assert_eq!(flow["egress"]["packets"], 5, "{flow:#}");
    let endpoint = report["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["port"] == ECHO);
    assert_eq!(endpoint.expect("its endpoint")["ingress"]["packets"], 5);
    let duration = report["run"]["duration_ns"].as_u64().unwrap();
    assert!((1_000_000_000..limit).contains(&u128::from(duration)), "{duration} of {limit} ns");
    let notes = report["notes"].to_string();
    assert!(notes.contains("the recording is incomplete: it ends at 20"), "{notes}");
    assert_eq!(left(), before, "the files are unchanged after reading");
    // From a read-only file system too.
    net.host.sh("mkdir ro && cp killed/* ro && mount --bind ro ro && mount -o remount,ro,bind ro");
    assert_eq!(json_of(&net.host, &["ro/run.netwatch"]), json_of(&net.host, &["killed/run.netwatch"]));
    net.host.sh("umount ro");
}

#[test]
fn the_series_adds_up_to_the_totals_and_the_exported_flows_to_those_of_the_report() {
    let net = internet!();
    let udp = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 7 300");
    let gates = [net.host.gate(), net.host.gate()];
    let [first, second] = gates.each_ref().map(|gate| gate.wait());
    let script = format!("{udp}; {first}; {udp}; {TRAFFIC} fetch {APP_V4}:{SOURCE}; {second}; {udp}");
    let running = net.host.start(&["--record", "run.netwatch"], &["sh", "-c", &script]);
    // What follows is in another interval.
    for (gate, answers) in gates.iter().zip([7, 14]) {
        net.host.wait_until_recorded("run.netwatch", |report| {
            let mut endpoints = report["endpoints"].as_array().into_iter().flatten();
            endpoints.any(|endpoint| endpoint["port"] == ECHO && endpoint["ingress"]["packets"] == answers)
        });
        gate.open();
    }
    let run = running.finish();
    let totals = &run.assert_ok().report()["totals"];
    let series = net.host.netwatch(&["export", "--table", "series", "run.netwatch"]).assert_ok().stdout.clone();
    let (header, steps) = series.split_once('\n').expect("a header");
    let column = |name: &str| header.split(',').position(|column| column == name).expect("a column");
    let sum = |name: &str| -> u64 {
        steps
            .lines()
            .map(|line| line.split(',').nth(column(name)).and_then(|cell| cell.parse::<u64>().ok()).expect("a number"))
            .sum()
    };
    for direction in ["egress", "ingress"] {
        for counter in ["skbs", "packets", "bytes", "wire_bytes"] {
            assert_eq!(
                totals[direction][counter],
                sum(&format!("{direction}_{counter}")),
                "{counter}: {series}\n{run}"
            );
        }
    }
    let flows = run.report()["flows"].as_array().expect("flows").len();
    assert_eq!(sum("opened_flows"), flows as u64, "{series}");
    let tenths = run.took.as_millis() as usize / 100;
    assert!((3..=tenths + 2).contains(&steps.lines().count()), "at most one row per 100 ms, {tenths}: {series}");
    net.host.netwatch(&["export", "-o", "flows.csv", "run.netwatch"]).assert_ok();
    assert_eq!(fs::read_to_string(net.host.dir().join("flows.csv")).unwrap().lines().count(), 1 + flows);
    net.host.netwatch(&["export", "-o", "flows.parquet", "run.netwatch"]).assert_ok();
    let parquet = fs::read(net.host.dir().join("flows.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    net.host.netwatch(&["export", "nothing-here"]).assert_error(2, &["nothing-here", "`netwatch history`"]);
}
