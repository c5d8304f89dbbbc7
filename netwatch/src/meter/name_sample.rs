//! Converts heads of packets into samples for name resolution.

use netwatch_common::parse::{part, protocol};

use super::abi;
use super::host::CountedFrame;
use super::notification::{Sample, SampleReason};
use crate::flow::Traffic;
use crate::name::{NameSample, Segment};

/// The part of a sample that may contain names. `None` if the packet has no TCP or UDP payload from
/// the start of a message.
pub fn name_sample(sample: &Sample) -> Option<NameSample<'_>> {
    let Traffic::Flow(flow) = sample.traffic else { return None };
    let is_start = matches!(sample.reason, SampleReason::Head | SampleReason::Dns) && !sample.is_later_fragment;
    (is_start && flow_has_names(flow.protocol)).then(|| NameSample {
        time_ns: sample.time_ns,
        flow,
        direction: sample.direction,
        opened_by: sample.opened_by,
        payload: sample.payload(),
        payload_len: sample.payload_len,
        tcp: sample.tcp.map(|(sequence, flags)| Segment {
            sequence,
            flags,
            acknowledgment: acknowledgment(sample, sequence, flags),
        }),
    })
}

/// As [`name_sample`], for a packet of a capture file, with all captured bytes.
pub fn name_sample_from_capture<'a>(counted: &CountedFrame<'a>, time_ns: u64) -> Option<NameSample<'a>> {
    let packet = &counted.seen.packet;
    if packet.fragment == part::LATER || !flow_has_names(packet.protocol) {
        return None;
    }
    let (traffic, flipped) = abi::traffic(&counted.seen.key, counted.seen.opened_by.into());
    let Traffic::Flow(flow) = traffic else { return None };
    let oriented = |way| {
        let way = abi::direction(way);
        if flipped { way.opposite() } else { way }
    };
    let segment =
        Segment { sequence: packet.sequence, flags: packet.flags, acknowledgment: Some(packet.acknowledgment) };
    Some(NameSample {
        time_ns,
        flow,
        direction: oriented(counted.seen.direction),
        opened_by: oriented(counted.seen.opened_by),
        payload: counted.payload(),
        payload_len: packet.payload_len,
        tcp: (packet.protocol == protocol::TCP).then_some(segment),
    })
}

/// The acknowledgment number. A sample has no offset of its TCP header, but the length of the
/// header in it, the sequence number and the flags must agree with what the record states.
fn acknowledgment(sample: &Sample, sequence: u32, flags: u8) -> Option<u32> {
    if flags & netwatch_common::tcp::ACK == 0 {
        return None;
    }
    let headers = sample.bytes.get(..sample.payload_offset)?;
    let word = |header: &[u8], at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let lengths = (5..=15_u8).map(|words| (words, 4 * usize::from(words)));
    lengths
        .filter_map(|(words, length)| Some((words, &headers[headers.len().checked_sub(length)?..])))
        .find(|(words, header)| header[12] >> 4 == *words && header[13] == flags && word(header, 4) == Some(sequence))
        .and_then(|(_, header)| word(header, 8))
}

fn flow_has_names(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
}
