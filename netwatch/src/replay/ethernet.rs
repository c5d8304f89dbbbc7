//! Converts frames of other link layers to Ethernet frames, the only ones that the classifier in
//! the kernel reads, and corrects the byte counts.

use std::borrow::Cow;
use std::collections::HashMap;

use netwatch_common::observation::Observation;
use netwatch_common::parse::{LinkPayload, LinkType, Linked, link_payload};

use crate::flow::{Counters, Direction, FlowKey, Increment, PerDirection, Traffic};
use crate::meter::host;

const ADDRESSES_BYTES: usize = 12;
const HEADER_BYTES: usize = 14;

/// Converts a frame, and returns by how many bytes it became longer. `None` if the link layer
/// carries something without an EtherType.
pub(super) fn to_ethernet<'a>(linked: &Linked<'a>) -> Option<(Cow<'a, [u8]>, i64)> {
    let bytes = linked.captured.bytes;
    if linked.link == LinkType::Ethernet {
        return Some((Cow::Borrowed(bytes), 0));
    }
    let Some(LinkPayload::EtherType(ethertype, offset)) = link_payload(linked) else { return None };
    let packet = bytes.get(offset as usize..)?;
    let frame = [&[0; ADDRESSES_BYTES][..], &ethertype.to_be_bytes(), packet].concat();
    let longer = HEADER_BYTES as i64 - i64::from(offset);
    Some((Cow::Owned(frame), longer))
}

/// Bytes added to frames, by the traffic and direction that they were counted under.
#[derive(Debug, Default)]
pub(super) struct AddedBytes(HashMap<(Traffic, Direction), AddedTo>);

/// What was added to the frames of one direction.
#[derive(Debug, Default, Clone, Copy)]
struct AddedTo {
    frames: i64,
    bytes: i64,
}

impl AddedTo {
    /// Takes the bytes that were added to this many of the frames. Several connections may have the
    /// same key; all frames of a link layer become longer by the same number of bytes.
    fn take(&mut self, frames: i64) -> i64 {
        let bytes = if frames >= self.frames { self.bytes } else { self.bytes * frames / self.frames };
        self.frames -= frames.min(self.frames);
        self.bytes -= bytes;
        bytes
    }
}

impl AddedBytes {
    /// Notes that a packet was counted with this many extra bytes.
    pub(super) fn note(&mut self, seen: &Observation, bytes: i64) {
        if bytes != 0 {
            let added = self.0.entry(sent(seen)).or_default();
            added.frames += 1;
            added.bytes += bytes;
        }
    }

    /// Whether no frame was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The increment without the added bytes.
    pub(super) fn subtract(&mut self, increment: Increment) -> Increment {
        let [egress, ingress] = match increment.traffic {
            Traffic::Flow(key) => {
                let back = FlowKey { local: key.remote, remote: key.local, ..key };
                [Traffic::Flow(key), Traffic::Flow(back)].map(|traffic| (traffic, Direction::Egress))
            }
            other => [Direction::Egress, Direction::Ingress].map(|direction| (other, direction)),
        };
        let mut without = |counters: Counters, key| {
            let frames = i64::try_from(counters.skbs).unwrap_or(i64::MAX);
            let added = self.0.get_mut(&key).map_or(0, |added| added.take(frames));
            let less = |bytes: u64| bytes.saturating_add_signed(-added);
            Counters { bytes: less(counters.bytes), wire_bytes: less(counters.wire_bytes), ..counters }
        };
        let PerDirection { egress: sent, ingress: received } = increment.counters;
        let counters = PerDirection { egress: without(sent, egress), ingress: without(received, ingress) };
        Increment { counters, ..increment }
    }
}

/// Packets of a flow are noted as sent by their sender, because the local end is known only at the
/// end of the replay.
fn sent(seen: &Observation) -> (Traffic, Direction) {
    let traffic = host::as_sent(&seen.packet);
    let is_egress = matches!(traffic, Traffic::Flow(_)) || seen.direction == netwatch_common::flow::EGRESS;
    (traffic, if is_egress { Direction::Egress } else { Direction::Ingress })
}

#[cfg(test)]
mod tests {
    use netwatch_common::parse::Captured;

    use super::*;

    fn ethernet(link: LinkType, bytes: &[u8]) -> Option<(Vec<u8>, i64)> {
        to_ethernet(&Linked { captured: Captured::whole(bytes), link })
            .map(|(frame, longer)| (frame.into_owned(), longer))
    }

    #[test]
    fn replaces_the_link_header_of_ip_packets() {
        let packet = [0x45, 1, 2, 3];
        let expected = [&[0; 12][..], &[8, 0], &packet].concat();
        assert_eq!(ethernet(LinkType::Ip, &packet), Some((expected.clone(), 14)));
        assert_eq!(ethernet(LinkType::Null, &[&[2, 0, 0, 0], &packet[..]].concat()), Some((expected.clone(), 10)));
        let cooked = [&[0; 14][..], &[8, 0], &packet].concat();
        assert_eq!(ethernet(LinkType::Cooked, &cooked), Some((expected.clone(), -2)));
        assert_eq!(ethernet(LinkType::Ethernet, &expected), Some((expected, 0)));
    }

    #[test]
    fn refuses_frames_without_an_ethertype() {
        assert_eq!(ethernet(LinkType::Ppp, &[0xc0, 0x21, 1, 1]), None);
        assert_eq!(ethernet(LinkType::Cooked, &[0; 15]), None);
        assert_eq!(ethernet(LinkType::Other, &[0; 64]), None);
    }
}
