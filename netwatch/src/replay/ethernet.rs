//! Frames of other link layers as Ethernet frames, the only ones that a kernel's classifier reads, and the bytes that they gain or lose by it.

use std::borrow::Cow;
use std::collections::HashMap;

use netwatch_common::observation::Observation;
use netwatch_common::parse::{LinkPayload, LinkType, Linked, link_payload};

use crate::flow::{Counters, Direction, FlowKey, Increment, PerDirection, Traffic};
use crate::meter::host;

const ADDRESSES: usize = 12;
const HEADER: usize = 14;

/// An Ethernet frame for this one, and how many bytes longer it is. `None` if its link layer carries something that Ethernet has no
/// number for.
pub(super) fn frame<'a>(linked: &Linked<'a>) -> Option<(Cow<'a, [u8]>, i64)> {
    let bytes = linked.captured.bytes;
    if linked.link == LinkType::Ethernet {
        return Some((Cow::Borrowed(bytes), 0));
    }
    let Some(LinkPayload::EtherType(ethertype, offset)) = link_payload(linked) else { return None };
    let packet = bytes.get(offset as usize..)?;
    let frame = [&[0; ADDRESSES][..], &ethertype.to_be_bytes(), packet].concat();
    let longer = HEADER as i64 - i64::from(offset);
    Some((Cow::Owned(frame), longer))
}

/// Bytes that were added to frames, by what and in which direction they were counted.
#[derive(Debug, Default)]
pub(super) struct Added(HashMap<(Traffic, Direction), i64>);

impl Added {
    /// Notes that a packet was counted with so many bytes too many.
    pub(super) fn note(&mut self, seen: &Observation, bytes: i64) {
        if bytes != 0 {
            *self.0.entry(sent(seen)).or_default() += bytes;
        }
    }

    /// True if no frame was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The increment as the capture's own frames would have given it.
    pub(super) fn subtract(&mut self, increment: Increment) -> Increment {
        let [egress, ingress] = match increment.traffic {
            Traffic::Flow(key) => {
                let back = FlowKey { local: key.remote, remote: key.local, ..key };
                [Traffic::Flow(key), Traffic::Flow(back)].map(|traffic| (traffic, Direction::Egress))
            }
            other => [Direction::Egress, Direction::Ingress].map(|direction| (other, direction)),
        };
        let mut without = |counters: Counters, key| {
            let added = self.0.remove(&key).unwrap_or(0);
            let less = |bytes: u64| bytes.saturating_add_signed(-added);
            Counters { bytes: less(counters.bytes), wire_bytes: less(counters.wire_bytes), ..counters }
        };
        let PerDirection { egress: sent, ingress: received } = increment.counters;
        let counters = PerDirection { egress: without(sent, egress), ingress: without(received, ingress) };
        Increment { counters, ..increment }
    }
}

/// A flow's packets are noted from their sender's side: which of its ends is the local one shows only at the end.
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
        frame(&Linked { captured: Captured::whole(bytes), link }).map(|(frame, longer)| (frame.into_owned(), longer))
    }

    #[test]
    fn ip_gets_an_ethernet_header_in_place_of_its_own() {
        let packet = [0x45, 1, 2, 3];
        let expected = [&[0; 12][..], &[8, 0], &packet].concat();
        assert_eq!(ethernet(LinkType::Ip, &packet), Some((expected.clone(), 14)));
        assert_eq!(ethernet(LinkType::Null, &[&[2, 0, 0, 0], &packet[..]].concat()), Some((expected.clone(), 10)));
        let cooked = [&[0; 14][..], &[8, 0], &packet].concat();
        assert_eq!(ethernet(LinkType::Cooked, &cooked), Some((expected.clone(), -2)));
        assert_eq!(ethernet(LinkType::Ethernet, &expected), Some((expected, 0)));
    }

    #[test]
    fn what_has_no_ethertype_cannot_be_one() {
        assert_eq!(ethernet(LinkType::Ppp, &[0xc0, 0x21, 1, 1]), None);
        assert_eq!(ethernet(LinkType::Cooked, &[0; 15]), None);
        assert_eq!(ethernet(LinkType::Other, &[0; 64]), None);
    }
}
