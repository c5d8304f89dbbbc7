//! Frames of captures, which may be truncated without notice.

use netwatch_common::flow::{kind, malformed};
use netwatch_common::fragment::NoFragments;
use netwatch_common::observation::Observation;
use netwatch_common::parse::{Captured, Frame, Hook, LinkType, Linked, Meta};

fn observe(frame: &impl Frame) -> Observation {
    Observation::new(frame, &Meta::default(), Hook::Loopback, 1, &mut NoFragments)
}

/// UDP from port 7 to port 9. The lengths claim 100 bytes of payload.
fn ipv4() -> Vec<u8> {
    let ip = [0x45, 0, 0, 128, 0, 0, 0, 0, 64, 17, 0, 0];
    [&[0; 12][..], &[8, 0], &ip, &[198, 51, 100, 1], &[198, 51, 100, 2], &[0, 7, 0, 9, 0, 108, 0, 0, 1, 2]].concat()
}

fn ipv6() -> Vec<u8> {
    let ip = [&[0x60, 0, 0, 0, 0, 108, 17, 64][..], &[1; 16], &[2; 16]].concat();
    [&[0; 12][..], &[0x86, 0xdd], &ip, &[0, 7, 0, 9, 0, 108, 0, 0, 1, 2]].concat()
}

#[test]
fn a_frame_truncated_without_notice_is_counted_under_its_flow() {
    for (frame, kind) in [(ipv4(), kind::IPV4), (ipv6(), kind::IPV6)] {
        let seen = observe(&Linked { captured: Captured::whole(&frame), link: LinkType::Ethernet });
        assert_eq!((seen.key.kind, seen.key.local_port, seen.key.remote_port), (kind, 7, 9));
        assert_eq!(
            (seen.size.bytes, seen.packet.payload_len),
            (frame.len() as u64, 2),
            "the bytes present are counted"
        );
        assert!(seen.packet.incomplete, "it is marked as incomplete");
    }
}

#[test]
fn on_a_link_such_lengths_are_malformed() {
    for frame in [ipv4(), ipv6()] {
        let key = observe(&Captured::whole(&frame)).key;
        assert_eq!((key.kind, key.protocol), (kind::MALFORMED, malformed::IP_LENGTH));
    }
}

#[test]
fn a_whole_frame_is_complete() {
    let mut frame = ipv4();
    frame.extend([0; 98]);
    let seen = observe(&Linked { captured: Captured::whole(&frame), link: LinkType::Ethernet });
    assert!(!seen.packet.incomplete);
    // The capture has truncated the payload, and its record has the original length.
    let cut = Captured { bytes: &frame[..44], orig_len: frame.len() as u32 };
    let seen = observe(&Linked { captured: cut, link: LinkType::Ethernet });
    assert_eq!((seen.key.remote_port, seen.size.bytes, seen.packet.incomplete), (9, 142, false));
}

#[test]
fn a_huge_original_length_does_not_overflow() {
    let cut = Captured { bytes: &ipv6()[..60], orig_len: u32::MAX };
    let seen = observe(&Linked { captured: cut, link: LinkType::Ethernet });
    assert_eq!((seen.key.kind, seen.size.bytes), (kind::IPV6, u32::MAX.into()));
}
