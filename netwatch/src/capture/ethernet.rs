//! Converts frames of other link layers to Ethernet frames.

use std::borrow::Cow;

use netwatch_common::parse::{LinkPayload, LinkType, Linked, link_payload};

const ADDRESSES_BYTES: usize = 12;
const HEADER_BYTES: usize = 14;

/// Converts a frame, and returns by how many bytes it became longer. `None` if the link layer
/// carries something without an EtherType.
pub fn to_ethernet<'a>(linked: &Linked<'a>) -> Option<(Cow<'a, [u8]>, i64)> {
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
