//! From the sample of an ICMP error to the flow whose packet it quotes (RFC 792, RFC 4443).

use netwatch_common::flow::{EGRESS, FlowKey as AbiKey, kind, scope};
use netwatch_common::parse::{self, Captured, Hook, Meta, Packet};
use netwatch_common::sample::{SampleHeader, reason};

use super::translate;
use crate::flow::{Direction, FlowKey, IcmpError};

/// Type, code, checksum, and four bytes that depend on the type.
const ICMP_HEADER: usize = 8;

/// The flow, by the target's view, and the error; `None` for other samples and for quotes too short to say.
pub(super) fn quoted(header: &SampleHeader, bytes: &[u8]) -> Option<(FlowKey, IcmpError)> {
    if header.reason != reason::ICMP_ERROR {
        return None;
    }
    let payload = usize::from(header.payload_offset);
    let (message, quote) = locate(bytes, payload)?;
    let error = IcmpError { kind: bytes[message], code: bytes[message + 1] };
    // The quoted packet went the other way.
    let hook = match (header.key.scope, header.direction) {
        (scope::LOOPBACK, _) => Hook::Loopback,
        (_, EGRESS) => Hook::ToTarget,
        _ => Hook::FromTarget,
    };
    let (key, direction) = parse_quote(&bytes[quote..], header.key.kind, hook)?;
    let opened_by = if direction == EGRESS { Direction::Egress } else { Direction::Ingress };
    Some((translate::flow_key(&key, opened_by), error))
}

/// Where the ICMP message and the packet that it quotes start. The sample's payload begins behind the ICMP header if the parser counts
/// that as a header, else at it.
fn locate(bytes: &[u8], payload: usize) -> Option<(usize, usize)> {
    let version = |at: usize| bytes.get(at).map(|byte| byte >> 4);
    match (version(payload), version(payload + ICMP_HEADER)) {
        (_, Some(4 | 6)) => Some((payload, payload + ICMP_HEADER)),
        (Some(4 | 6), _) => payload.checked_sub(ICMP_HEADER).map(|message| (message, payload)),
        _ => None,
    }
}

/// A quote is a packet cut short: its lengths speak of the original.
fn parse_quote(quote: &[u8], ip_kind: u8, hook: Hook) -> Option<(AbiKey, u8)> {
    let ethertype: u16 = if ip_kind == kind::IPV4 { 0x0800 } else { 0x86dd };
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(quote);
    let orig_len = u32::from(u16::MAX);
    let mut packet = Packet::default();
    parse::parse(&Captured { bytes: &frame, orig_len }, &Meta::default(), &mut packet);
    let (key, direction) = parse::orient(&packet, hook);
    matches!(key.kind, kind::IPV4 | kind::IPV6).then_some((key, direction))
}
