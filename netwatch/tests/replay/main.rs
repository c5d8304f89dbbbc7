//! `netwatch replay` on the command line: its output and exit codes. The captures are synthetic.

mod stated;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netwatch_tests::report::assert_balanced;
use serde_json::Value;
use tempfile::TempDir;

const ETHERNET: u32 = 1;
const RAW: u32 = 101;
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const SERVER: [u8; 4] = [203, 0, 113, 9];

/// A capture of one link type with one frame per second.
fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let seconds = 0..;
    pcap_at(link, &seconds.zip(frames).map(|(second, frame)| (second, frame.clone())).collect::<Vec<_>>())
}

/// A capture of one link type, each frame with its second.
fn pcap_at(link: u32, frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let words = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link]);
    for (second, frame) in frames {
        file.extend(words(&[1_700_000_000 + second, 0, frame.len() as u32, frame.len() as u32]));
        file.extend(frame);
    }
    file
}

fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let total = ((20 + rest.len()) as u16).to_be_bytes();
    let fixed = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 63, protocol, 0, 0]].concat();
    [&fixed[..], &source, &destination, rest].concat()
}

fn udp(there: bool, payload: usize) -> Vec<u8> {
    let (ports, source, destination) =
        if there { ([[4, 0], [0, 53]], CLIENT, SERVER) } else { ([[0, 53], [4, 0]], SERVER, CLIENT) };
    let length = ((8 + payload) as u16).to_be_bytes();
    ipv4(17, source, destination, &[&ports.concat()[..], &length, &[0, 0], &vec![1; payload]].concat())
}

fn tcp(there: bool, flags: u8, sequence: u32, acknowledgment: u32, payload: usize) -> Vec<u8> {
    let (ports, source, destination) =
        if there { ([[4, 0], [0, 80]], CLIENT, SERVER) } else { ([[0, 80], [4, 0]], SERVER, CLIENT) };
    let numbers = [sequence.to_be_bytes(), acknowledgment.to_be_bytes()].concat();
    let rest = [&ports.concat()[..], &numbers, &[0x50, flags, 1, 0, 0, 0, 0, 0], &vec![1; payload]].concat();
    ipv4(6, source, destination, &rest)
}

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), rest].concat()
}

/// A query and its response.
fn exchange() -> Vec<u8> {
    pcap(ETHERNET, &[ethernet(0x0800, &udp(true, 20)), ethernet(0x0800, &udp(false, 100))])
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

/// Runs `netwatch replay` and checks that the balance of its report closes.
#[track_caller]
fn netwatch(words: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netwatch"));
    command.arg("replay").args(words).arg(file).stdin(Stdio::null());
    command.env_remove("NETWATCH_JSON").env_remove("NETWATCH_REPLAY_OUTPUT").env_remove("NETWATCH_LOCAL");
    let output = command.output().expect("started");
    if let Ok(document) = serde_json::from_slice(&output.stdout) {
        assert_balanced(&document);
    }
    output
}

#[track_caller]
fn output_of(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[track_caller]
fn report(words: &[&str], file: &Path) -> Value {
    let (out, err) = output_of(&netwatch(&[&["-j"], words].concat(), file), 0);
    assert_eq!(err, "");
    serde_json::from_str(&out).expect("JSON")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn the_summary_goes_to_standard_output() {
    let folder = Folder::new();
    let file = folder.write("dns.pcap", &exchange());
    let (out, err) = output_of(&netwatch(&[], &file), 0);
    for words in ["dns.pcap", "pcap, ethernet: 2 frames over 1.00 s from 2023-11-14T22:13:20Z", "203.0.113.9", "udp/53"]
    {
        assert!(out.contains(words), "{words} is not in\n{out}");
    }
    assert!(out.contains("every packet counted, nothing lost"), "{out}");
    assert!(!out.contains("loopback") && !out.contains("\x1b["), "{out}");
    assert_eq!(err, "");
}

#[test]
fn the_capture_that_is_read_is_no_output() {
    let folder = Folder::new();
    let file = folder.write("dns.pcap", &exchange());
    let link = folder.0.path().join("link.pcap");
    std::fs::hard_link(&file, &link).expect("a link");
    for output in [&file, &link].map(|path| path.to_str().expect("UTF-8")) {
        for words in [&["--force", "-w", output][..], &["-w", output]] {
            let (_, err) = output_of(&netwatch(words, &file), 2);
            assert!(err.contains("the same file is read"), "{words:?}: {err}");
            assert!(std::fs::read(&file).is_ok_and(|bytes| bytes == exchange()), "{words:?}");
        }
    }
    // The extension of a capture is refused by -o already.
    let report = folder.0.path().join("report.txt");
    std::fs::hard_link(&file, &report).expect("a link");
    let (_, err) = output_of(&netwatch(&["-o", report.to_str().expect("UTF-8")], &file), 2);
    assert!(err.contains("the same file is read"), "{err}");
    assert!(std::fs::read(&file).is_ok_and(|bytes| bytes == exchange()));
}

#[test]
fn json_has_the_file_instead_of_a_run() {
    let folder = Folder::new();
    let json = report(&[], &folder.write("dns.pcap", &exchange()));
    for absent in ["run", "interface", "loopback"] {
        assert!(json.get(absent).is_none(), "{absent}: {json:#}");
    }
    assert!(json["dns"].get("resolvers").is_none(), "{json:#}");
    assert_eq!(json["replay"]["format"], "pcap");
    assert_eq!(json["replay"]["link_types"], serde_json::json!(["ethernet"]));
    assert_eq!(json["replay"]["engine"], "host");
    assert_eq!(json["replay"]["duration_ns"], 1_000_000_000);
    assert_eq!(json["balance"]["state"], "closed");
    assert_eq!(json["balance"]["file"]["frames"], serde_json::json!({ "skbs": 2, "bytes": 204 }));
    let flow = &json["flows"][0];
    assert_eq!((&flow["local"], flow.get("direction")), (&"198.51.100.7".into(), None));
    assert_eq!((&flow["egress"]["wire_bytes"], &flow["ingress"]["wire_bytes"]), (&62.into(), &142.into()));
    assert_eq!(flow["first_seen"], "2023-11-14T22:13:20.000000000Z");
}

#[test]
fn local_addresses_decide_the_direction() {
    let folder = Folder::new();
    let file = folder.write("dns.pcap", &exchange());
    let json = report(&["--local", "192.0.2.1", "--local", "203.0.113.0/24"], &file);
    let flow = &json["flows"][0];
    assert_eq!((&flow["local"], &flow["direction"]), (&"203.0.113.9".into(), &"in".into()));
    assert_eq!((&flow["egress"]["wire_bytes"], &flow["ingress"]["wire_bytes"]), (&142.into(), &62.into()));
    assert_eq!(json["notes"], serde_json::json!([]));
    let others = report(&["--local", "192.0.2.1"], &file);
    assert_eq!(others["flows"][0]["local"], "198.51.100.7", "the opener, as without");
    assert!(others["notes"][0].as_str().expect("a note").starts_with("2 frames between addresses of which none"));
}

#[test]
fn reads_a_capture_from_standard_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netwatch"));
    command.args(["replay", "-j", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("piped").write_all(&exchange()).expect("written");
    let output = child.wait_with_output().expect("ended");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_balanced(&json);
    assert_eq!(json["balance"]["file"]["frames"]["skbs"], 2);
}

#[test]
fn output_quiet_and_json_work_as_in_run() {
    let folder = Folder::new();
    let file = folder.write("dns.pcap", &exchange());
    let target = folder.0.path().join("report");
    let path = target.to_str().expect("UTF-8");
    let written = || std::fs::read_to_string(&target).expect("a report");
    assert_eq!(output_of(&netwatch(&["-o", path], &file), 0).0, "", "the summary is in the file");
    assert!(written().contains("udp/53"));
    let (out, _) = output_of(&netwatch(&["-j", "-o", path], &file), 0);
    assert!(out.contains("udp/53"));
    assert_balanced(&serde_json::from_str(&written()).expect("JSON"));
    assert_eq!(output_of(&netwatch(&["-q", "-j", "-o", path], &file), 0), (String::new(), String::new()));
    assert!(output_of(&netwatch(&["--color", "always"], &file), 0).0.contains("\x1b["));
}

#[test]
fn a_broken_file_is_reported_up_to_its_error() {
    let folder = Folder::new();
    let whole = exchange();
    let file = folder.write("cut.pcap", &whole[..whole.len() - 5]);
    let (out, err) = output_of(&netwatch(&["-j"], &file), 1);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    // A header of 24 bytes, and one frame of 62 bytes with its header of 16.
    assert_eq!(json["replay"]["ended_early"]["offset_bytes"], 102);
    assert_eq!((&json["balance"]["file"]["frames"]["skbs"], &json["balance"]["state"]), (&1.into(), &"closed".into()));
    assert!(err.contains("cut.pcap at byte 102: the file ends 153 bytes into a record of 158"), "{err}");
    let (out, _) = output_of(&netwatch(&[], &file), 1);
    assert!(out.contains("incomplete: the file was read up to byte 102"), "{out}");
}

#[test]
fn errors_are_one_line_and_exit_code_2() {
    let folder = Folder::new();
    let text = folder.write("text", b"not a capture, but long enough to be one");
    let file = folder.write("dns.pcap", &exchange());
    let table: [(&[&str], &Path, &str); 5] = [
        (&[], &text, "neither pcap nor pcapng"),
        (&[], Path::new("/nonexistent"), "cannot open /nonexistent: No such file or directory (ENOENT)"),
        (&["--local", "localhost"], &file, "localhost is neither an address nor a network"),
        (&["-o", "/nonexistent/report"], &file, "/nonexistent/report"),
        (&["-q", "-o", "/dev/full"], &file, "(ENOSPC)"),
    ];
    for (words, file, expected) in table {
        let (out, err) = output_of(&netwatch(words, file), 2);
        assert_eq!((out.as_str(), err.lines().filter(|line| !line.starts_with("hint: ")).count()), ("", 1), "{err}");
        assert!(err.starts_with("netwatch: ") && err.contains(expected), "{err}");
    }
}

#[test]
fn frames_of_an_unsupported_link_type_are_counted_and_reported() {
    let folder = Folder::new();
    let json = report(&[], &folder.write("wifi.pcap", &pcap(105, &[vec![8; 60]])));
    assert_eq!(
        (&json["remainders"][0]["kind"], &json["remainders"][0]["detail"]),
        (&"non_ip".into(), &"0xffff".into())
    );
    assert_eq!(json["notes"][0], "1 frame of the unsupported link type 105: counted as non-IP");
}

/// The data that both engines must agree on: everything except names, times, and facts that only
/// one of them has.
fn comparable(mut json: Value) -> Value {
    for flow in json["flows"].as_array_mut().expect("a list") {
        let flow = flow.as_object_mut().expect("an object");
        flow.remove("first_seen");
        flow.remove("duration_ns");
        flow.retain(|key, _| !key.contains("rtt"));
    }
    let flows = json["flows"].as_array_mut().expect("a list");
    flows.sort_by_key(|flow| flow.to_string());
    serde_json::json!({ "flows": json["flows"], "remainders": json["remainders"], "totals": json["totals"], "balance": json["balance"] })
}

#[track_caller]
fn assert_same_by_kernel(name: &str, capture: &[u8], words: &[&str]) {
    let folder = Folder::new();
    let file = folder.write(name, capture);
    let (host, kernel) = (report(words, &file), report(&[words, &["--kernel"]].concat(), &file));
    assert_eq!((&kernel["replay"]["engine"], &kernel["notes"]), (&"kernel".into(), &serde_json::json!([])), "{name}");
    assert_eq!(comparable(kernel), comparable(host), "{name}");
}

/// Frames of sizes that BPF_PROG_TEST_RUN refuses are sent through an interface: 14 to 33 bytes,
/// under 54 bytes of IPv6, over 3,712 bytes up to the longest packet.
#[test]
fn the_kernel_counts_frames_of_every_size() {
    if !is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let tagged = |rest: &[u8]| ethernet(0x8100, &[&[0, 7, 8, 0][..], rest].concat());
    let frames = [
        ethernet(0x0800, &udp(true, 20)),
        ethernet(0x0800, &udp(false, 4_000)),
        ethernet(0x0800, &udp(true, 65_507)),
        tagged(&udp(false, 65_507)),
        tagged(&udp(false, 3)),
        ethernet(0x0800, &[0x45; 19]),
        ethernet(0x0800, &[]),
        ethernet(0x86dd, &[0x60; 30]),
        ethernet(0x0806, &[0; 28]),
        ethernet(0x88cc, &[0; 9_000]),
        ethernet(0x8100, &[0]),
        ethernet(0x0800, &udp(false, 1)),
    ];
    let capture = pcap(ETHERNET, &frames);
    assert_same_by_kernel("opener", &capture, &[]);
    assert_same_by_kernel("local", &capture, &["--local", "203.0.113.9"]);
}

#[test]
fn frames_of_other_link_types_are_converted_and_counted_with_their_own_length() {
    if !is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let framed = |header: &[u8]| -> Vec<Vec<u8>> {
        let packets =
            [udp(true, 20), udp(false, 5_000), ipv4(2, CLIENT, SERVER, &[0x16; 8]), vec![0x45; 12], udp(true, 0)];
        packets.iter().map(|packet| [header, packet].concat()).collect()
    };
    let cooked = [&[0; 14][..], &[8, 0]].concat();
    let cooked2 = [&[8, 0][..], &[0; 18]].concat();
    let table: [(&str, u32, &[u8]); 8] = [
        ("raw", RAW, &[]),
        ("raw IPv4", 228, &[]),
        ("null", 0, &[2, 0, 0, 0]),
        ("loop", 108, &[0, 0, 0, 2]),
        ("ppp", 9, &[0xff, 3, 0, 0x21]),
        ("ppp without address and control", 50, &[0x21]),
        ("cooked", 113, &cooked),
        ("cooked 2", 276, &cooked2),
    ];
    for (name, link, header) in table {
        assert_same_by_kernel(name, &pcap(link, &framed(header)), &[]);
        assert_same_by_kernel(name, &pcap(link, &framed(header)), &["--local", "203.0.113.9"]);
    }
}

#[test]
fn frames_that_no_kernel_can_receive_are_left_out_and_reported() {
    if !is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let folder = Folder::new();
    let mut capture = pcap(ETHERNET, &[ethernet(0x0800, &udp(true, 20)), vec![1; 13], vec![1; 70_000]]);
    let cut = ethernet(0x0800, &udp(true, 400));
    capture.extend([1_700_000_000_u32, 0, 60, cut.len() as u32].iter().flat_map(|number| number.to_le_bytes()));
    capture.extend(&cut[..60]);
    let json = report(&["--kernel"], &folder.write("odd.pcap", &capture));
    let file = &json["balance"]["file"];
    assert_eq!(file["frames"], serde_json::json!({ "skbs": 4, "bytes": 62 + 13 + 70_000 + 442 }));
    assert_eq!(file["left_out"], serde_json::json!({ "skbs": 3, "bytes": 13 + 70_000 + 442 }));
    assert_eq!((&json["balance"]["state"], &json["replay"]["truncated_frames"]), (&"closed".into(), &1.into()));
    let notes = json["notes"].to_string();
    assert!(notes.contains("1 frame left out, cut by the capture"), "{notes}");
    assert!(notes.contains("2 frames left out, of a length that no interface sends"), "{notes}");
}

#[test]
fn a_full_table_in_the_kernel_overflows_as_in_user_space() {
    if !is_root() {
        return println!("skipped: loading BPF programs needs root");
    }
    let from = |port: u8| {
        let mut packet = udp(true, 1);
        packet[21] = port;
        packet
    };
    let packets: Vec<Vec<u8>> = (0..40).map(from).collect();
    let frames: Vec<Vec<u8>> = packets.iter().map(|packet| ethernet(0x0800, packet)).collect();
    let folder = Folder::new();
    let file = folder.write("many.pcap", &pcap(ETHERNET, &frames));
    for engine in [&["--max-flows", "16"][..], &["--max-flows", "16", "--kernel"]] {
        let json = report(engine, &file);
        assert_eq!(
            (&json["balance"]["state"], json["remainders"][0]["kind"].as_str()),
            (&"closed".into(), Some("overflow"))
        );
        let overflow = json["remainders"][0]["egress"]["packets"].as_u64().expect("a number");
        assert_eq!((overflow + json["flows"].as_array().expect("a list").len() as u64, overflow >= 24), (40, true));
        assert_eq!(json["lost"]["table_full"], overflow);
    }
    // The bytes of added headers can no longer be separated.
    let file = folder.write("raw.pcap", &pcap(RAW, &packets));
    let (_, err) = output_of(&netwatch(&["--max-flows", "16", "--kernel"], &file), 2);
    assert!(err.contains("raise --max-flows"), "{err}");
}

/// The epoch, the packets of both directions, and the end reason of each flow, sorted.
fn flows_by_epoch(json: &Value) -> Vec<(u64, u64, Option<String>)> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let describe = |flow: &Value| {
        let packets = number(&flow["egress"]["packets"]) + number(&flow["ingress"]["packets"]);
        assert!(flow.get("connections").is_none(), "one connection per flow: {flow:#}");
        (number(&flow["epoch"]), packets, flow["end_reason"].as_str().map(str::to_owned))
    };
    let mut flows: Vec<_> = json["flows"].as_array().expect("a list").iter().map(describe).collect();
    flows.sort();
    flows
}

/// A connection that is closed by both sides, another one from the same port in TIME-WAIT that is
/// reset, and a third one whose SYN is repeated. Late segments of the first one follow the second.
#[test]
fn each_connection_on_a_reused_five_tuple_is_a_flow() {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let frames = [
        tcp(true, SYN, 1000, 0, 0),
        tcp(false, SYN | ACK, 7000, 1001, 0),
        tcp(true, ACK, 1001, 7001, 50),
        tcp(true, FIN | ACK, 1051, 7001, 0),
        tcp(false, FIN | ACK, 7001, 1052, 0),
        tcp(true, ACK, 1052, 7002, 0),
        tcp(true, SYN, 90_000, 0, 0),
        tcp(false, FIN | ACK, 7001, 1052, 0),
        tcp(false, SYN | ACK, 3000, 90_001, 0),
        tcp(true, RST, 90_001, 0, 0),
        tcp(true, SYN, 10, 0, 0),
        tcp(true, SYN, 10, 0, 0),
        tcp(false, SYN | ACK, 20, 11, 0),
    ];
    let end = || Some("end_of_flow".to_owned());
    for (name, link, capture) in [
        ("ethernet.pcap", ETHERNET, frames.iter().map(|packet| ethernet(0x0800, packet)).collect::<Vec<_>>()),
        ("raw.pcap", RAW, frames.to_vec()),
    ] {
        let capture = pcap(link, &capture);
        let folder = Folder::new();
        let json = report(&["--local", "198.51.100.7"], &folder.write(name, &capture));
        assert_eq!(flows_by_epoch(&json), [(0, 6, end()), (1, 4, end()), (2, 3, None)], "{name}: {json:#}");
        let endpoint = &json["endpoints"][0];
        assert_eq!((&endpoint["flows"], &endpoint["connections"]), (&3.into(), &3.into()), "{endpoint:#}");
        if is_root() {
            assert_same_by_kernel(name, &capture, &["--local", "198.51.100.7"]);
        }
    }
}

/// Any SYN begins another connection two seconds after the end, as in the kernel, which then has no
/// entry any more.
#[test]
fn a_closed_connection_is_over_after_two_seconds() {
    let with_syn_after = |seconds: u32| {
        let frames = [
            (0, tcp(true, 2, 1000, 0, 0)),
            (0, tcp(false, 18, 7000, 1001, 0)),
            (0, tcp(true, 17, 1001, 7001, 0)),
            (0, tcp(false, 17, 7001, 1002, 0)),
            (seconds, tcp(true, 2, 500, 0, 0)),
        ];
        let folder = Folder::new();
        let packets = flows_by_epoch(&report(&[], &folder.write("syn.pcap", &pcap_at(RAW, &frames))));
        packets.iter().map(|(_, packets, _)| *packets).collect::<Vec<_>>()
    };
    assert_eq!(with_syn_after(1), [5], "an old sequence number in TIME-WAIT");
    assert_eq!(with_syn_after(2), [4, 1]);
}

#[test]
fn a_packet_after_the_idle_timeout_begins_another_flow_except_for_tcp() {
    let echo = ipv4(1, CLIENT, SERVER, &[8, 0, 0, 0, 0, 1, 0, 1]);
    let silent = |packet: &dyn Fn(bool) -> Vec<u8>| {
        [(0, packet(true)), (100, packet(false)), (220, packet(true)), (221, packet(false)), (800, packet(true))]
    };
    let table: [(&str, &[&str], &[u64]); 4] = [
        ("default", &[], &[2, 2, 1]),
        ("longer", &["--idle-timeout", "121s"], &[4, 1]),
        ("shorter", &["--idle-timeout", "1m40s"], &[1, 1, 2, 1]),
        ("longest", &["--idle-timeout", "1h"], &[5]),
    ];
    let folder = Folder::new();
    for (name, words, expected) in table {
        for frames in [silent(&|there| udp(there, 9)), silent(&|_| echo.clone())] {
            let json = report(words, &folder.write("idle.pcap", &pcap_at(RAW, &frames)));
            let flows = flows_by_epoch(&json);
            assert_eq!(flows.iter().map(|(_, packets, _)| *packets).collect::<Vec<_>>(), expected, "{name}: {json:#}");
            let mut reasons = flows[..flows.len() - 1].iter().map(|(.., reason)| reason.as_deref());
            assert!(reasons.all(|reason| reason == Some("idle_timeout")), "{name}: {json:#}");
        }
        let tcp = [(0, tcp(true, 2, 1, 0, 0)), (900, tcp(true, 16, 2, 1, 9))];
        let json = report(words, &folder.write("tcp.pcap", &pcap_at(RAW, &tcp)));
        assert_eq!(flows_by_epoch(&json), [(0, 2, None)], "{name}");
    }
}
