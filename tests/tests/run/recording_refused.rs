//! Recordings that cannot be written: unsuitable files, full disks, and symbolic links planted by
//! another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use netwatch_tests::{StartOptions, USER, USER_ID, addresses::*, internet};
use serde_json::Value;

use crate::TRAFFIC;

fn sudo() -> StartOptions {
    let id = USER_ID.to_string();
    StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)])
}

#[test]
fn a_file_that_is_no_recording_is_never_overwritten() {
    let net = internet!();
    let dir = net.host.dir();
    fs::write(dir.join("text"), "text of a user").unwrap();
    fs::write(dir.join("other.db"), [b"SQLite format 3\0".as_slice(), &[0; 200]].concat()).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    symlink(dir.join("text"), dir.join("link")).unwrap();
    let before = fs::read(dir.join("other.db")).unwrap();
    for (file, why) in [
        ("text", "not a netwatch recording"),
        ("other.db", "not a netwatch recording"),
        ("folder", "not a file"),
        ("link", "symbolic link"),
        ("/dev/null", "not a file"),
        ("no/such/folder/x", "ENOENT"),
    ] {
        let run = net.host.netwatch(&["run", "--record", file, "--", "touch", "ran"]);
        run.assert_error(125, &[file, why, "choose another file"]);
    }
    assert!(!dir.join("ran").exists(), "the error occurs before the command starts");
    assert_eq!(fs::read_to_string(dir.join("text")).unwrap(), "text of a user");
    assert_eq!(fs::read(dir.join("other.db")).unwrap(), before);
    net.host.netwatch(&["run", "--record", "x", "-o", "x", "--", "true"]).assert_error(125, &["-o writes there too"]);
}

#[test]
fn a_file_that_the_caller_of_sudo_has_no_permission_for_is_refused() {
    let net = internet!();
    net.host.sh("mkdir -m 755 roots; touch roots/file");
    for file in ["roots/file", "roots/new"] {
        let run = net.host.netwatch_with(sudo(), &["run", "--record", file, "--", "true"]);
        run.assert_error(125, &[file, "EACCES"]);
    }
}

#[test]
fn a_capture_that_the_caller_of_sudo_may_not_read_is_not_read() {
    let net = internet!();
    net.host.netwatch(&["run", "-q", "--no-record", "-w", "own.pcapng", "--", "true"]).assert_ok();
    for arguments in [["replay", "own.pcapng"], ["report", "own.pcapng"], ["ports", "own.pcapng"]] {
        net.host.netwatch(&arguments).assert_ok();
        let refused = net.host.netwatch_with(sudo(), &arguments);
        assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused}");
        assert!(refused.stderr.contains("own.pcapng") && refused.stderr.contains("EACCES"), "{refused}");
    }
}

#[test]
fn symbolic_links_beside_the_file_are_not_followed() {
    let net = internet!();
    let home = net.host.dir().join("home");
    let target = net.host.dir().join("roots");
    fs::write(&target, "root's").unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        symlink(&target, home.join(format!("x.netwatch{suffix}"))).unwrap();
    }
    let file = home.join("x.netwatch");
    let run = || net.host.netwatch_with(sudo(), &["run", "-q", "--record", file.to_str().unwrap(), "--", "true"]);
    run().assert_error(125, &["x.netwatch-wal exists", "choose another file"]);
    assert!(!file.exists());
    // Beside an existing recording the links are removed like files of SQLite, and their target is
    // unchanged.
    for suffix in ["-wal", "-shm", "-journal"] {
        fs::remove_file(home.join(format!("x.netwatch{suffix}"))).unwrap();
    }
    run().assert_ok();
    for suffix in ["-wal", "-shm", "-journal"] {
        symlink(&target, home.join(format!("x.netwatch{suffix}"))).unwrap();
    }
    run().assert_ok();
    assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
    let data = file.metadata().unwrap();
    assert_eq!((data.uid(), data.permissions().mode() & 0o777), (USER_ID, 0o600));
    net.host.netwatch_with(sudo(), &["history", "show", file.to_str().unwrap()]).assert_ok();
}

#[test]
fn a_second_run_cannot_record_to_the_file_of_an_active_run() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("echo ready; {}", gate.wait());
    let mut first = net.host.start(&["--record", "x.netwatch"], &["sh", "-c", &script]);
    first.wait_for_stdout("ready");
    let second = net.host.netwatch(&["run", "--record", "x.netwatch", "--", "touch", "ran"]);
    second.assert_error(125, &["x.netwatch", "a run that has not ended writes it"]);
    assert!(!net.host.dir().join("ran").exists(), "the error occurs before the command starts");
    gate.open();
    first.finish().assert_ok();
    net.host.netwatch(&["history", "show", "x.netwatch"]).assert_ok();
}

#[test]
fn a_run_that_cannot_be_recorded_works_with_a_note() {
    let net = internet!();
    let options = StartOptions::env(&[("XDG_STATE_HOME", "/proc/nowhere")]);
    let run = net.host.run_with(options.clone(), &[], &["sh", "-c", "exit 3"]);
    let notes = run.assert_code(3).report()["notes"].to_string();
    assert!(notes.contains("no recording: cannot record to /proc/nowhere/netwatch/runs"), "{run}");
    assert!(notes.contains("--no-record"), "{run}");
    let run = net.host.run_with(options, &["--no-record"], &["true"]);
    assert_eq!(run.assert_ok().report()["notes"].to_string(), "[]", "{run}");
}

#[test]
fn a_full_disk_ends_the_recording_but_not_the_run() {
    let net = internet!();
    net.host.sh("mkdir small && mount -t tmpfs -o size=360k tmpfs small");
    let gate = net.host.gate();
    let script = format!(
        "send() {{ for i in $(seq $1); do {TRAFFIC} udp {APP_V4}:{ECHO} 1 100; done; }}
        send 8; {}; dd if=/dev/zero of=small/fill bs=1k 2>/dev/null; send 500; echo done",
        gate.wait()
    );
    let running = net.host.start(&["--record", "small/x.netwatch"], &["sh", "-c", &script]);
    net.host.wait_until_recorded("small/x.netwatch", |report| report["totals"]["egress"]["packets"] == 8);
    gate.open();
    let run = running.finish();
    run.assert_code(125);
    assert!(run.stdout.contains("done"), "{run}");
    assert!(run.stderr.contains("small/x.netwatch: No space left on device (ENOSPC)"), "{run}");
    // Some of the 508 datagrams have the same port.
    assert_eq!(run.report()["totals"]["egress"]["packets"], 508, "the report is complete");
    assert!(run.report()["flows"].as_array().unwrap().len() > 400, "{run}");
    net.host.sh("rm small/fill");
    let read = net.host.netwatch(&["report", "--format", "json", "small/x.netwatch"]);
    let report: Value = serde_json::from_str(&read.assert_ok().stdout).unwrap();
    assert_eq!(report["complete"], false);
    assert!(report["flows"].as_array().unwrap().len() >= 8, "{read}");
    assert!(report["notes"].to_string().contains("the recording is incomplete: it ends at"), "{read}");
    net.host.sh("umount small");
}

#[test]
fn a_recording_that_reaches_its_maximum_size_is_reported() {
    let net = internet!();
    let script = format!("for i in $(seq 400); do {TRAFFIC} udp {APP_V4}:{ECHO} 1 100; done");
    let run = net.host.run(&["--record", "x.netwatch", "--record-size", "160K"], &["sh", "-c", &script]);
    run.assert_code(125);
    assert!(run.stderr.contains("--record-size"), "{run}");
    // Without --record the same limit is no error.
    let run = net.host.run(&["--record-size", "160K"], &["sh", "-c", &script]);
    assert!(run.assert_ok().stderr.contains("--record-size"), "{run}");
}
