//! `netwatch tail`: the packets of a run in progress, in another process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use netwatch_tests::{
    RunningNetwatch, StartOptions, TestHost, USER, USER_ID, addresses::*, internet, needs, wait_until,
};

/// A command that downloads until the gate is open, and then one last page.
fn downloads(host: &TestHost, id: &str) -> (netwatch_tests::Gate, String) {
    let gate = host.gate();
    let script = format!(
        "echo {id}; until [ -e {} ]; do curl -s -o /dev/null http://app.example/client; done
        curl -s http://app.example/last",
        gate.path()
    );
    (gate, script)
}

/// Number of BPF programs that the guardian of a run has open: those of captures.
fn open_programs(guardian: i32) -> usize {
    let entries = fs::read_dir(format!("/proc/{guardian}/fd")).expect("the guardian lives").flatten();
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.ends_with("anon_inode:bpf-prog"))).count()
}

fn wait_for_lines(tail: &RunningNetwatch) {
    wait_until(|| tail.stdout().contains("Flags [S]"), || format!("a line of the tail: {}", tail.stderr()));
}

#[test]
fn a_tail_prints_the_packets_of_a_run_until_it_ends() {
    let net = internet!();
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = net.host.start_netwatch(&["tail", "-n", "-t"]);
    let named = net.host.start_netwatch(&["tail", "--only", "process=curl", "--only", "name=app.example"]);
    wait_for_lines(&tail);
    wait_for_lines(&named);
    gate.open();
    run.finish().assert_ok();
    let (tail, named) = (tail.finish(), named.finish());
    assert!(tail.assert_ok().stderr.contains("has ended"), "{tail}");
    for wanted in ["HTTP GET /last HTTP/1.1", "curl[", "DNS "] {
        assert!(tail.stdout.contains(wanted), "{wanted}: {tail}");
    }
    assert!(tail.stdout.lines().all(|line| line.starts_with("-> ") || line.starts_with("<- ")), "{tail}");
    assert!(!tail.stdout.contains("| app.example"), "no names with -n: {tail}");
    let (first, last) = (named.assert_ok().stdout.lines().next(), named.stdout.lines().last());
    assert!(first.is_some() && last.is_some_and(|line| line.contains("| app.example | curl[")), "{named}");
    assert!(named.stdout.lines().all(|line| line.contains("| app.example | curl[")), "{named}");
}

#[test]
fn a_tail_reports_that_its_filter_is_applied_in_user_space() {
    let net = internet!();
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = net.host.netwatch(&["tail", "-c", "3", "--filter", "ip6 protochain 6 or ip protochain 6"]);
    assert_eq!(tail.assert_ok().stdout.lines().count(), 3, "{tail}");
    assert!(tail.stderr.contains("the capture is filtered by netwatch and not by the kernel: "), "{tail}");
    gate.open();
    run.finish().assert_ok();
}

#[test]
fn the_programs_of_a_tail_are_detached_when_it_leaves() {
    let net = internet!();
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let guardian = run.guardian();
    let before = open_programs(guardian);
    for file in ["three.pcapng", "three.pcap"] {
        let tail = net.host.netwatch(&["tail", "-c", "3", "-w", file]);
        tail.assert_ok();
        let shown = net.host.netwatch(&["replay", "--packets", file]);
        assert_eq!(shown.assert_ok().stdout.lines().count(), 3, "{file}: {shown}");
    }
    wait_until(|| open_programs(guardian) == before, || "the programs of the tail are detached".to_owned());
    let tails: Vec<_> = (0..4).map(|_| net.host.start_netwatch(&["tail"])).collect();
    tails.iter().for_each(wait_for_lines);
    assert!(open_programs(guardian) > before);
    let refused = net.host.netwatch(&["tail"]);
    refused.assert_error(2, &["attach to the run", "4 tails are attached already"]);
    tails.into_iter().for_each(|tail| {
        tail.signal(libc::SIGINT);
        tail.finish().assert_ok();
    });
    wait_until(|| open_programs(guardian) == before, || "the programs of all tails are detached".to_owned());
    gate.open();
    run.finish().assert_ok();
}

#[test]
fn a_tail_that_does_not_read_loses_packets_and_does_not_delay_the_run() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!(
        "echo ready; until [ -e {} ]; do curl -s -o /dev/null http://app.example/client; done
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -s http://app.example/big -o /dev/null; done; echo done",
        gate.path()
    );
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let mut command = net.host.command(net.host.binary());
    command.args(["tail", "-x", "--capture-buffer", "512"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tail = command.spawn().expect("start netwatch");
    let mut lines = BufReader::new(tail.stdout.take().expect("a pipe"));
    let mut text = String::new();
    lines.read_line(&mut text).expect("the tail is attached");
    gate.open();
    run.wait_for_stdout("done");
    // The tail reads again only now, when the run may have ended.
    lines.read_to_string(&mut text).expect("UTF-8");
    run.finish().assert_ok();
    tail.wait().expect("the tail ends");
    assert!(text.contains("packets not shown: the buffer was full"), "{} bytes", text.len());
}

#[test]
fn tshark_reads_what_a_tail_writes_to_standard_output() {
    let net = internet!();
    needs!("tshark");
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let pipe =
        "exec \"$0\" tail -w - --filter 'tcp port 80' | tshark -l -r - -T fields -e http.request.uri -e frame.comment";
    let mut shell = net.host.command("sh");
    shell.args(["-c", pipe]).arg(net.host.binary()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = shell.spawn().expect("start a shell");
    let mut lines = BufReader::new(shell.stdout.take().expect("a pipe"));
    let mut text = String::new();
    lines.read_line(&mut text).expect("tshark prints a packet while the run continues");
    gate.open();
    lines.read_to_string(&mut text).expect("UTF-8");
    run.finish().assert_ok();
    shell.wait().expect("the shell ends");
    assert!(text.contains("/last\tprocess pid="), "{text}");
    assert!(!text.contains("remote name="), "the name of the remote is not part of the file: {text}");
}

#[test]
fn a_tail_ends_quietly_when_its_reader_has_left() {
    let net = internet!();
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = format!("{} tail -w - 2> errors.txt; echo $? > code.txt", net.host.binary().display());
    net.host.sh(&format!("({tail}) | head -c 100 > /dev/null"));
    assert_eq!(net.host.sh("cat code.txt errors.txt"), "0\n");
    gate.open();
    run.finish().assert_ok();
}

#[test]
fn the_user_who_started_a_run_may_watch_it_and_others_may_not() {
    let net = internet!();
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let (gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start_netwatch_with(sudo, &["run", "-q", "--", "sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let binary = net.host.binary().display().to_string();
    let tail_as = |uid: &str, run: &str| -> (bool, String) {
        let setpriv = format!("setpriv --reuid {uid} --regid {uid} --clear-groups --bounding-set -all");
        // A container or another namespace hides the links of runs, but not their directories.
        let script = format!("mount -t tmpfs none /sys && exec {setpriv} {binary} tail -c 1 {run} 2>&1");
        net.host.try_sh(&format!("unshare -m sh -c '{script}'"))
    };
    let run_id = net.host.sh("basename $(dirname /run/netwatch/*/card.json)");
    for named in ["", run_id.trim(), &run_id[..4]] {
        let (is_ok, text) = tail_as(&id, named);
        assert!(is_ok && (text.contains("-> ") || text.contains("<- ")), "{named}: {text}");
    }
    let (is_ok, text) = tail_as("65534", "");
    assert!(!is_ok && text.contains("it belongs to another user"), "{text}");
    let card = "stat -c %a /run/netwatch/????????/card.json /run/netwatch/????????/journal";
    assert_eq!(net.host.sh(card).split_whitespace().collect::<Vec<_>>(), ["600", "600"]);
    gate.open();
    run.finish().assert_ok();
}

#[test]
fn a_tail_without_a_run_is_an_error() {
    let net = internet!();
    net.host.netwatch(&["tail"]).assert_error(2, &["cannot find a run", "none is in progress", "netwatch run"]);
    let running = [(); 2].map(|()| net.host.start(&["-q"], &["sh", "-c", "echo ready; exec sleep 1000"]));
    let [mut first, mut second] = running;
    first.wait_for_stdout("ready");
    second.wait_for_stdout("ready");
    net.host.netwatch(&["tail"]).assert_error(2, &["2 runs are in progress", "name one of them"]);
    for run in [first, second] {
        run.signal(libc::SIGTERM);
        run.finish();
    }
}

/// A killed run ends its tails, and what they wrote is readable.
#[test]
fn a_killed_run_ends_its_tail() {
    let net = internet!();
    let (_gate, script) = downloads(&net.host, "ready");
    let mut run = net.host.start(&["-q"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = net.host.start_netwatch(&["tail", "-U", "-w", "x.pcapng"]);
    let size = || net.host.dir().join("x.pcapng").metadata().map_or(0, |about| about.len());
    wait_until(|| size() > 1000, || "packets in the file".to_owned());
    run.signal(libc::SIGKILL);
    run.finish_early();
    let tail = tail.finish();
    assert!(tail.assert_code(1).stderr.contains("the run was killed"), "{tail}");
    let read = Command::new("capinfos").arg(net.host.dir().join("x.pcapng")).output();
    assert!(read.is_ok_and(|output| output.status.success()), "capinfos reads the file");
    assert!(net.host.try_sh(&format!("ping -c1 -W1 {APP_V4}")).0, "the host is intact");
}
