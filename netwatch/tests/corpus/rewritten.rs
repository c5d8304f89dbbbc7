//! Captures from other projects that `replay -w` writes again: tshark reads the same fields.

use std::path::Path;
use std::process::Command;

use super::corpus;

/// pcap and pcapng, with several link types, with secrets of TLS, with an interface without a name,
/// with malformed packets.
const FILES: [&str; 10] = [
    "BGP_Cisco_hdlc_slarp.pcap",
    "bfcp.pcapng",
    "conncheck.pcap",
    "dlt_ppp.pcap",
    "doq.pcapng",
    "http.pcapng",
    "malformed_icmp.pcap",
    "openwire.pcapng",
    "quic-33.pcapng",
    "selfsigned.pcap",
];

/// Every field of every packet.
fn fields(file: &Path) -> String {
    let output = Command::new("tshark").arg("-r").arg(file).args(["-T", "json"]).output().expect("start tshark");
    assert!(output.status.success(), "tshark reads {}", file.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tshark_reads_the_same_fields_from_rewritten_captures() {
    let Some(folder) = corpus() else { return };
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("skipped: tshark is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for name in FILES {
        let file = folder.join("pcap").join(name);
        let magic = std::fs::read(&file).expect("a capture");
        let is_pcapng = magic.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
        let copy = dir.path().join(name).with_extension(if is_pcapng { "pcapng" } else { "pcap" });
        let mut replay = Command::new(env!("CARGO_BIN_EXE_netwatch"));
        let written = replay.args(["replay", "-q", "-w"]).arg(&copy).arg(&file).status().expect("start netwatch");
        assert!(written.success(), "{name}");
        let (theirs, ours) = (fields(&file), fields(&copy));
        assert!(theirs.contains("_source"), "{name}: no packets");
        let different = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
        assert!(theirs == ours, "{name}: {different:?}");
    }
}
