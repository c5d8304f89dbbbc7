//! `netwatch attach`: the packets of interfaces that netwatch did not create, in files, as lines
//! and for tails.

use std::fs;

use netwatch_tests::{TestHost, addresses::*, internet, needs, report, wait_until};

use crate::attach::{assert_echo, client, echo, interrupt, netns, programs};

/// Interfaces of the datagrams of [`echo`] in a capture, with their numbers.
fn datagrams(host: &TestHost, file: &str) -> String {
    host.sh(&format!(
        "tshark -r {file} -Y 'udp.port == {ECHO}' -T fields -e frame.interface_name -e frame.comment 2>/dev/null \
         | sed 's/netwatch.*//' | sort | uniq -c | sed 's/^ *//; s/\\s*$//'"
    ))
}

#[test]
fn the_packets_of_a_namespace_are_those_that_were_counted() {
    let net = internet!();
    needs!("tshark");
    let client = client(&net);
    for (file, flags) in [("x.pcapng", &[][..]), ("x.pcap", &["-s", "96", "--super-frames"])] {
        let attached = net.host.attach(&[&["-N", &netns(&client), "-w", file], flags].concat());
        assert_eq!(programs(&net.host, "web0"), 4);
        echo(&client);
        interrupt(&attached);
        let run = attached.finish();
        assert_echo(run.assert_ok().report(), 1);
        assert_eq!(programs(&net.host, "web0"), 0);
        let replay = net.host.netwatch(&["replay", "-j", "-o", "replay.json", file]);
        replay.assert_ok();
        let text = fs::read_to_string(net.host.dir().join("replay.json")).expect("a report");
        let replay: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_echo(&replay, 1);
        for direction in report::DIRECTIONS {
            let total = format!("totals.{direction}.wire_bytes");
            assert_eq!(report::number(&replay, &total), report::number(run.report(), &total), "{run}");
        }
    }
    assert_eq!(datagrams(&net.host, "x.pcapng"), "200 web0\n");
}

/// One that exists, one that appears, and one that is named.
#[test]
fn each_interface_has_a_description() {
    let net = internet!();
    needs!("tshark");
    let client = client(&net);
    let flags = ["-N", &netns(&client), "-i", "uplink", "-w", "x.pcapng", "--filter", "udp"];
    let attached = net.host.attach(&flags);
    echo(&client);
    net.host.sh(&format!("ip link add web1 type veth peer name eth1 netns {}", client.pid()));
    wait_until(|| programs(&net.host, "web1") == 4, || format!("attached to web1: {}", attached.stderr()));
    net.host.sh("ip addr add 203.0.113.133/30 dev web1; ip link set web1 up");
    client.sh("ip addr add 203.0.113.134/30 dev eth1; ip link set eth1 up");
    client.wait_for("ip link show dev eth1 | grep -q 'state UP'");
    client.sh(&format!("ip route add {APP_V4} via 203.0.113.133 src 203.0.113.130"));
    net.host.sh("ip route replace 203.0.113.130 via 203.0.113.134");
    echo(&client);
    interrupt(&attached);
    let run = attached.finish();
    run.assert_ok();
    assert_eq!(datagrams(&net.host, "x.pcapng"), "400 uplink\n200 web0\n200 web1\n", "{run}");
    let details = net.host.sh("capinfos x.pcapng 2>/dev/null");
    assert!(details.contains("Number of interfaces in file: 3"), "{details}");
    net.host.sh("grep -aq 'all 3 interfaces together' x.pcapng");
}

#[test]
fn lines_are_printed_until_enough_were_captured() {
    let net = internet!();
    let client = client(&net);
    let attached =
        net.host.attach(&["-N", &netns(&client), "--packets=lines.txt", "-c", "3", "-Q", "out", "--filter", "udp"]);
    echo(&client);
    wait_until(|| programs(&net.host, "web0") == 2, || format!("the capture has ended: {}", attached.stderr()));
    interrupt(&attached);
    let run = attached.finish();
    assert_echo(run.assert_ok().report(), 1);
    let lines = fs::read_to_string(net.host.dir().join("lines.txt")).expect("lines");
    assert!(lines.lines().count() == 3 && lines.lines().all(|line| line.contains(&APP_V4.to_string())), "{lines}");
}

#[test]
fn a_tail_and_a_view_read_a_session_that_is_attached() {
    let net = internet!();
    let client = client(&net);
    let attached = net.host.attach(&["-N", &netns(&client)]);
    let tail = net.host.start_netwatch(&["tail", "-c", "150", "--filter", "udp"]);
    wait_until(|| programs(&net.host, "web0") == 4, || format!("the tail has a capture: {}", tail.stderr()));
    echo(&client);
    let tail = tail.finish();
    assert_eq!(tail.assert_ok().stdout.lines().count(), 150, "{tail}");
    wait_until(|| programs(&net.host, "web0") == 2, || "the capture of the tail is detached".to_owned());
    let top = net.host.on_terminal(100, &["top"]);
    top.wait_for("attach -N");
    drop(top);
    let refused = net.host.netwatch(&["tail", "--keylog", "-w", "x.pcapng"]);
    refused.assert_error(2, &["write keys of the session", "--keylog"]);
    interrupt(&attached);
    assert_echo(attached.finish().assert_ok().report(), 1);
}

#[test]
fn a_capture_without_an_interface_has_a_note() {
    let net = internet!();
    let flags = ["-i", "lo", "-w", "x.pcapng", "-j", "-o", "net.json", "--duration", "10ms"];
    net.host.netwatch(&[&["attach"][..], &flags].concat()).assert_ok();
    net.host.sh("grep -q 'nothing was captured: the packets of a loopback are not' net.json");
}

#[test]
fn packets_of_cgroups_are_refused_with_the_reason() {
    let net = internet!();
    let run = net.host.netwatch(&["attach", "--cgroup", "/", "-w", "x.pcapng"]);
    run.assert_error(2, &["capture packets of cgroups", "a cgroup has none", "-i"]);
    assert!(!net.host.dir().join("x.pcapng").exists(), "{run}");
}

/// Variables may be set for all sessions.
#[test]
fn a_variable_requests_no_packets_of_cgroups() {
    let net = internet!();
    net.host.sh(&format!(
        "NETWATCH_WRITE=x.pcapng {} attach --cgroup / --duration 10ms -j -o net.json \\
         && test ! -e x.pcapng && grep -q 'NETWATCH_WRITE and NETWATCH_PACKETS have no effect' net.json",
        net.host.binary().display()
    ));
}
