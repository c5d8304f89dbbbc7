//! TCP headers in the words of tcpdump.

use std::collections::HashMap;
use std::fmt::Write as _;

use netwatch_common::parse::{Packet, protocol};
use netwatch_common::tcp::{self, ACK};

use super::PrintedPacket;
use super::ip::IpHead;
use crate::capture::write::Layout;
use crate::flow::{Direction, FlowKey};

/// The flag of urgent data.
const URG: u8 = 32;
/// Maximum number of flows of which sequence numbers are shown relative to the first one. All are
/// forgotten when there are more.
const MAX_FLOWS: usize = 65_536;
/// Flags and their letters, in the order of tcpdump.
const FLAGS: [(u8, char); 8] = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')];

/// What stands instead of a TCP header that is cut or states an impossible length.
pub(super) fn header_fault(packet: &Packet, ip: &IpHead<'_>) -> Option<String> {
    if packet.protocol != protocol::TCP || !packet.has_ports() {
        return None;
    }
    let Some(head) = ip.body.first_chunk::<20>() else { return Some("[|tcp]".to_owned()) };
    let header = u32::from(head[12] >> 4) * 4;
    let rest = ip.body_length.saturating_sub(header);
    (header < 20).then(|| format!("tcp {rest} [bad hdr length {header} - too short, < 20]"))
}

/// The first sequence numbers of connections: that of the target, that of the remote.
#[derive(Debug, Default)]
pub(super) struct FirstNumbers(HashMap<FlowKey, [Option<u32>; 2]>);

impl FirstNumbers {
    /// Flags, sequence numbers relative to the first ones, acknowledgment, window, options.
    pub(super) fn push_words(&mut self, line: &mut String, packet: &Packet, printed: &PrintedPacket<'_>) {
        let flags: String =
            FLAGS.iter().filter(|(bit, _)| packet.flags & bit != 0).map(|(_, letter)| *letter).collect();
        _ = write!(line, "Flags [{}]", if flags.is_empty() { "none" } else { &flags });
        let (own, peer) = self.of(packet, printed);
        let is_syn = packet.flags & tcp::SYN != 0;
        let sequence = if is_syn { packet.sequence } else { packet.sequence.wrapping_sub(own) };
        match packet.payload_len {
            0 if packet.is_plain() => {}
            0 => _ = write!(line, ", seq {sequence}"),
            length => _ = write!(line, ", seq {sequence}:{}", sequence.wrapping_add(length)),
        }
        if packet.flags & ACK != 0 {
            let acknowledgment = if is_syn { packet.acknowledgment } else { packet.acknowledgment.wrapping_sub(peer) };
            _ = write!(line, ", ack {acknowledgment}");
        }
        _ = write!(line, ", win {}", packet.window);
        if packet.flags & URG != 0 {
            let pointer = (packet.options_offset as usize).checked_sub(2).and_then(|start| printed.bytes.get(start..));
            let pointer = pointer.and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
            pointer.into_iter().for_each(|pointer| _ = write!(line, ", urg {pointer}"));
        }
        let options = options(printed.bytes, peer);
        if !options.is_empty() {
            _ = write!(line, ", options [{options}]");
        }
    }

    /// The first sequence number of the sender and of the receiver; 0 if it is not known.
    fn of(&mut self, packet: &Packet, printed: &PrintedPacket<'_>) -> (u32, u32) {
        let Some(flow) = printed.flow else { return (0, 0) };
        if self.0.len() >= MAX_FLOWS {
            self.0.clear();
        }
        let numbers = self.0.entry(*flow).or_default();
        let (own, peer) = if printed.direction == Some(Direction::Ingress) { (1, 0) } else { (0, 1) };
        if packet.flags & tcp::SYN != 0 {
            numbers[own] = Some(packet.sequence);
        }
        let own = *numbers[own].get_or_insert(packet.sequence.wrapping_sub(1));
        let is_ack = packet.flags & ACK != 0;
        let peer = if is_ack { *numbers[peer].get_or_insert(packet.acknowledgment.wrapping_sub(1)) } else { 0 };
        (own, peer)
    }
}

/// The options of the header. Blocks of SACK are relative to `peer`, the first number of the
/// receiver.
fn options(frame: &[u8], peer: u32) -> String {
    let options = Layout::of(frame).and_then(|layout| frame.get(layout.transport + 20..layout.payload));
    let mut rest = options.unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        let (data, next) = match (kind, after.split_first()) {
            (0, _) => break,
            (1, _) => (&[][..], after),
            (_, Some((&length, _))) if length >= 2 && rest.len() >= usize::from(length) => {
                (&rest[2..usize::from(length)], &rest[usize::from(length)..])
            }
            _ => break,
        };
        words.push(option(kind, data, peer));
        rest = next;
    }
    words.join(",")
}

fn option(kind: u8, data: &[u8], peer: u32) -> String {
    let number = |at: usize| data.get(at..).and_then(|data| data.first_chunk().copied()).map_or(0, u32::from_be_bytes);
    match (kind, data) {
        (1, _) => "nop".to_owned(),
        (2, [a, b]) => format!("mss {}", u16::from_be_bytes([*a, *b])),
        (3, [shift]) => format!("wscale {shift}"),
        (4, _) => "sackOK".to_owned(),
        (5, data) => {
            let block =
                |at: usize| format!("{{{}:{}}}", number(at).wrapping_sub(peer), number(at + 4).wrapping_sub(peer));
            let blocks: String = (0..data.len() / 8).map(|index| block(index * 8)).collect();
            format!("sack {} {blocks}", data.len() / 8)
        }
        (8, _) => format!("TS val {} ecr {}", number(0), number(4)),
        (other, _) => format!("opt-{other}"),
    }
}
