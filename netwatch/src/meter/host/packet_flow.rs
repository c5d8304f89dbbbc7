//! The flow of a packet, and what leads to its process. The key of an ICMP flow has no more than
//! the addresses, which several processes may use at once.

use netwatch_common::address::Address;
use netwatch_common::fragment::FragmentKey;
use netwatch_common::parse::{Captured, Hook, LinkType, Linked, Packet, part, protocol};
use netwatch_common::tcp;

use super::fragments::RecentFragments;
use super::{CountedFrame, FrameReader};
use crate::flow::{Direction, FlowKey};

/// The flow that a packet is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketFlow {
    /// The flow.
    pub key: FlowKey,
    /// Whether the packet opens a TCP connection.
    pub opens: bool,
    /// What leads to its process.
    pub origin: PacketOrigin,
}

/// What leads to the process of a packet, beside its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketOrigin {
    /// Nothing: the flow does.
    Flow,
    /// The identifier of an ICMP request and of its reply (RFC 792, RFC 4443), and whether the
    /// target sent the request.
    Query(u16, bool),
    /// The flow of the packet that an ICMP error quotes, whose local end is the target.
    Quoted(FlowKey),
    /// Another ICMP message, or a fragment whose first one was not observed, of this direction: the
    /// socket that sent it, if any.
    Message(Direction),
}

/// Parses packets of the link as the classifier does. Joins a later fragment to the first one.
#[derive(Debug, Default)]
pub struct PacketFlows {
    reader: FrameReader,
    /// The origins of messages that came in fragments: only the first one has the header.
    origins: RecentFragments<PacketOrigin>,
}

impl PacketFlows {
    /// The flow that an Ethernet frame is counted in. `None` for frames of remainders.
    pub fn read(&mut self, bytes: &[u8], orig_len: u32, direction: Direction, time_ns: u64) -> Option<PacketFlow> {
        let frame = Linked { captured: Captured { bytes, orig_len }, link: LinkType::Ethernet };
        let hook = match direction {
            Direction::Egress => Hook::FromTarget,
            Direction::Ingress => Hook::ToTarget,
        };
        let seen = self.reader.read(&frame, |_| hook, time_ns);
        let counted = CountedFrame { seen: &seen, frame: &frame };
        let key = counted.flow()?;
        let opens = seen.packet.flags & tcp::SYN_ACK == tcp::SYN;
        let origin = match key.protocol {
            _ if key.fragment => PacketOrigin::Message(direction),
            protocol::ICMP | protocol::ICMPV6 => self.of_icmp(&counted, direction, time_ns),
            _ => PacketOrigin::Flow,
        };
        Some(PacketFlow { key, opens, origin })
    }

    /// The origin of an ICMP message, or of a part of one.
    fn of_icmp(&mut self, counted: &CountedFrame<'_>, direction: Direction, time_ns: u64) -> PacketOrigin {
        let (packet, bytes) = (&counted.seen.packet, counted.frame.captured.bytes);
        let of_header = || match counted.icmp_error(time_ns) {
            Some(error) => PacketOrigin::Quoted(error.flow),
            None => of_message(bytes, packet.payload_offset as usize, direction),
        };
        // The protocol of a fragment; 0 for a whole message.
        if packet.fragment_protocol == 0 {
            return of_header();
        }
        let key = FragmentKey {
            source: packet.source,
            destination: packet.destination,
            id: packet.fragment_id,
            protocol: packet.fragment_protocol,
            ..FragmentKey::default()
        };
        if packet.fragment == part::FIRST || follows_ipv4_header(packet, bytes) {
            let origin = of_header();
            self.origins.remember(key, origin);
            return origin;
        }
        self.origins.recall(&key).unwrap_or(PacketOrigin::Message(direction))
    }
}

/// Length of the header of an ICMP message, which the parser takes for the one before the payload.
const ICMP_HEADER: usize = 8;

/// Whether the header of an ICMP message follows that of IPv4, as in the first fragment. The
/// parser does not distinguish it from later ones, because both are counted in one flow.
fn follows_ipv4_header(packet: &Packet, bytes: &[u8]) -> bool {
    let Some(end) = (packet.payload_offset as usize).checked_sub(ICMP_HEADER) else { return false };
    let address = |at: usize| bytes.get(at..at + 4)?.first_chunk().map(Address::v4);
    (5..=15).any(|words: u8| {
        let Some(start) = end.checked_sub(usize::from(words) * 4) else { return false };
        let ends = (address(start + 12), address(start + 16));
        bytes.get(start) == Some(&(0x40 | words)) && ends == (Some(packet.source), Some(packet.destination))
    })
}

/// The origin of a message that is no error. The eight bytes before the payload are its header.
fn of_message(bytes: &[u8], payload: usize, direction: Direction) -> PacketOrigin {
    let header = payload.checked_sub(ICMP_HEADER).and_then(|start| bytes.get(start..payload));
    let Some(&[kind, _, _, _, high, low, ..]) = header else { return PacketOrigin::Message(direction) };
    let is_egress = direction == Direction::Egress;
    let id = u16::from_be_bytes([high, low]);
    match kind {
        // Echo and timestamp of ICMP, and echo of ICMPv6, whose types ICMP does not use.
        8 | 13 | 128 => PacketOrigin::Query(id, is_egress),
        0 | 14 | 129 => PacketOrigin::Query(id, !is_egress),
        _ => PacketOrigin::Message(direction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: [u8; 4] = [198, 51, 100, 2];
    const REMOTE: [u8; 4] = [198, 51, 100, 1];

    /// An Ethernet frame with an IPv4 packet; `frags` are its flags and offset.
    fn frame(protocol: u8, frags: u16, [source, destination]: [[u8; 4]; 2], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        bytes.extend(ipv4(protocol, frags, [source, destination], payload));
        bytes
    }

    fn ipv4(protocol: u8, frags: u16, [source, destination]: [[u8; 4]; 2], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        bytes.extend((20 + payload.len() as u16).to_be_bytes());
        bytes.extend([0, 7]);
        bytes.extend(frags.to_be_bytes());
        bytes.extend([64, protocol, 0, 0]);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(payload);
        bytes
    }

    fn read(flows: &mut PacketFlows, bytes: &[u8], direction: Direction) -> PacketFlow {
        flows.read(bytes, bytes.len() as u32, direction, 1).expect("a flow")
    }

    /// From port 5000 to port 53.
    const UDP: [u8; 16] = [0x13, 0x88, 0, 53, 0, 24, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn a_later_fragment_belongs_to_the_flow_of_the_first_one() {
        let mut flows = PacketFlows::default();
        let first = frame(17, 0x2000, [TARGET, REMOTE], &UDP);
        let later = frame(17, 2, [TARGET, REMOTE], &[9; 16]);
        let alone = read(&mut flows, &later, Direction::Egress);
        assert!(alone.key.fragment && alone.key.remote.port == 0);
        let first = read(&mut flows, &first, Direction::Egress);
        assert_eq!((first.key.local.port, first.key.remote.port), (5000, 53));
        assert_eq!(read(&mut flows, &later, Direction::Egress).key, first.key);
    }

    #[test]
    fn requests_and_replies_have_the_identifier_and_who_asked() {
        let mut flows = PacketFlows::default();
        let echo = |kind: u8, id: u8| [kind, 0, 0, 0, 0, id, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut origin = |kind, id, direction| {
            let ends = if direction == Direction::Egress { [TARGET, REMOTE] } else { [REMOTE, TARGET] };
            read(&mut flows, &frame(1, 0, ends, &echo(kind, id)), direction).origin
        };
        assert_eq!(origin(8, 5, Direction::Egress), PacketOrigin::Query(5, true));
        assert_eq!(origin(0, 5, Direction::Ingress), PacketOrigin::Query(5, true));
        assert_eq!(origin(8, 5, Direction::Ingress), PacketOrigin::Query(5, false));
        assert_eq!(origin(0, 5, Direction::Egress), PacketOrigin::Query(5, false));
        assert_eq!(origin(40, 5, Direction::Egress), PacketOrigin::Message(Direction::Egress));
    }

    #[test]
    fn fragments_of_a_message_have_the_origin_of_the_first_one() {
        let mut flows = PacketFlows::default();
        let query = PacketOrigin::Query(5, true);
        let reply = frame(1, 0x2000, [REMOTE, TARGET], &[0, 0, 0, 0, 0, 5, 0, 1, 8, 9, 10, 11, 12, 13, 14, 15]);
        // What would be the identifier of a query in a first one.
        let later = frame(1, 2, [REMOTE, TARGET], &[8, 0, 0, 0, 0, 6, 0, 1, 8, 9, 10, 11, 12, 13, 14, 15]);
        let mut origin = |bytes: &[u8]| read(&mut flows, bytes, Direction::Ingress).origin;
        assert_eq!(origin(&later), PacketOrigin::Message(Direction::Ingress), "its first one was not observed");
        assert_eq!([origin(&reply), origin(&later), origin(&later)], [query; 3]);
        let mut other = later.clone();
        other[19] = 8;
        assert_eq!(origin(&other), PacketOrigin::Message(Direction::Ingress), "of another message");
    }

    #[test]
    fn fragments_of_a_message_of_ipv6_have_the_origin_of_the_first_one() {
        let mut flows = PacketFlows::default();
        let fragment = |offset: u16, body: [u8; 8]| {
            let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 44, 64];
            bytes.extend([[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]].concat());
            bytes.extend([[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 2]].concat());
            bytes.extend([58, 0]);
            bytes.extend((offset | 1).to_be_bytes());
            bytes.extend([0, 0, 0, 9]);
            bytes.extend(body);
            bytes
        };
        let mut origin = |bytes: &[u8]| read(&mut flows, bytes, Direction::Ingress).origin;
        let reply = fragment(0, [129, 0, 0, 0, 0, 5, 0, 1]);
        let later = fragment(8, [128, 0, 0, 0, 0, 6, 0, 1]);
        assert_eq!([origin(&reply), origin(&later)], [PacketOrigin::Query(5, true); 2]);
    }

    #[test]
    fn an_error_has_the_flow_that_it_quotes() {
        let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
        error.extend(ipv4(17, 0, [TARGET, REMOTE], &UDP));
        let carrier = frame(1, 0, [REMOTE, TARGET], &error);
        let flow = read(&mut PacketFlows::default(), &carrier, Direction::Ingress);
        let PacketOrigin::Quoted(quoted) = flow.origin else { panic!("{flow:?}") };
        assert_eq!((quoted.protocol, quoted.local.port, quoted.remote.port), (17, 5000, 53));
        assert_eq!(flow.key.protocol, 1);
    }
}
