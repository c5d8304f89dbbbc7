//! Ethernet and the VLAN tags in the frame. The tag beside the frame needs nothing here: the frame starts without it.

use super::{Frame, Malformed, Meta, Packet, ipv4, ipv6};
use crate::flow::{housekeeping, kind, malformed};

pub(super) const ETHERNET: u32 = 14;
const TAG: u32 = 4;
/// 802.1ad allows two; some networks stack more. What lies deeper is counted under the tag's EtherType.
const MAX_TAGS: u32 = 4;

pub(super) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// Smaller values are lengths of 802.3 frames.
const FIRST_ETHERTYPE: u16 = 0x0600;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> Result<(), Malformed> {
    let ethernet: &[u8; ETHERNET as usize] = frame.header(0).ok_or(Malformed(malformed::ETHERNET))?;
    let mut ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    let mut offset = ETHERNET;
    if is_tag(ethertype) {
        (ethertype, offset) = tags(frame, ethertype)?;
    }
    match ethertype {
        IPV4 => ipv4::parse(frame, meta, offset, packet),
        IPV6 => ipv6::parse(frame, meta, offset, packet),
        ARP => {
            packet.set_named(kind::HOUSEKEEPING, housekeeping::ARP);
            Ok(())
        }
        other => {
            packet.set_named(kind::NON_IP, 0);
            packet.source_port = if other < FIRST_ETHERTYPE { 0 } else { other };
            Ok(())
        }
    }
}

/// 802.1Q, 802.1ad, and the number that QinQ used before the standard.
#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// The EtherType behind the tags and where its header starts.
#[inline(always)]
fn tags<F: Frame>(frame: &F, outer: u16) -> Result<(u16, u32), Malformed> {
    let (mut ethertype, mut offset) = (outer, ETHERNET);
    for _ in 0..MAX_TAGS {
        if !is_tag(ethertype) {
            break;
        }
        let tag: &[u8; TAG as usize] = frame.header(offset).ok_or(Malformed(malformed::ETHERNET))?;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        offset += TAG;
    }
    Ok((ethertype, frame.forget(offset)))
}
