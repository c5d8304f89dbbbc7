//! Captures compared packet for packet with those of tcpdump on the same link, and the ends of
//! captures: rotation under load, a closed pipe, a directory that disappears, SIGKILL.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};

use netwatch_tests::{TestHost, TestInternet, TestNamespace, addresses::*, internet, needs, report, wait_until};
use serde_json::Value;

use crate::TRAFFIC;

/// The fields of each packet of a file, one line each. Checksums differ: tcpdump shows those that
/// are left to hardware.
fn packets(host: &TestHost, file: &str) -> Vec<String> {
    let fields = "frame.time_epoch frame.len eth.src eth.dst eth.type arp.opcode ip.src ip.dst ip.id ip.len ip.flags \
                  ip.ttl ipv6.src ipv6.dst ipv6.plen ipv6.hlim udp.srcport udp.dstport udp.length tcp.srcport \
                  tcp.dstport tcp.seq_raw tcp.ack_raw tcp.flags tcp.window_size_value tcp.options tcp.len tcp.payload \
                  udp.payload icmp.type icmp.seq icmpv6.type data.data";
    let fields: Vec<String> = fields.split_whitespace().skip(1).map(|field| format!("-e {field}")).collect();
    let options = "-o tcp.desegment_tcp_streams:FALSE -o ip.defragment:FALSE";
    let text = host.sh(&format!("tshark -r {file} {options} -T fields {} 2>/dev/null", fields.join(" ")));
    text.lines().map(str::to_owned).collect()
}

/// Starts tcpdump on the link of the only run and waits until it captures.
fn start_tcpdump(host: &TestHost, file: &str) -> Child {
    let script = format!(
        "exec tcpdump -i $(ls /sys/class/net | grep '^nw') -w {file} -U -B 65536 --immediate-mode -s 0 2> tcpdump.log"
    );
    let child = host.command("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().expect("start tcpdump");
    host.wait_for("grep -q 'listening on' tcpdump.log");
    child
}

/// The numbers of packets that a file has and the other has not.
fn missing(ours: &[String], theirs: &[String]) -> (usize, usize, Option<String>) {
    let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
    ours.iter().for_each(|packet| *counts.entry(packet).or_default() += 1);
    theirs.iter().for_each(|packet| *counts.entry(packet).or_default() -= 1);
    let first = counts.iter().find(|(_, count)| **count != 0).map(|(packet, count)| format!("{count}: {packet}"));
    let sum =
        |sign: i64| counts.values().filter(|count| **count * sign > 0).map(|count| count.unsigned_abs()).sum::<u64>();
    (sum(1) as usize, sum(-1) as usize, first)
}

#[test]
fn the_packets_are_those_of_tcpdump() {
    let net = internet!();
    needs!("tcpdump");
    needs!("tshark");
    let gate = net.host.gate();
    let script = format!(
        "echo ready; {}; curl -s http://app.example/big -o /dev/null; ping -c3 -i0.01 {APP_V4}; ping -c3 -i0.01 {APP_V6}
        {TRAFFIC} udp {APP_V4}:{ECHO} 50 1000; {TRAFFIC} udp [{APP_V6}]:{ECHO} 50 100",
        gate.wait()
    );
    let flags = ["-q", "--super-frames", "-w", "ours.pcapng"];
    let mut run = net.host.start(&flags, &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let mut tcpdump = start_tcpdump(&net.host, "theirs.pcap");
    gate.open();
    run.finish().assert_ok();
    // The link is gone, and with it tcpdump.
    tcpdump.wait().expect("tcpdump ends");
    let log = fs::read_to_string(net.host.dir().join("tcpdump.log")).expect("a log");
    assert!(log.contains("\n0 packets dropped by kernel"), "{log}");
    let (ours, theirs) = (packets(&net.host, "ours.pcapng"), packets(&net.host, "theirs.pcap"));
    assert!(theirs.len() > 150, "{} packets", theirs.len());
    let (extra, lacking, example) = missing(&ours, &theirs);
    assert_eq!(lacking, 0, "packets that only tcpdump has: {example:?}");
    // Packets before tcpdump was started: neighbor discovery of the new link.
    assert!(extra <= ours.len() - theirs.len() && extra < 30, "{extra} packets that only netwatch has: {example:?}");
    // Two CPUs may deliver packets at the same time, in another order to each of the two captures.
    let in_order = ours[ours.len() - theirs.len()..].iter().zip(&theirs).filter(|(one, other)| one == other).count();
    assert!(in_order * 10 >= theirs.len() * 9, "{in_order} of {} packets are in the same order", theirs.len());
}

/// Super-frames are divided as the kernel divides them: the uplink takes no super-frames here, so
/// the router sees the packets of a wire. NAT changes addresses, and the way the TTL.
#[test]
fn divided_super_frames_are_the_packets_of_the_wire() {
    let net = internet!();
    needs!("tcpdump");
    needs!("tshark");
    net.host.sh("ip link set dev uplink gso_max_segs 1");
    let (ours, theirs) = (0..5).find_map(|round| transfer(&net, round)).expect("a transfer without losses in between");
    assert!(theirs.len() > 4000, "{} packets", theirs.len());
    let (extra, lacking, example) = missing(&ours, &theirs);
    assert_eq!((extra, lacking), (0, 0), "{example:?}");
}

/// The packets of a transfer, as netwatch and as the wire beyond the host saw them. `None` if the
/// sender repeated segments and the wire saw fewer: a busy machine lost some in between.
fn transfer(net: &TestInternet, round: u32) -> Option<(Vec<String>, Vec<String>)> {
    let (ours, theirs) = (format!("ours{round}.pcapng"), format!("theirs{round}.pcap"));
    let capture = format!("exec tcpdump -i lan -w {theirs} -U -B 65536 -s 0 tcp dst port {SINK} 2> tcpdump.log");
    let mut tcpdump = net.inet.command("sh").args(["-c", &capture]).spawn().expect("start tcpdump");
    net.inet.wait_for("grep -q 'listening on' tcpdump.log");
    let script = format!("{TRAFFIC} send {APP_V4}:{SINK} 3000000; {TRAFFIC} send [{APP_V6}]:{SINK} 3000000");
    let run = net.host.run(&["-q", "-w", &ours], &["sh", "-c", &script]);
    let totals = &run.assert_ok().report()["totals"]["egress"];
    assert!(totals["skbs"].as_u64() < totals["packets"].as_u64(), "there were super-frames: {run}");
    // tcpdump discards what it has not read when it ends.
    net.inet.wait_for(&format!("[ $(tshark -r {theirs} -Y tcp.flags.fin==1 2>/dev/null | wc -l) -ge 2 ]"));
    // SAFETY: the call takes no pointer. The child has not been waited for.
    unsafe { libc::kill(tcpdump.id() as i32, libc::SIGINT) };
    tcpdump.wait().expect("tcpdump ends");
    net.inet.sh("rm tcpdump.log");
    let packets = |host: &TestNamespace, file: &str| -> Vec<String> {
        let fields = "-e tcp.seq_raw -e tcp.ack_raw -e tcp.flags -e tcp.window_size_value -e tcp.options -e tcp.len \
                      -e tcp.payload -e frame.len -e ip.len -e ipv6.plen";
        let filter = format!("tcp.dstport == {SINK} and tcp.len > 0");
        let text = host.sh(&format!("tshark -r {file} -Y '{filter}' -T fields {fields} 2>/dev/null"));
        text.lines().map(str::to_owned).collect()
    };
    let repeated = |flow: &Value| flow["egress"]["retransmitted_packets"].as_u64().is_some_and(|packets| packets > 0);
    let has_repeated = report::list(run.report(), "flows").iter().any(repeated);
    let (ours, theirs) = (packets(&net.host, &ours), packets(&net.inet, &theirs));
    let has_lost = has_repeated && ours.len() > theirs.len();
    (!has_lost).then_some((ours, theirs))
}

#[test]
fn capinfos_and_tshark_read_every_kind_of_file() {
    let net = internet!();
    needs!("capinfos");
    let script = "curl -s http://app.example/big -o /dev/null";
    for (file, flags) in [
        ("a.pcapng", &[][..]),
        ("a.pcap", &[]),
        ("a.pcapng.gz", &[]),
        ("a.pcap.zst", &[]),
        ("b.pcapng", &["-s", "96"]),
        ("c.pcapng", &["-U", "-Q", "in"]),
        ("d.pcapng", &["--super-frames", "-Q", "out"]),
        ("e.pcapng", &["--only", "process=curl", "-c", "20"]),
    ] {
        let arguments = [&["run", "-q", "-w", file][..], flags, &["--", "sh", "-c", script]].concat();
        net.host.netwatch(&arguments).assert_ok();
        let facts = net.host.sh(&format!("capinfos -c -E -S {file}"));
        assert!(facts.contains("Number of packets") && facts.contains("Ethernet"), "{file}: {facts}");
        let complaints = net.host.sh(&format!("tshark -r {file} 2>&1 >/dev/null | grep -v 'Running as' || true"));
        assert_eq!(complaints, "", "{file}");
        let directions =
            net.host.sh(&format!("tshark -r {file} -T fields -e frame.packet_flags_direction 2>/dev/null"));
        let has = |direction: &str| directions.lines().any(|line| line.trim_start_matches("0x0").ends_with(direction));
        match file {
            "c.pcapng" => assert!(has("1") && !has("2"), "{directions}"),
            "d.pcapng" => assert!(has("2") && !has("1"), "{directions}"),
            "e.pcapng" => assert_eq!(directions.lines().count(), 20),
            _ => {}
        }
    }
}

/// Packets of a load that does not pause, in files that change every second or every 256 KiB: none
/// is missing at the seams, and the newest files stay.
#[test]
fn rotation_under_load_loses_no_packet() {
    let net = internet!();
    needs!("tshark");
    let script = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 4000 200");
    for (name, flags) in [("size", ["-C", "256K"]), ("time", ["-G", "1s"])] {
        let file = format!("{name}.pcapng");
        let command = if name == "time" { format!("{script}; sleep 1.2; {script}") } else { script.clone() };
        let arguments = [&["-q", "-w", &file][..], &flags].concat();
        let run = net.host.run(&arguments, &["sh", "-c", &command]);
        let totals = &run.assert_ok().report()["totals"];
        let sent = ["egress", "ingress"].map(|way| totals[way]["packets"].as_u64().unwrap_or(0)).iter().sum::<u64>();
        let files = net.host.sh(&format!("ls {name}-*.pcapng"));
        assert!(files.lines().count() >= 2, "{files}");
        let numbers = format!("tshark -r $file -Y 'udp.port == {ECHO}' -T fields -e frame.number 2>/dev/null");
        let count = net.host.sh(&format!("for file in {name}-*.pcapng; do {numbers}; done | wc -l"));
        assert_eq!(count.trim(), sent.to_string(), "{name}: {run}");
        net.host.sh(&format!("rm {name}-*.pcapng"));
    }
    for flags in [&["-C", "256K", "-W", "2"][..], &["-C", "256K", "-G", "1h", "-W", "2"]] {
        let arguments = [&["-q", "-w", "ring.pcapng"][..], flags].concat();
        net.host.run(&arguments, &["sh", "-c", &script]).assert_ok();
        let files = net.host.sh("ls ring-*.pcapng");
        assert_eq!(files.lines().count(), 2, "{files}");
        assert!(!files.contains("ring-00001"), "the oldest are removed: {files}");
        net.host.sh("rm ring-*.pcapng");
    }
}

#[test]
fn a_closed_pipe_ends_the_capture_and_not_the_run() {
    let net = internet!();
    net.host.sh("mkfifo pipe; head -c 24 pipe > /dev/null 2>&1 &");
    let script = "curl -s http://app.example/big -o /dev/null; echo done";
    let run = net.host.netwatch(&["run", "-w", "pipe", "--", "sh", "-c", script]);
    assert_eq!(run.assert_ok().stdout, "done\n", "{run}");
    assert!(run.stderr.contains("Broken pipe (EPIPE)") && run.stderr.contains("the capture is incomplete"), "{run}");
}

#[test]
fn a_directory_that_disappears_ends_the_capture_and_not_the_run() {
    let net = internet!();
    net.host.sh("mkdir gone");
    let script = "rm -r gone; for i in 1 2 3; do curl -s http://app.example/big -o /dev/null; done; echo done";
    let run = net.host.netwatch(&["run", "-C", "64K", "-w", "gone/x.pcapng", "--", "sh", "-c", script]);
    assert_eq!(run.assert_ok().stdout, "done\n", "{run}");
    assert!(run.stderr.contains("cannot write gone/x-00001.pcapng: the file was deleted"), "{run}");
}

#[test]
fn a_killed_run_leaves_a_readable_file() {
    let net = internet!();
    needs!("capinfos");
    let script = "while :; do curl -s http://app.example/big -o /dev/null; done";
    let run = net.host.start_netwatch(&["run", "-q", "-U", "-w", "x.pcapng", "--", "sh", "-c", script]);
    let size = || net.host.dir().join("x.pcapng").metadata().map_or(0, |about| about.len());
    wait_until(|| size() > 1_000_000, || "a megabyte in the file".to_owned());
    run.signal(libc::SIGKILL);
    run.finish_early();
    let counted = net.host.try_sh("tshark -r x.pcapng -T fields -e frame.number 2>/dev/null | wc -l").1;
    assert!(counted.trim().parse::<u32>().is_ok_and(|packets| packets > 100), "{counted}");
}

/// A disk of 600 KiB: the file has whole packets up to its end.
#[test]
fn a_disk_that_fills_up_leaves_a_readable_file() {
    let net = internet!();
    needs!("tshark");
    let binary = net.host.binary().display().to_string();
    let downloads = "for i in 1 2 3 4 5 6 7 8; do curl -s http://app.example/big -o /dev/null; done; echo done";
    // The mount goes with its namespace.
    let script = format!(
        "mkdir full; mount -t tmpfs -o size=600k none full
        {binary} run -q -w full/x.pcapng -- sh -c '{downloads}' 2> errors.txt; cp full/x.pcapng ."
    );
    fs::write(net.host.dir().join("fill.sh"), script).expect("a script");
    assert_eq!(net.host.sh("unshare -m sh fill.sh"), "done\n", "the run continues");
    let errors = fs::read_to_string(net.host.dir().join("errors.txt")).expect("errors");
    assert!(errors.contains("cannot write full/x.pcapng: No space left on device (ENOSPC)"), "{errors}");
    let read = net.host.sh("tshark -r x.pcapng 2>&1 | grep -v 'Running as'");
    assert!(read.lines().count() > 100 && !read.contains("cut short"), "{read}");
}

/// SIGINT, as the terminal's Ctrl-C: the file is complete.
#[test]
fn an_interrupted_run_leaves_a_complete_file() {
    let net = internet!();
    needs!("tshark");
    let script = "trap 'exit 0' INT; while :; do curl -s http://app.example/client -o /dev/null; done";
    let run = net.host.start(&["-q", "-U", "-w", "x.pcapng"], &["sh", "-c", script]);
    let size = || net.host.dir().join("x.pcapng").metadata().map_or(0, |about| about.len());
    wait_until(|| size() > 20_000, || "packets in the file".to_owned());
    run.signal(libc::SIGINT);
    let run = run.finish();
    let flows = run.assert_ok().report()["flows"].as_array().expect("flows");
    let of_flow = |flow: &Value| ["egress", "ingress"].map(|way| flow[way]["packets"].as_u64().unwrap_or(0));
    let packets = flows.iter().filter(|flow| flow["protocol"] == "tcp").flat_map(of_flow).sum::<u64>();
    let read = net.host.sh(
        "tshark -r x.pcapng -Y tcp -T fields -e frame.number 2>errors.txt; grep -v 'Running as' errors.txt || true",
    );
    let read = read.lines().collect::<Vec<_>>();
    assert_eq!(read.len() as u64, packets, "every packet of TCP, and no complaint: {:?}", read.last());
}
