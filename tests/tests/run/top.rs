//! `netwatch top`: the live view of a run, in a real terminal.

use std::process::Command;

use netwatch_tests::{
    Gate, RunningNetwatch, StartOptions, TestHost, Tmux, USER, USER_ID, addresses::*, internet, needs, wait_until,
};

use crate::TRAFFIC;
use crate::attach;

const SIZE: (u16, u16) = (80, 24);

/// A command that downloads at intervals until the gate is open.
fn start_downloads(host: &TestHost) -> (Gate, RunningNetwatch) {
    let gate = host.gate();
    let script = format!(
        "echo ready; {TRAFFIC} connect {APP_V4}:{REFUSED} 500; curl -s http://gone.example/
        until [ -e {} ]; do curl -s -o /dev/null http://app.example/client; sleep 0.1; done; exit 3",
        gate.path()
    );
    let mut run = host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    (gate, run)
}

fn top<'h>(host: &'h TestHost) -> Tmux<'h> {
    Tmux::start(host, SIZE, &format!("{} top --color never", host.binary().display()))
}

/// The process of `netwatch top`.
fn pid_of_top(tmux: &Tmux<'_>) -> i32 {
    let children = Command::new("ps").args(["-o", "pid=", "--ppid", &tmux.property("pane_pid")]).output();
    String::from_utf8_lossy(&children.expect("start ps").stdout).trim().parse().expect("one child")
}

fn kill(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("start kill").success());
}

#[test]
fn every_view_of_a_run_is_reached_by_keys_and_the_end_is_shown() {
    needs!("tmux");
    let net = internet!();
    let (gate, run) = start_downloads(&net.host);
    let tmux = top(&net.host);
    tmux.wait_until("an endpoint with its name", |screen| {
        screen.lines().any(|row| row.starts_with("app.example") && row.contains("tcp/80"))
    });
    assert!(tmux.property("alternate_on") == "1" && tmux.property("mouse_any_flag") == "1");
    tmux.keys(&["Enter"]);
    tmux.wait_until("its connections", |screen| screen.contains("STATE") && screen.contains("tcp/80"));
    tmux.keys(&["Enter"]);
    tmux.wait_until("details", |screen| screen.contains("handshake") && screen.contains("curl ("));
    tmux.keys(&["Enter", "3"]);
    tmux.wait_until("the tree", |screen| screen.contains("└ curl -s"));
    tmux.keys(&["4"]);
    tmux.wait_until("lookups", |screen| screen.contains("gone.example") && screen.contains("NXDOMAIN"));
    tmux.keys(&["5"]);
    tmux.wait_until("failures", |screen| screen.contains("refused") && screen.contains("DNS       NXDOMAIN"));
    tmux.keys(&["6"]);
    tmux.wait_until("losses", |screen| screen.contains("REASON"));
    tmux.keys(&["?"]);
    tmux.wait_for("this help");
    tmux.keys(&["q", "1", "p"]);
    tmux.wait_for("PAUSED");
    tmux.keys(&["p", "f", "u", "d", "p", "/", "5", "3", "Enter"]);
    tmux.wait_until("only DNS", |screen| screen.contains("udp/53") && !screen.contains("tcp/80"));
    gate.open();
    assert_eq!(run.finish().code, Some(3));
    tmux.wait_for("ended: exit code 3");
    tmux.keys(&["q"]);
    tmux.wait_for("ended-0");
    assert!(tmux.property("alternate_on") == "0" && tmux.property("mouse_any_flag") == "0");
}

#[test]
fn several_views_that_do_not_read_do_not_delay_the_run() {
    needs!("tmux", "socat");
    let net = internet!();
    let end = net.host.gate();
    let script = format!("echo ready; {}; {TRAFFIC} flows {APP_V4}:{ECHO} 3000 10", end.wait());
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let socket = net.host.sh("echo /run/netwatch/????????/top.sock");
    let address = format!("UNIX-CONNECT:{}", socket.trim());
    // It reads until the pipe to sleep is full.
    let mut stuck = net.host.command("socat");
    let mut stuck = stuck.args(["-u", &address, "EXEC:sleep 1000,pipes"]).spawn().expect("start socat");
    let (stopped, watching) = (top(&net.host), top(&net.host));
    stopped.wait_for("Endpoints");
    watching.wait_for("Endpoints");
    kill("-STOP", pid_of_top(&stopped));
    end.open();
    // The end of a run waits up to 60 seconds for a recording: longer than this waits for the run.
    let run = run.finish();
    assert!(!run.assert_ok().stderr.contains("viewer"), "{run}");
    // On a busy machine it may have been too slow for the last changes.
    watching.wait_for("ended: ");
    stuck.kill().expect("killed");
    stuck.wait().expect("ended");
    kill("-CONT", pid_of_top(&stopped));
    stopped.wait_for("ended: ");
}

#[test]
fn killed_views_leave_the_run_alone_and_a_killed_run_is_shown() {
    needs!("tmux");
    let net = internet!();
    let (_gate, run) = start_downloads(&net.host);
    for _ in 0..3 {
        let tmux = top(&net.host);
        tmux.wait_for("app.example");
        kill("-KILL", pid_of_top(&tmux));
        tmux.wait_for("ended-137");
    }
    let tmux = top(&net.host);
    tmux.wait_for("app.example");
    run.signal(libc::SIGKILL);
    let run = run.finish_early();
    assert!(!run.stderr.contains("viewer"), "{run}");
    tmux.wait_for("ended: it was killed");
    tmux.keys(&["2"]);
    tmux.wait_for("STATE");
    tmux.keys(&["C-c"]);
    tmux.wait_for("ended-0");
    assert_eq!(tmux.property("alternate_on"), "0");
}

#[test]
fn a_terminated_view_restores_the_terminal() {
    needs!("tmux");
    let net = internet!();
    let (gate, run) = start_downloads(&net.host);
    let tmux = top(&net.host);
    tmux.wait_for("app.example");
    kill("-TERM", pid_of_top(&tmux));
    tmux.wait_for("ended-0");
    wait_until(|| tmux.property("alternate_on") == "0", || "the screen of the shell".to_owned());
    gate.open();
    run.finish();
}

#[test]
fn the_user_who_started_a_run_may_view_it_and_others_may_not() {
    needs!("tmux");
    let net = internet!();
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let end = net.host.gate();
    let script = format!("echo ready; {}", end.wait());
    let mut run = net.host.start_netwatch_with(sudo, &["run", "-q", "--", "sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let top_as = |uid: &str| {
        let setpriv = format!("setpriv --reuid {uid} --regid {uid} --clear-groups --bounding-set -all");
        Tmux::start(&net.host, SIZE, &format!("{setpriv} {} top", net.host.binary().display()))
    };
    let (own, other) = (top_as(&id), top_as("65534"));
    own.wait_for("Endpoints");
    other.wait_for("it belongs to another user");
    other.wait_for("ended-2");
    end.open();
    run.finish();
}

#[test]
fn without_a_terminal_or_a_run_there_is_an_error() {
    needs!("tmux");
    let net = internet!();
    net.host.netwatch(&["top"]).assert_error(2, &["not a terminal", "--status=json"]);
    let tmux = top(&net.host);
    tmux.wait_for("cannot find a run: none is in progress");
    tmux.wait_for("ended-2");
    assert_eq!(tmux.property("alternate_on"), "0");
}

/// `netwatch run --tui -- sh -c SCRIPT`.
fn run_in_view<'h>(host: &'h TestHost, script: &str) -> Tmux<'h> {
    Tmux::start(host, SIZE, &format!("{} run --tui --color never -- sh -c '{script}'", host.binary().display()))
}

#[test]
fn a_run_in_a_view_shows_the_output_of_the_command_and_exits_as_it_did() {
    needs!("tmux");
    let net = internet!();
    let end = net.host.gate();
    let script = format!(
        "echo hello-$((1 + 1)); curl -s -o /dev/null http://app.example/; test -t 1 && echo on-a-terminal; {}; exit 4",
        end.wait()
    );
    let tmux = run_in_view(&net.host, &script);
    tmux.wait_until("the output", |screen| screen.contains("hello-2") && screen.contains("on-a-terminal"));
    tmux.keys(&["1"]);
    tmux.wait_until("the endpoint", |screen| screen.contains("app.example") && screen.contains("tcp/80"));
    tmux.keys(&["q"]);
    tmux.wait_for("q again ends the run");
    tmux.keys(&["7"]);
    tmux.wait_for("hello-2");
    end.open();
    tmux.wait_for("ended: exit code 4");
    tmux.wait_for("verified");
    tmux.keys(&["q"]);
    tmux.wait_for("ended-4");
    assert!(tmux.screen().contains("verified"), "the last output stays: {}", tmux.screen());
    assert_eq!(tmux.property("alternate_on"), "0");
}

#[test]
fn closing_or_killing_the_view_ends_the_run_of_its_own() {
    needs!("tmux");
    let net = internet!();
    let is_gone = || !net.host.try_sh("ls -d /run/netwatch/????????").0;
    let script = "echo hello-$((1 + 1)); exec sleep 1000";
    let tmux = run_in_view(&net.host, script);
    tmux.wait_for("hello-2");
    tmux.keys(&["q", "q"]);
    tmux.wait_for("ended-143");
    assert!(is_gone(), "the run has ended");
    let tmux = run_in_view(&net.host, script);
    tmux.wait_for("hello-2");
    kill("-KILL", pid_of_top(&tmux));
    wait_until(is_gone, || "the end of the run".to_owned());
}

#[test]
fn an_error_before_the_command_runs_is_shown_after_the_view() {
    needs!("tmux");
    let net = internet!();
    let tmux = Tmux::start(&net.host, SIZE, &format!("{} run --tui -- /no/such/program", net.host.binary().display()));
    tmux.wait_for("ended: see its output");
    tmux.keys(&["q"]);
    tmux.wait_for("ended-127");
    tmux.wait_for("/no/such/program");
}

#[test]
fn the_view_of_a_session_that_is_attached_ends_the_session_and_not_the_target() {
    needs!("tmux");
    let net = internet!();
    let client = attach::client(&net);
    let command = format!("{} attach -N {} --tui --color never", net.host.binary().display(), attach::netns(&client));
    let tmux = Tmux::start(&net.host, SIZE, &command);
    tmux.wait_for("attached to web0");
    attach::echo(&client);
    tmux.keys(&["1"]);
    tmux.wait_until("the endpoint", |screen| screen.contains("udp/7"));
    tmux.keys(&["q"]);
    tmux.wait_for("q again ends the run");
    tmux.keys(&["q"]);
    tmux.wait_for("ended-0");
    tmux.wait_for("attached for");
    attach::echo(&client);
}
