//! From the sample of an ICMP error to the flow whose packet it quotes (RFC 792, RFC 4443).

use netwatch_common::flow::kind;
use netwatch_common::parse::{self, Captured, Hook, Meta, Packet};

use super::abi;
use super::rings::{Reason, Sample};
use crate::flow::{Direction, FlowKey, IcmpError, Scope, Traffic};

/// Type, code, checksum, and four bytes that depend on the type.
const ICMP_HEADER: usize = 8;

/// The flow, by the target's view, and the error; `None` for other samples and for quotes too short to say.
pub(super) fn quoted(sample: &Sample) -> Option<(FlowKey, IcmpError)> {
    let Traffic::Flow(carrier) = sample.traffic else { return None };
    if sample.reason != Reason::IcmpError {
        return None;
    }
    let (message, quote) = locate(&sample.bytes, sample.payload_offset)?;
    let error = IcmpError { kind: sample.bytes[message], code: sample.bytes[message + 1] };
    // The quoted packet went the other way.
    let hook = match (carrier.scope, sample.direction) {
        (Scope::Loopback, _) => Hook::Loopback,
        (Scope::Link, Direction::Egress) => Hook::ToTarget,
        (Scope::Link, Direction::Ingress) => Hook::FromTarget,
    };
    let flow = parse_quote(&sample.bytes[quote..], carrier.remote.addr.is_ipv4(), hook)?;
    Some((flow, error))
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
