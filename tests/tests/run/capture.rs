//! Captures of runs: what is in the file, how it is read by others and by `netwatch replay`, and
//! what ends it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use netwatch_tests::{StartOptions, TestHost, USER, USER_ID, addresses::*, internet, needs, wait_until};
use serde_json::Value;

use crate::TRAFFIC;

fn json(host: &TestHost, name: &str) -> Value {
    let text = fs::read_to_string(host.dir().join(name)).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

/// What a report and the replay of its capture have in common: for each flow the packets, bytes on
/// the wire, names, and processes.
fn flows(report: &Value) -> BTreeMap<String, Value> {
    let process = |number: &Value| {
        let list = report["processes"].as_array().expect("processes");
        let one = list.iter().find(|one| one["number"] == *number).unwrap_or_else(|| panic!("process {number}"));
        serde_json::json!([one["pid"], one["comm"], one["exe"], one["uid"]])
    };
    let of_flow = |flow: &Value| {
        let key = ["protocol", "local", "local_port", "remote", "remote_port"].map(|name| flow[name].to_string());
        let way = |way: &str| serde_json::json!([flow[way]["packets"], flow[way]["wire_bytes"]]);
        let names = flow["names"].as_array().into_iter().flatten().map(|name| name["name"].clone());
        let users = flow["processes"]["socket"].as_array().into_iter().flatten().map(process);
        let facts = serde_json::json!({
            "egress": way("egress"), "ingress": way("ingress"), "application": flow["application"],
            "names": names.collect::<Vec<_>>(), "users": users.collect::<Vec<_>>(),
        });
        (key.join(" "), facts)
    };
    report["flows"].as_array().expect("flows").iter().map(of_flow).collect()
}

/// Runs a tool on a capture and returns its output. It must not complain.
fn read(host: &TestHost, tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).current_dir(host.dir()).output().expect("the tool runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = complaints.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{tool}: {complaints:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_replay_of_a_capture_equals_the_run() {
    let net = internet!();
    let script = format!(
        "curl -sk https://app.example/ http://app.example/big -o /dev/null; {TRAFFIC} udp {APP_V4}:{ECHO} 5 100; \
         {TRAFFIC} connect {APP_V4}:{REFUSED} 500; true"
    );
    for file in ["x.pcapng", "x.pcapng.gz", "x.pcapng.zst"] {
        net.host.netwatch(&["run", "-j", "-o", "run.json", "-w", file, "--", "sh", "-c", &script]).assert_ok();
        net.host.netwatch(&["replay", "-j", "-o", "replay.json", file]).assert_ok();
        let (run, replay) = (json(&net.host, "run.json"), json(&net.host, "replay.json"));
        for way in ["egress", "ingress"] {
            for counter in ["packets", "wire_bytes"] {
                assert_eq!(run["totals"][way][counter], replay["totals"][way][counter], "{file}: {way} {counter}");
            }
        }
        let of_run = flows(&run);
        assert!(of_run.len() >= 4, "{of_run:?}");
        assert!(of_run.values().any(|flow| flow["users"].as_array().is_some_and(|users| !users.is_empty())), "{run}");
        assert_eq!(of_run, flows(&replay), "{file}");
    }
}

#[test]
fn other_programs_read_the_file() {
    let net = internet!();
    needs!("tshark");
    needs!("capinfos");
    let command = ["curl", "-s", "http://app.example/big", "-o", "/dev/null"];
    for file in ["x.pcapng", "x.pcap"] {
        net.host.netwatch(&[&["run", "-w", file, "--"][..], &command].concat()).assert_ok();
        // 0 is a wrong checksum.
        let checks = ["-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
        let wrong = "tcp.checksum.status == 0 or udp.checksum.status == 0 or ip.checksum.status == 0";
        assert_eq!(read(&net.host, "tshark", &[&["-r", file, "-Y", wrong][..], &checks].concat()), "", "{file}");
        let longest = read(&net.host, "tshark", &["-r", file, "-Y", "frame.len > 1514"]);
        assert_eq!(longest, "", "{file}: super-frames are divided");
        // A busy machine may retransmit; a gap would be a packet that the capture lost.
        let gap = "tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment";
        assert_eq!(read(&net.host, "tshark", &["-r", file, "-Y", gap]), "", "{file}: no gap");
    }
    let facts = read(&net.host, "capinfos", &["x.pcapng"]);
    assert!(facts.contains("netwatch") && facts.contains("command: curl"), "{facts}");
    let fields = ["-T", "fields", "-e", "frame.comment", "-e", "frame.packet_flags_direction"];
    let comments = read(&net.host, "tshark", &[&["-r", "x.pcapng", "-Y", "tcp"][..], &fields].concat());
    assert!(comments.lines().all(|line| line.contains("comm=\"curl\" exe=\"/usr/bin/curl\"\t0x0000000")), "{comments}");
    let hosts = read(&net.host, "tshark", &["-r", "x.pcapng", "-q", "-z", "hosts"]);
    assert!(hosts.contains("app.example"), "{hosts}");
}

#[test]
fn heads_keep_true_lengths() {
    let net = internet!();
    let command = ["curl", "-s", "http://app.example/big", "-o", "/dev/null"];
    let arguments = ["run", "-j", "-o", "run.json", "-s", "96", "-w", "x.pcapng", "--"];
    net.host.netwatch(&[&arguments[..], &command].concat()).assert_ok();
    net.host.netwatch(&["replay", "-j", "-o", "replay.json", "x.pcapng"]).assert_ok();
    let (run, replay) = (json(&net.host, "run.json"), json(&net.host, "replay.json"));
    assert_eq!(run["totals"]["ingress"]["wire_bytes"], replay["totals"]["ingress"]["wire_bytes"]);
    let file = net.host.dir().join("x.pcapng").metadata().expect("a file").len();
    assert!(file < run["totals"]["ingress"]["wire_bytes"].as_u64().expect("a number"), "{file} bytes");
}

#[test]
fn a_full_disk_ends_the_capture_and_not_the_run() {
    let net = internet!();
    let run = net.host.netwatch(&["run", "-w", "/dev/full", "--", "curl", "-s", "http://app.example/"]);
    let text = &run.assert_ok().stderr;
    assert!(text.contains("cannot write /dev/full: No space left on device (ENOSPC)"), "{text}");
    assert!(text.contains("the capture is incomplete"), "{text}");
}

#[test]
fn names_of_files_are_escaped() {
    let net = internet!();
    let run = net.host.netwatch(&["run", "-q", "-w", "no\u{1b}[2J\nfolder/x.pcapng", "--", "true"]);
    run.assert_error(125, &["cannot write no", "folder/x.pcapng: No such file or directory (ENOENT)"]);
    assert!(!run.stderr.contains('\u{1b}'), "{run}");
}

/// The run waits for a reader of its lines when it has opened the file of the packets.
#[test]
fn a_run_that_is_killed_before_it_starts_leaves_no_file() {
    let net = internet!();
    net.host.sh("mkdir files; cd files; mkfifo lines; echo older > older.pcapng");
    for (file, flags) in [("files/x.pcapng", &[][..]), ("files/older.pcapng", &["--force"])] {
        let start = [&["run", "-w", file, "--packets=files/lines"], flags, &["--", "true"]].concat();
        let run = net.host.start_netwatch(&start);
        wait_until(|| run.stderr().contains("waiting for a reader"), || format!("the pipe: {}", run.stderr()));
        run.signal(libc::SIGKILL);
        run.finish_early();
    }
    assert_eq!(net.host.sh("ls -A files; cat files/older.pcapng"), "lines\nolder.pcapng\nolder\n");
    let owner = USER_ID.to_string();
    net.host.sh("chmod 777 files");
    let sudo = StartOptions::env(&[("SUDO_UID", &owner), ("SUDO_GID", &owner), ("SUDO_USER", USER)]);
    let run = net.host.start_netwatch_with(sudo, &["run", "-q", "-w", "files/x.pcapng", "--", "true"]);
    run.finish_early().assert_ok();
    assert_eq!(net.host.sh("stat -c '%u %a' files/x.pcapng"), format!("{owner} 600\n"));
    let refused = net.host.netwatch(&["run", "-q", "-w", "files/x.pcapng", "--", "true"]);
    refused.assert_error(125, &["files/x.pcapng", "(EEXIST)", "--force"]);
}

#[test]
fn a_file_that_was_deleted_is_reported() {
    let net = internet!();
    let script = "rm x.pcapng; curl -s http://app.example/ -o /dev/null; echo done";
    let run = net.host.netwatch(&["run", "-w", "x.pcapng", "--", "sh", "-c", script]);
    assert_eq!(run.assert_ok().stdout, "done\n");
    assert!(run.stderr.contains("x.pcapng: the file was deleted"), "{run}");
}

#[test]
fn lines_that_cannot_be_printed_do_not_end_the_file() {
    let net = internet!();
    let script = "curl -s http://app.example/ -o /dev/null; echo done";
    let arguments = ["run", "-j", "-o", "run.json", "-w", "x.pcapng", "--packets=/dev/full", "--", "sh", "-c", script];
    let run = net.host.netwatch(&arguments);
    assert_eq!(run.assert_ok().stdout, "done\n");
    assert!(run.stderr.contains("the lines of packets are incomplete"), "{run}");
    net.host.netwatch(&["replay", "-j", "-o", "replay.json", "x.pcapng"]).assert_ok();
    let (run, replay) = (json(&net.host, "run.json"), json(&net.host, "replay.json"));
    assert_eq!(run["totals"]["ingress"], replay["totals"]["ingress"]);
}

#[test]
fn the_number_of_packets_ends_the_capture_and_not_the_run() {
    let net = internet!();
    let script = "curl -s http://app.example/big -o /dev/null; echo done";
    let run = net.host.netwatch(&["run", "-q", "-c", "3", "-w", "x.pcapng", "--", "sh", "-c", script]);
    assert_eq!(run.assert_ok().stdout, "done\n");
    net.host.netwatch(&["replay", "-j", "-o", "replay.json", "x.pcapng"]).assert_ok();
    let counted = &json(&net.host, "replay.json")["balance"]["counted"];
    let frames = ["egress", "ingress"].map(|way| counted[way]["skbs"].as_u64().unwrap_or(0));
    assert_eq!(frames.iter().sum::<u64>(), 3);
}

#[test]
fn an_existing_file_is_replaced_with_force_only_and_belongs_to_the_caller() {
    let net = internet!();
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let file = net.host.dir().join("home/x.pcapng");
    let path = file.to_str().expect("UTF-8");
    net.host.netwatch_with(sudo.clone(), &["run", "-q", "-w", path, "--", "true"]).assert_ok();
    let about = file.metadata().expect("a file");
    assert_eq!((about.uid(), about.permissions().mode() & 0o777), (USER_ID, 0o600));
    let refused = net.host.netwatch_with(sudo.clone(), &["run", "-q", "-w", path, "--", "true"]);
    assert!(refused.assert_code(125).stderr.contains("--force"), "{refused}");
    net.host.netwatch_with(sudo, &["run", "-q", "--force", "-w", path, "--", "true"]).assert_ok();
}

#[test]
fn rotation_keeps_every_packet_and_each_file_is_complete() {
    let net = internet!();
    let script = "curl -s http://app.example/big -o /dev/null";
    let arguments = ["run", "-j", "-o", "run.json", "-C", "64K", "-w", "x.pcapng", "--", "sh", "-c", script];
    net.host.netwatch(&arguments).assert_ok();
    let packets = |name: &str| {
        let report = json(&net.host, name);
        // A counter of 0 is left out.
        ["egress", "ingress"].map(|way| report["totals"][way]["packets"].as_u64().unwrap_or(0))
    };
    let (mut files, mut sums) = (0, [0, 0]);
    for number in 1.. {
        let file = format!("x-{number:05}.pcapng");
        if !net.host.dir().join(&file).exists() {
            break;
        }
        net.host.netwatch(&["replay", "-j", "-o", "replay.json", &file]).assert_ok();
        files += 1;
        let of_file = packets("replay.json");
        sums = [sums[0] + of_file[0], sums[1] + of_file[1]];
    }
    assert!(files > 3, "{files} files");
    assert_eq!(sums, packets("run.json"), "{files} files");
}

/// Three connections have at least nine events of more than 100 bytes.
#[test]
fn events_are_appended_to_a_file_that_is_rotated_between_lines() {
    let net = internet!();
    let dir = net.host.dir().join("events");
    fs::create_dir(&dir).expect("a directory");
    let size = ["--events-size", "1k", "--events-keep", "50", "--"];
    let flags = [&["run", "-q", "--events-file", "events/log.ndjson"][..], &size].concat();
    let fetch = "for n in 1 2 3; do curl -s http://app.example/ -o /dev/null; done";
    for _ in 0..2 {
        let run = net.host.netwatch(&[&flags[..], &["sh", "-c", fetch]].concat());
        assert_eq!(run.assert_ok().stderr, "", "nothing is written to standard error");
    }
    let mut events = Vec::new();
    let files: Vec<_> = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a file")).collect();
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let text = fs::read_to_string(file.path()).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    let ended = events.iter().filter(|event| event["event"] == "ended" && event["remote_port"] == 80).count();
    assert_eq!(ended, 6, "{events:?}");
}

#[test]
fn packets_and_connections_are_printed_as_they_happen() {
    let net = internet!();
    let command = ["curl", "-s", "http://app.example/", "-o", "/dev/null"];
    let run = net.host.netwatch(&[&["run", "-q", "--packets", "--"][..], &command].concat());
    let text = &run.assert_ok().stderr;
    for wanted in ["Flags [S]", "DNS ", "HTTP GET / HTTP/1.1", "| app.example | curl["] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let run = net.host.netwatch(&[&["run", "-q", "--events=json", "--"][..], &command].concat());
    let events: Vec<Value> =
        run.assert_ok().stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |event: &str| events.iter().find(|one| one["event"] == event && one["remote_port"] == 80);
    let ended = of("ended").unwrap_or_else(|| panic!("{run}"));
    let named = of("named").or(of("opened")).unwrap_or_else(|| panic!("{run}"));
    assert_eq!(named["name"]["name"], "app.example", "{run}");
    assert_eq!((&ended["name"]["name"], &ended["process"]["comm"]), (&"app.example".into(), &"curl".into()), "{run}");
    assert!(ended["egress"]["packets"].as_u64() > Some(3) && ended["end_reason"] == "end_of_flow", "{run}");
}

#[test]
fn an_attempt_and_a_lookup_that_failed_are_one_event_each() {
    let net = internet!();
    let connect = format!("exec 3<>/dev/tcp/{APP_V4}/{REFUSED}");
    let script = format!("curl -s http://no.such.example/; bash -c '{connect}'; true");
    let run = net.host.netwatch(&["run", "-q", "--events=json", "--", "sh", "-c", &script]);
    let events: Vec<Value> =
        run.assert_ok().stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let failed = |key: &str, value: Value| {
        events.iter().filter(|event| event["event"] == "failed" && event[key] == value).collect::<Vec<_>>()
    };
    let lookups = events.iter().filter(|event| event["query"]["name"] == "no.such.example").collect::<Vec<_>>();
    assert!(!lookups.is_empty() && lookups.iter().all(|event| event["failed"]["nxdomain"] == 1), "{run}");
    let refused = failed("remote_port", REFUSED.into());
    assert_eq!((refused.len(), &refused[0]["failed"]["refused"]), (1, &1.into()), "{run}");
    let is_end = |event: &&Value| event["event"] == "ended" && event["remote_port"] == REFUSED;
    assert!(events.iter().find(is_end).is_some_and(|event| event["failed"]["refused"] == 1), "{run}");
}
