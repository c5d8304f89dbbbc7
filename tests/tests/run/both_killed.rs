//! netwatch and its guardian killed at the same time: the next run or `clean` undoes everything.
//! And the guardian killed alone.

use netwatch_tests::{HostSnapshot, RunningNetwatch, TestInternet, internet, wait_until};

/// A process in a session of its own, one in its own network and mount namespaces (where it may
/// make them), and the command itself.
const SCATTER: &str = "setsid sh -c 'echo daemon; exec sleep 300' &
    (setsid unshare --net --mount sh -c 'echo isolated; exec sleep 300' || echo isolated) &
    exec sh -c 'echo command; exec sleep 300'";

fn scatter(net: &TestInternet, flags: &[&str]) -> RunningNetwatch {
    let mut running = net.host.start(flags, &["sh", "-c", SCATTER]);
    ["daemon", "isolated", "command"].iter().for_each(|process| running.wait_for_stdout(process));
    running
}

fn assert_cleaned_up_by(net: &TestInternet, before: &HostSnapshot, cleaner: &[&str]) {
    assert!(!net.host.processes().is_empty(), "the run's processes outlive netwatch and its guardian");
    net.host.netwatch(cleaner).assert_ok();
    assert_no_process_left(net, &cleaner.join(" "));
    net.host.assert_nothing_left(before);
}

#[track_caller]
fn assert_no_process_left(net: &TestInternet, after: &str) {
    let left = || net.host.processes();
    wait_until(|| left().is_empty(), || format!("the end of {:?} after {after}", left()));
}

#[test]
fn the_next_run_or_clean_ends_all_processes_and_undoes_everything() {
    let net = internet!();
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    net.host.netwatch(&["run", "-q", "--name", "other", "--", "true"]).assert_ok();
    for has_cgroups in [true, false] {
        if !has_cgroups {
            net.host.forbid_cgroups();
        }
        let before = net.host.state();
        for cleaner in [&["clean"][..], &["run", "-q", "--", "true"]] {
            for flags in [&["-u", "tester"][..], &["--name", "cyan", "--publish", "8080:80"]] {
                scatter(&net, flags).kill_with_guardian();
                assert_cleaned_up_by(&net, &before, cleaner);
            }
        }
    }
}

#[test]
fn a_process_that_joined_the_namespace_is_left_alone() {
    let net = internet!();
    net.host.forbid_cgroups();
    let running = scatter(&net, &["--name", "teal"]);
    let mut joined = net.host.command("ip").args(["netns", "exec", "teal", "sleep", "300"]).spawn().expect("start ip");
    net.host.wait_for(&format!(
        "grep -q teal /proc/{}/mountinfo && grep -q sleep /proc/{}/comm",
        joined.id(),
        joined.id()
    ));
    running.kill_with_guardian();
    net.host.netwatch(&["clean"]).assert_ok();
    assert_eq!(joined.try_wait().expect("wait"), None, "it is not a process of the run");
    assert_eq!(net.host.processes(), [joined.id() as i32]);
    joined.kill().expect("kill sleep");
    joined.wait().expect("wait");
}

#[test]
fn without_cgroups_a_run_works_and_ends_its_daemons() {
    let net = internet!();
    net.host.forbid_cgroups();
    let before = net.host.state();
    net.host.watch(&["sh", "-c", "setsid sleep 300 & exit 4"]).assert_code(4);
    net.host.assert_nothing_left(&before);
    // The guardian alone ends them too, without a cgroup.
    let running = scatter(&net, &[]);
    running.signal(libc::SIGKILL);
    running.finish();
    assert_no_process_left(&net, "SIGKILL");
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_guardian_killed_alone_ends_the_run_with_an_error_and_nothing_is_left() {
    let net = internet!();
    for has_cgroups in [true, false] {
        if !has_cgroups {
            net.host.forbid_cgroups();
        }
        let before = net.host.state();
        let running = scatter(&net, &[]);
        // SAFETY: the call takes no pointer. netwatch is the guardian's parent and has not ended.
        assert_eq!(unsafe { libc::kill(running.guardian(), libc::SIGKILL) }, 0);
        let run = running.finish();
        assert!(run.assert_code(125).stderr.contains("the guardian process was killed"), "{run}");
        net.host.assert_nothing_left(&before);
    }
}
