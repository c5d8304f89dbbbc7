//! A run while another process holds the lock that parallel runs share.

use std::fs::{self, DirEntry};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use netwatch_tests::{RunningNetwatch, TestInternet, internet, wait_until};

/// A process on the host that holds the lock until it is released.
struct LockHolder(Child);

impl LockHolder {
    fn new(net: &TestInternet) -> Self {
        let mut holder = net
            .host
            .command("sh")
            .args(["-c", "exec 9>/run/netwatch/lock && flock 9 && echo locked && read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a shell");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("read");
        assert_eq!(line, "locked\n");
        Self(holder)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("wait for the shell");
    }
}

/// Waits until one of these processes has the lock file open.
#[track_caller]
fn wait_until_waiting_for_lock(pids: &[i32]) {
    let is_lock = |entry: DirEntry| fs::read_link(entry.path()).is_ok_and(|path| path.ends_with("run/netwatch/lock"));
    let has_open = |pid: &i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(is_lock);
    wait_until(|| pids.iter().any(has_open), || "a process that waits for the lock".to_owned());
}

/// Sends SIGTERM until the run ends, as an impatient user would. It must not wait for the lock,
/// which is held until the test releases it.
#[track_caller]
fn terminate(running: &mut RunningNetwatch) {
    let mut has_ended = false;
    let end = || {
        has_ended = !running.is_running();
        if !has_ended {
            running.signal(libc::SIGTERM);
        }
        has_ended
    };
    wait_until(end, || "the end of a run after SIGTERM".to_owned());
}

#[test]
fn dns_and_signals_are_served_while_the_lock_is_held() {
    let net = internet!();
    let before = net.host.state();
    let gate = net.host.gate();
    let script = format!(
        "trap 'echo got TERM; exit 9' TERM; echo ready; {}; curl -sS http://app.example/
        while :; do sleep 0.02; done",
        gate.wait()
    );
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    let holder = LockHolder::new(&net);
    // netwatch switches on forwarding for new interfaces, for which it needs the lock.
    net.host.sh("ip link add late type veth peer name late2; ip link set late up");
    wait_until_waiting_for_lock(&[running.pid()]);
    gate.open();
    running.wait_for_stdout("hello");
    running.signal(libc::SIGTERM);
    running.wait_for_stdout("got TERM");
    // The run has ended, and undoing it needs the lock.
    terminate(&mut running);
    // On a busy machine the signals also end the making of the report.
    let run = running.finish_early();
    assert!(run.assert_code(9).stderr.contains("undone in the background"), "{run}");
    assert_eq!(net.host.sh("cat /proc/sys/net/ipv4/conf/uplink/forwarding").trim(), "1", "not undone yet");
    assert!(net.host.sh("nft list tables").contains("netwatch-"), "the table guards the host until then");
    holder.release();
    net.host.sh("ip link del late");
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_run_that_ends_while_the_lock_is_held_waits_and_undoes_everything() {
    let net = internet!();
    let before = net.host.state();
    let gate = net.host.gate();
    let mut running = net.host.start(&[], &["sh", "-c", &format!("echo ready; {}", gate.wait())]);
    running.wait_for_stdout("ready");
    let holder = LockHolder::new(&net);
    let processes = [running.pid(), running.guardian()];
    gate.open();
    wait_until_waiting_for_lock(&processes);
    assert!(running.is_running(), "it waits for the lock");
    holder.release();
    running.finish().assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn the_set_up_stops_at_a_signal_while_the_lock_is_held() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let holder = LockHolder::new(&net);
    let mut running = net.host.start(&[], &["true"]);
    wait_until_waiting_for_lock(&[running.pid()]);
    assert!(running.is_running(), "it waits for the lock");
    terminate(&mut running);
    running.finish_early().assert_code(128 + libc::SIGTERM);
    holder.release();
    net.host.assert_nothing_left(&before);
}

/// Milliseconds after the start of a run, most of them during its set-up. A test of any moment is
/// valid.
const STOP_TIMES_MS: [u64; 12] = [0, 2, 4, 6, 8, 10, 13, 16, 20, 30, 45, 70];

#[test]
fn a_start_that_is_stopped_does_not_block_the_end_of_another_run() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    // As ^Z, which netwatch puts off, and as `kill -STOP`, which it cannot.
    let signals = [libc::SIGTSTP, libc::SIGSTOP];
    for (millis, signal) in STOP_TIMES_MS.into_iter().flat_map(|millis| signals.map(|signal| (millis, signal))) {
        let gate = net.host.gate();
        let mut other = net.host.start(&[], &["sh", "-c", &format!("echo ready; {}", gate.wait())]);
        other.wait_for_stdout("ready");
        let starting = net.host.start(&[], &["sleep", "300"]);
        thread::sleep(Duration::from_millis(millis));
        starting.signal(signal);
        gate.open();
        other.finish().assert_ok();
        starting.signal(libc::SIGCONT);
        starting.signal(libc::SIGTERM);
        starting.finish_early();
    }
    net.host.assert_nothing_left(&before);
}
