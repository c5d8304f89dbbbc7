//! A run while another process holds the lock that parallel runs share.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netwatch_tests::{RunningNetwatch, TestInternet, internet};

/// The lock is held until a test releases it, so any limit distinguishes waiting for it from not
/// waiting.
const AT_ONCE: Duration = Duration::from_secs(2);

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

/// Sends SIGTERM until the run ends, as an impatient user would. Returns how long that took.
fn terminate(running: &mut RunningNetwatch) -> Duration {
    let started = Instant::now();
    while running.is_running() {
        running.signal(libc::SIGTERM);
        thread::sleep(Duration::from_millis(20));
        assert!(started.elapsed() < AT_ONCE, "the run still waits:\n{}", running.stderr());
    }
    started.elapsed()
}

#[test]
fn dns_and_signals_are_served_while_the_lock_is_held() {
    let net = internet!();
    let before = net.host.state();
    let flag = net.host.dir().join("go");
    let script = format!(
        "trap 'echo got TERM; exit 9' TERM; echo ready; while [ ! -e {} ]; do sleep 0.02; done; curl -sS http://app.example/
        while :; do sleep 0.02; done",
        flag.display()
    );
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    let holder = LockHolder::new(&net);
    // netwatch switches on forwarding for new interfaces, for which it needs the lock.
    net.host.sh("ip link add late type veth peer name late2; ip link set late up");
    thread::sleep(Duration::from_millis(50));
    let started = Instant::now();
    std::fs::write(flag, "").expect("write the flag");
    running.wait_for_stdout("hello");
    assert!(started.elapsed() < AT_ONCE, "DNS waited for the lock: {:?}", started.elapsed());
    running.signal(libc::SIGTERM);
    running.wait_for_stdout("got TERM");
    // The run has ended, and undoing it needs the lock.
    terminate(&mut running);
    let run = running.finish();
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
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; sleep 0.1"]);
    running.wait_for_stdout("ready");
    let holder = LockHolder::new(&net);
    thread::sleep(Duration::from_millis(400));
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
    thread::sleep(Duration::from_millis(100));
    assert!(running.is_running(), "it waits for the lock");
    terminate(&mut running);
    running.finish_early().assert_code(128 + libc::SIGTERM);
    holder.release();
    net.host.assert_nothing_left(&before);
}
