//! Finds the flow that an ICMP error is about, from the packet that the error quotes (RFC 792, RFC
//! 4443).

use netwatch_common::flow::{EGRESS, kind, observation_point};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{self, Captured, Hook, Meta, Packet};

use super::abi;
use super::notification::{Sample, SampleReason};
use crate::flow::{Direction, FlowKey, IcmpError, ObservationPoint, QuotedError, Traffic};

/// Type, code, checksum, and four bytes that depend on the type.
const ICMP_HEADER: usize = 8;

/// The flow, from the target's view, and the error. `None` for other samples, and for quotes that
/// are too short.
pub(super) fn quoted(sample: &Sample) -> Option<QuotedError> {
    let Traffic::Flow(carrier) = sample.traffic else { return None };
    if sample.reason != SampleReason::IcmpError {
        return None;
    }
    let hook = quoted_hook(carrier.point == ObservationPoint::Loopback, sample.direction == Direction::Egress);
    find(&sample.bytes, sample.payload_offset, carrier.remote.addr.is_ipv4(), hook, sample.time_ns)
}

/// As [`quoted`], for a counted frame that is an ICMP error.
pub(super) fn quoted_in_frame(seen: &Observation, frame: &[u8], time_ns: u64) -> Option<QuotedError> {
    let hook = quoted_hook(seen.key.observation_point == observation_point::LOOPBACK, seen.direction == EGRESS);
    find(frame, seen.packet.payload_offset as usize, seen.packet.kind == kind::IPV4, hook, time_ns)
}

/// The hook that observed the quoted packet: it was sent in the other direction than the error.
fn quoted_hook(is_loopback: bool, is_egress: bool) -> Hook {
    match (is_loopback, is_egress) {
        (true, _) => Hook::Loopback,
        (false, true) => Hook::ToTarget,
        (false, false) => Hook::FromTarget,
    }
}

fn find(bytes: &[u8], payload: usize, is_v4: bool, hook: Hook, time_ns: u64) -> Option<QuotedError> {
    let (message, quote) = locate(bytes, payload)?;
    let error = IcmpError { kind: bytes[message], code: bytes[message + 1] };
    let flow = parse_quote(&bytes[quote..], is_v4, hook)?;
    Some(QuotedError { flow, error, by_target: hook == Hook::ToTarget, time_ns })
}

/// Offsets of the ICMP message and of the packet it quotes. The parser treats the eight bytes of
/// the message as a header, so the quote is the payload. Only its first four bits are checked:
/// further in, a time to live of 64 looks like a version too.
fn locate(bytes: &[u8], payload: usize) -> Option<(usize, usize)> {
    let version = bytes.get(payload)? >> 4;
    let message = payload.checked_sub(ICMP_HEADER)?;
    matches!(version, 4 | 6).then_some((message, payload))
}

/// A quote is a truncated packet: its lengths are those of the original packet.
fn parse_quote(quote: &[u8], is_v4: bool, hook: Hook) -> Option<FlowKey> {
    let ethertype: u16 = if is_v4 { 0x0800 } else { 0x86dd };
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(quote);
    let mut packet = Packet::default();
    parse::parse(&Captured { bytes: &frame, orig_len: u32::from(u16::MAX) }, &Meta::default(), &mut packet);
    let (key, direction) = parse::orient(&packet, hook);
    if !matches!(key.kind, kind::IPV4 | kind::IPV6) {
        return None;
    }
    match abi::traffic(&key, u32::from(direction)).0 {
        Traffic::Flow(flow) => Some(flow),
        _ => None,
    }
}
