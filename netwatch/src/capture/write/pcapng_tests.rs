//! Tests of the blocks of pcapng, as tshark reads them.

use super::{
    ETHERNET, InterfaceDescription, InterfaceStatistics, OUTBOUND, PcapNgWriter, SectionHeader, WritablePacket,
};

/// A file with every block and option that netwatch writes.
fn every_block() -> Vec<u8> {
    let mut writer = PcapNgWriter::default();
    writer.section(&SectionHeader { os: "Linux 6", application: "netwatch 1", comment: "command: curl" });
    writer.interface(&InterfaceDescription {
        name: Some("nw1"),
        description: Some("the link"),
        filter: Some("tcp port 443"),
        os: "Linux 6",
        snaplen: 96,
        link: ETHERNET,
    });
    writer.secrets(b"CLIENT_RANDOM 0a 0b\n");
    writer.packet(&WritablePacket {
        time_ns: 1_000_000_000_000_000_001,
        interface: 0,
        flags: Some(OUTBOUND),
        orig_len: 1500,
        parts: [&[7; 60], &[8; 3]],
        comments: &[Some("process pid=7 comm=\"curl\""), None, Some("second")],
        pid: Some(7),
        lost_before: 3,
        encoded: None,
    });
    let names = [("198.51.100.7", "v4.example"), ("2001:db8::7", "v6.example")];
    writer.names(names.iter().map(|(address, name)| (address.parse().expect("an address"), *name)));
    let span_ns = (1_000_000_000_000_000_001, 1_000_000_000_000_000_002);
    writer.statistics(&InterfaceStatistics { span_ns, received: 9, accepted: 4, dropped: 3, comment: "balance" });
    writer.buffer
}

/// tshark reads the file itself, not its packets.
#[test]
fn tshark_reads_every_block_and_option() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.pcapng");
    std::fs::write(&path, every_block()).expect("written");
    let mut tshark = std::process::Command::new("tshark");
    tshark.args(["-X", "read_format:MIME Files Format", "-V", "-r"]).arg(&path);
    let Ok(output) = tshark.output() else { return println!("skipped: tshark is not installed") };
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = [
        "Section Header Block",
        "Comment = command: curl",
        "OS Description = Linux 6",
        "User Application = netwatch 1",
        "Interface Description Block 0",
        "Link Type: ETHERNET (1)",
        "Snap Length: 96",
        "Interface Name = nw1",
        "Interface Description = the link",
        "Timestamp Resolution = 10^-9 (nanoseconds)",
        "Filter = tcp port 443",
        "OS = Linux 6",
        "Decryption Secrets Block",
        "Secrets Type: TLS Key Log",
        "Secrets Length: 20",
        "Enhanced Packet Block 1",
        "Sep  9, 2001 01:46:40.000000001 UTC",
        "Captured Length: 63",
        "Packet Length: 1500",
        "Comment = process pid=7 comm=\"curl\"",
        "Comment = second",
        "Direction: Outbound (0x2)",
        "Drop Count = 3",
        // The process and the thread, which tshark 4.0 does not name.
        "(8)",
        "Name Resolution Block",
        "IPv4 Record = 198.51.100.7",
        "Name: v4.example",
        "IPv6 Record = 2001:db8::7",
        "Name: v6.example",
        "Interface Statistics Block",
        "Comment = balance",
        "Start Time",
        "End Time",
        "Number of Received Packets = 9",
        "Number of Dropped Packets = 3",
        "Number of Accepted Packets = 4",
    ];
    let mut rest = &*text;
    for wanted in wanted {
        let (_, after) = rest.split_once(wanted).unwrap_or_else(|| panic!("{wanted}: {text}"));
        rest = after;
    }
    assert!(!text.contains("Malformed") && !text.contains("Expert Info"), "{text}");
}

#[test]
fn encoded_options_change_no_byte() {
    let comments = [Some("process pid=7 comm=\"curl\""), None, Some("odd")];
    let packet = WritablePacket {
        time_ns: 5,
        interface: 0,
        flags: Some(OUTBOUND),
        orig_len: 61,
        parts: [&[7; 60], &[8]],
        comments: &comments,
        pid: Some(7),
        lost_before: 0,
        encoded: None,
    };
    let options = packet.options();
    for lost_before in [0, 2] {
        let [mut plain, mut encoded] = [PcapNgWriter::default(), PcapNgWriter::default()];
        plain.packet(&WritablePacket { lost_before, ..packet });
        encoded.packet(&WritablePacket { lost_before, encoded: Some(&options), ..packet });
        assert_eq!(plain.buffer, encoded.buffer);
    }
}
