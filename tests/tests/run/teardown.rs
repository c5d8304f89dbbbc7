//! After a run the host is unchanged, and no process of the run is left.

use netwatch_tests::{TestNamespace, internet, needs, wait_until};

use crate::TRAFFIC;

#[test]
fn an_ordinary_run_leaves_the_host_unchanged() {
    let net = internet!();
    let before = net.host.state();
    for command in [&["true"][..], &["curl", "-s", "http://app.example/"], &["/nonexistent"]] {
        net.host.watch(command);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn host_snapshots_detect_the_changes_of_a_run() {
    let net = internet!();
    let before = net.host.state();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let difference = before.compare(&net.host.state()).expect_err("a run changes the host");
    for change in ["link: ", "nft: ", "table", "netwatch-", "sysctl: ", "file: "] {
        assert!(difference.contains(change), "{change} in:\n{difference}");
    }
}

#[test]
fn daemons_do_not_outlive_the_run() {
    let net = internet!();
    for end in ["exit 0", "kill -KILL $$"] {
        let before = net.host.state();
        let script = format!("{TRAFFIC} daemon 300000 true; (setsid sleep 300 &); sleep 300 & {end}");
        net.host.watch(&["sh", "-c", &script]);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn when_only_netwatch_is_killed_every_process_of_the_run_ends() {
    let net = internet!();
    for user in ["root", "tester"] {
        // PDEATHSIG would not reach processes of another user, nor grandchildren.
        let script = format!("{TRAFFIC} daemon 300000 true; (setsid sleep 300 &); echo ready; sleep 300");
        let script = if user == "tester" { "(setsid sleep 300 &); echo ready; sleep 300".to_owned() } else { script };
        let mut running = net.host.start(&["-u", user], &["sh", "-c", &script]);
        running.wait_for_stdout("ready");
        running.signal(libc::SIGKILL);
        running.finish();
        let left = || net.host.processes();
        wait_until(|| left().is_empty(), || format!("the end of {:?}, user {user}", left()));
        net.host.netwatch(&["clean"]).assert_ok();
    }
}

/// The ids of the BPF programs and maps that a process has open, with their names for `bpftool`.
fn bpf_objects(pid: i32) -> Vec<(&'static str, String)> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let id = |line: &str, name: &str| Some(line.strip_prefix(name)?.trim().to_owned());
    let object = |line: &str| {
        let program = id(line, "prog_id:").map(|id| ("prog", id));
        program.or_else(|| id(line, "map_id:").map(|id| ("map", id)))
    };
    texts.flat_map(|text| text.lines().filter_map(object).collect::<Vec<_>>()).collect()
}

#[test]
fn no_bpf_object_is_left() {
    let net = internet!();
    needs!("bpftool");
    for end in [libc::SIGTERM, libc::SIGKILL] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        let objects = bpf_objects(running.pid());
        for kind in ["prog", "map"] {
            assert!(objects.iter().any(|(found, _)| *found == kind), "{kind}: {objects:?}");
        }
        let show = |(kind, id): &(&str, String)| net.host.try_sh(&format!("bpftool {kind} show id {id}"));
        assert!(objects.iter().all(|object| show(object).0), "{objects:?}");
        running.signal(end);
        running.finish();
        for object in &objects {
            wait_until(|| !show(object).0, || format!("the end of {object:?} after signal {end}"));
        }
    }
}

#[test]
fn a_link_whose_inner_end_was_moved_to_another_namespace_is_removed() {
    let net = internet!();
    let before = net.host.state();
    let far = TestNamespace::new("far");
    // The command is root, and the other namespace lives on.
    let script = format!("ip link set eth0 netns {}", far.pid());
    net.host.run(&["-q"], &["sh", "-c", &script]).assert_ok();
    net.host.assert_nothing_left(&before);
    assert!(!far.sh("ip link").contains("eth0"), "{}", far.sh("ip link"));
}
