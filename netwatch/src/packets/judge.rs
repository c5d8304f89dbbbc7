//! Decides in user space about packets on which the kernel did not decide: all of them if it
//! refused the filter, and those with a VLAN tag outside the frame, because the filter is about the
//! frame with its tag. The kernel copies such packets whole.

use crate::capture::write::insert_tag;
use crate::filter::{FilterProgram, FilteredFrame};
use crate::flow::{Direction, PerDirection};
use crate::meter::RingPacket;

/// The filter of a capture, and where it runs.
#[derive(Debug)]
pub struct CaptureFilter {
    /// The filter.
    pub program: FilterProgram,
    /// Whether the kernel applies it.
    pub is_in_kernel: bool,
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
}

/// Applies the filter to packets, and counts those that do not match.
#[derive(Debug)]
pub(super) struct PacketJudge {
    filter: Option<CaptureFilter>,
    filtered: PerDirection<u64>,
    /// A frame with its tag.
    tagged: Vec<u8>,
}

impl PacketJudge {
    pub(super) fn new(filter: Option<CaptureFilter>) -> Self {
        Self { filter, filtered: PerDirection::default(), tagged: Vec::new() }
    }

    /// The packets of a batch that match, cut to the requested length. `None` if every packet does.
    pub(super) fn matching<'a>(
        &mut self,
        packets: impl Iterator<Item = RingPacket<'a>>,
    ) -> Option<Vec<RingPacket<'a>>> {
        let Self { filter, filtered, tagged } = self;
        let filter = filter.as_ref()?;
        let matching = packets.filter_map(|packet| {
            let is_undecided = !filter.is_in_kernel || packet.vlan.is_some();
            if !is_undecided {
                return Some(packet);
            }
            let accepted = accepted_bytes(&filter.program, &packet, tagged);
            if accepted == 0 {
                match packet.direction {
                    Direction::Egress => filtered.egress += 1,
                    Direction::Ingress => filtered.ingress += 1,
                }
                return None;
            }
            let length = packet.bytes.len().min(accepted.min(filter.snaplen) as usize);
            Some(RingPacket { bytes: &packet.bytes[..length], ..packet })
        });
        Some(matching.collect())
    }

    /// Packets that did not match here.
    pub(super) fn filtered(&self) -> PerDirection<u64> {
        self.filtered
    }

    /// Whether there is a filter.
    pub(super) fn is_on(&self) -> bool {
        self.filter.is_some()
    }
}

fn accepted_bytes(program: &FilterProgram, packet: &RingPacket<'_>, tagged: &mut Vec<u8>) -> u32 {
    let is_egress = Some(packet.direction == Direction::Egress);
    match packet.vlan {
        None => program.run(&FilteredFrame { bytes: packet.bytes, length: packet.orig_len, is_egress }),
        Some(tag) => {
            insert_tag(packet.bytes, tag, tagged);
            program.run(&FilteredFrame { bytes: tagged, length: packet.orig_len + 4, is_egress })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ldh [12]; jeq #0x8100 jt 2 jf 3; ret #60; ret #0`: tagged frames, the first 60 bytes.
    const IS_TAGGED: &str = "4\n40 0 0 12\n21 0 1 33024\n6 0 0 60\n6 0 0 0";

    fn packet(direction: Direction, vlan: Option<(u16, u16)>, bytes: &[u8]) -> RingPacket<'_> {
        let (orig_len, interface, gso_size, gso_segs) = (bytes.len() as u32, 0, 0, 0);
        let (time_ns, socket, lost) = (1, None, 0);
        RingPacket { time_ns, socket, lost, direction, interface, orig_len, gso_size, gso_segs, vlan, bytes }
    }

    fn judge(is_in_kernel: bool, snaplen: u32) -> PacketJudge {
        let program = IS_TAGGED.parse().expect("a filter");
        PacketJudge::new(Some(CaptureFilter { program, is_in_kernel, snaplen }))
    }

    #[test]
    fn a_tag_outside_the_frame_counts_as_part_of_it() {
        let frame = [[8; 14], [0; 14]].concat();
        let packets = [packet(Direction::Egress, Some((0x8100, 5)), &frame), packet(Direction::Ingress, None, &frame)];
        let mut judge = judge(false, 100);
        let matching = judge.matching(packets.into_iter()).expect("a filter");
        assert_eq!(matching.iter().map(|packet| packet.vlan).collect::<Vec<_>>(), [Some((0x8100, 5))]);
        assert_eq!(judge.filtered(), PerDirection { egress: 0, ingress: 1 });
    }

    #[test]
    fn the_kernel_has_decided_on_frames_without_such_a_tag() {
        let frame = [8; 28];
        let packets = [packet(Direction::Egress, Some((0x88a8, 5)), &frame), packet(Direction::Ingress, None, &frame)];
        let mut judge = judge(true, 100);
        let matching = judge.matching(packets.into_iter()).expect("a filter");
        assert_eq!(matching.iter().map(|packet| packet.vlan).collect::<Vec<_>>(), [None]);
        assert_eq!(judge.filtered(), PerDirection { egress: 1, ingress: 0 });
    }

    #[test]
    fn packets_are_cut_to_the_snap_length_and_to_what_the_filter_accepts() {
        let frame = [8; 90];
        for (snaplen, expected) in [(40, 40), (80, 60)] {
            let mut judge = judge(true, snaplen);
            let tagged = [packet(Direction::Egress, Some((0x8100, 1)), &frame)];
            let matching = judge.matching(tagged.into_iter()).expect("a filter");
            assert_eq!((matching[0].bytes.len(), matching[0].orig_len), (expected, 90));
        }
    }
}
