//! netwatch and its guardian killed at the same time: nobody is left to clean up, until the next run or `clean`. And the guardian alone.

use netwatch_tests::{HostSnapshot, RunningNetwatch, TestInternet, eventually, internet};

/// One process that has left session and parents behind, one that has its own network and mount namespaces, and the command itself.
const SCATTER: &str =
    "setsid sleep 300 & setsid unshare --net --mount sleep 300 & sleep 0.2; echo ready; exec sleep 300";

/// What is mounted below cannot be reached any more.
fn hide_cgroups(net: &TestInternet) {
    net.host.sh("for mount in $(findmnt -n -l -t cgroup2 -o TARGET | sort -u); do umount -l $mount; done");
    let run = net.host.watch(&["true"]);
    assert!(run.assert_ok().stderr.contains("without a cgroup of its own"), "{run}");
}

fn scatter(net: &TestInternet, flags: &[&str]) -> RunningNetwatch {
    let mut running = net.host.start(flags, &["sh", "-c", SCATTER]);
    running.wait_for_stdout("ready");
    running
}

fn assert_cleaned_up_by(net: &TestInternet, before: &HostSnapshot, cleaner: &[&str]) {
    assert!(!net.host.processes().is_empty(), "some outlive them");
    net.host.netwatch(cleaner).assert_ok();
    assert_nobody_lives(net, &cleaner.join(" "));
    net.host.assert_nothing_left(before);
}

fn assert_nobody_lives(net: &TestInternet, after: &str) {
    eventually(|| if net.host.processes().is_empty() { Ok(()) } else { Err(format!("{:?}", net.host.processes())) })
        .unwrap_or_else(|left| panic!("still alive after {after}: {left}"));
}

#[test]
fn the_next_run_or_clean_ends_what_is_left_and_undoes_everything() {
    let net = internet!();
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    net.host.netwatch(&["run", "-q", "--name", "other", "--", "true"]).assert_ok();
    for has_cgroups in [true, false] {
        if !has_cgroups {
            hide_cgroups(&net);
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
fn whoever_joined_the_namespace_is_left_alone() {
    let net = internet!();
    hide_cgroups(&net);
    let running = scatter(&net, &["--name", "teal"]);
    let mut joined = net.host.command("ip").args(["netns", "exec", "teal", "sleep", "300"]).spawn().expect("start ip");
    net.host.wait_for(&format!(
        "grep -q teal /proc/{}/mountinfo && grep -q sleep /proc/{}/comm",
        joined.id(),
        joined.id()
    ));
    running.kill_with_guardian();
    net.host.netwatch(&["clean"]).assert_ok();
    assert_eq!(joined.try_wait().expect("wait"), None, "not a process of the run");
    assert_eq!(net.host.processes(), [joined.id() as i32]);
    joined.kill().expect("it lives");
    joined.wait().expect("wait");
}

#[test]
fn without_cgroups_a_run_works_and_ends_its_daemons() {
    let net = internet!();
    hide_cgroups(&net);
    let before = net.host.state();
    net.host.watch(&["sh", "-c", "setsid sleep 300 & exit 4"]).assert_code(4);
    net.host.assert_nothing_left(&before);
    // Only netwatch is killed: its guardian needs no cgroup.
    let running = scatter(&net, &[]);
    running.signal(libc::SIGKILL);
    running.finish();
    assert_nobody_lives(&net, "SIGKILL");
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_guardian_that_is_killed_alone_ends_the_run_with_a_word_and_nothing_left() {
    let net = internet!();
    for has_cgroups in [true, false] {
        if !has_cgroups {
            hide_cgroups(&net);
        }
        let before = net.host.state();
        let running = scatter(&net, &[]);
        // SAFETY: a plain system call; netwatch, which we started, is its parent and has not ended.
        assert_eq!(unsafe { libc::kill(running.guardian(), libc::SIGKILL) }, 0);
        let run = running.finish();
        assert!(run.assert_code(125).stderr.contains("the guardian process was killed"), "{run}");
        net.host.assert_nothing_left(&before);
    }
}
