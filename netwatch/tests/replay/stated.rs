//! What a capture states about itself, or does not: losses, and the direction of its packets.

use super::*;

/// `32 0 0 4294963204; 21 0 1 4; 6 0 0 262144; 6 0 0 0` is `outbound`.
#[test]
fn a_filter_by_direction_needs_a_file_that_states_it() {
    let folder = Folder::new();
    let capture = folder.write("x.pcap", &pcap(1, &[ethernet(0x0800, &udp(true, 8))]));
    let code = folder.write("outbound", b"4\n32 0 0 4294963204\n21 0 1 4\n6 0 0 262144\n6 0 0 0\n");
    let words = ["--filter-code", code.to_str().expect("UTF-8")];
    let (_, err) = output_of(&netwatch(&words, &capture), 2);
    assert!(err.contains("does not state the direction"), "{err}");
}

/// A packet block with a drop count, as other programs write it too.
#[test]
fn losses_that_a_file_states_are_reported() {
    let folder = Folder::new();
    let frame = ethernet(0x0800, &udp(true, 8));
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len() as u32).to_le_bytes();
        file.extend([&kind.to_le_bytes()[..], &length, body, &length].concat());
    };
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    block(1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let lengths = [0, 0, 1, frame.len() as u32, frame.len() as u32].map(u32::to_le_bytes).concat();
    let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
    let drops = [&[4, 0, 8, 0][..], &7_u64.to_le_bytes(), &[0; 4]].concat();
    block(6, &[lengths, frame, padding, drops].concat());
    let capture = folder.write("x.pcapng", &file);
    let report = report(&[], &capture);
    assert_eq!(report["replay"]["missing_packets"], 7, "{report}");
    let (out, err) = output_of(&netwatch(&[], &capture), 0);
    assert!(out.contains("misses 7 packets") && !out.contains("nothing lost"), "{out}{err}");
}
