//! The payload of an entry, from its counters and sequence numbers.

use netwatch_common::flow::{self as abi, EntryKey, FlowValue, initial, kind};
use netwatch_common::parse::protocol;
use netwatch_common::tcp::{FIN, SYN};

use crate::flow::{PayloadGap, PayloadGrowth, PerDirection};

/// Buffers between two drains up to which the size of their headers cannot be mistaken for 2³¹
/// bytes of payload.
const MAX_BUFFERS: u64 = 1 << 24;

/// Bytes of the headers of most TCP packets: Ethernet, IPv4, TCP with timestamps.
const USUAL_HEADERS: u64 = 66;

/// The growth of the payload between two states of an entry, sent by the local end and received by
/// it.
pub(super) fn growth(key: &EntryKey, before: &FlowValue, now: &FlowValue) -> PayloadGrowth {
    let bytes = match (key.kind, key.protocol) {
        (kind::IPV4_FRAGMENT | kind::IPV6_FRAGMENT, protocol::TCP | protocol::UDP) => Err(PayloadGap::Fragment),
        (kind::IPV4 | kind::IPV6, protocol::TCP) => return tcp(before, now),
        (kind::IPV4 | kind::IPV6, protocol::UDP) => Ok(udp(key.kind, before, now)),
        _ => Err(PayloadGap::Protocol),
    };
    of(bytes, *before != FlowValue::EMPTY && bytes.is_err())
}

fn of(bytes: Result<PerDirection<i64>, PayloadGap>, had_gap: bool) -> PayloadGrowth {
    PayloadGrowth { bytes: bytes.unwrap_or_default(), gap: bytes.err(), had_gap }
}

/// Every datagram is its framing and its payload.
fn udp(kind: u8, before: &FlowValue, now: &FlowValue) -> PerDirection<i64> {
    let half = |half: usize| {
        let (before, now) = (&before.halves[half], &now.halves[half]);
        let usual = (now.counts.skbs - before.counts.skbs).wrapping_mul(abi::udp_framing(kind));
        let unusual = now.retransmitted_bytes.wrapping_sub(before.retransmitted_bytes);
        let framing = usual.wrapping_add(unusual);
        (now.counts.bytes - before.counts.bytes).wrapping_sub(framing).cast_signed()
    };
    PerDirection { egress: half(0), ingress: half(1) }
}

/// An entry is read while it changes: its first packet may be counted already, and its handshake
/// not yet. Nothing of an entry was known before its handshake is.
fn tcp(before: &FlowValue, now: &FlowValue) -> PayloadGrowth {
    let positions = |value| Ok([position(value, 0)?, position(value, 1)?]);
    let (from, to) = (positions(before), positions(now));
    let had_gap = from.is_err();
    let from = from.unwrap_or_default();
    let half = |half: usize, to: [u32; 2]| {
        let since = if had_gap { &abi::Half::default() } else { &before.halves[half] };
        widen(to[half].wrapping_sub(from[half]), since, &now.halves[half])
    };
    of(to.and_then(|to| Ok(PerDirection { egress: half(0, to)?, ingress: half(1, to)? })), had_gap)
}

/// The number of bytes of the stream that one end sent so far, modulo 2³².
fn position(value: &FlowValue, half: usize) -> Result<u32, PayloadGap> {
    let (FlowValue { handshake, .. }, own) = (value, &value.halves[half]);
    // Nothing was sent, or nothing but the refusal of a connection.
    if own.counts.skbs == u64::from(own.resets) {
        return Ok(0);
    }
    if handshake.connections == 0 {
        return Err(PayloadGap::NoHandshake);
    }
    if value.halves.iter().any(|half| half.flags & initial::AMBIGUOUS != 0) {
        return Err(PayloadGap::AmbiguousHandshake);
    }
    if value.halves.iter().any(|half| half.flags & initial::FRAGMENTED != 0) {
        return Err(PayloadGap::Fragment);
    }
    let flags = own.flags as u8;
    let first = match usize::from(handshake.opener) == half {
        true => handshake.isn,
        false if own.flags & initial::ANSWERED != 0 => handshake.answer_isn,
        false => return Err(PayloadGap::NoHandshake),
    };
    // SYN and FIN take a number each.
    let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    Ok(own.highest.wrapping_sub(first).wrapping_sub(controls))
}

/// The growth whose lowest 32 bits are these. Of all such numbers it is the one next to the growth
/// of the bytes without usual headers and retransmits, which differs from it by other headers and
/// by data that is still missing: less than 2³¹ bytes.
fn widen(low: u32, before: &abi::Half, now: &abi::Half) -> Result<i64, PayloadGap> {
    if now.counts.skbs - before.counts.skbs > MAX_BUFFERS {
        return Err(PayloadGap::TooMuch);
    }
    let bytes = (now.counts.bytes - before.counts.bytes).cast_signed();
    let repeated = (now.retransmitted_bytes - before.retransmitted_bytes).cast_signed();
    let headers = (now.counts.skbs - before.counts.skbs) * USUAL_HEADERS;
    let estimate = bytes - headers.cast_signed() - repeated;
    // The difference to the estimate, from -2³¹ to 2³¹.
    let difference = low.wrapping_sub(estimate as u32).cast_signed();
    Ok(estimate + i64::from(difference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwatch_common::flow::{Counts, Half, Handshake};

    const GIB: u64 = 1 << 30;

    /// A connection that the local end opened at `isn` and that sent `bytes` of payload in buffers
    /// of 64 KiB.
    fn sent(isn: u32, bytes: u64, flags: u8) -> FlowValue {
        let skbs = 1 + bytes / 65_536;
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let highest = isn.wrapping_add(controls).wrapping_add(bytes as u32);
        let counts = Counts { skbs, bytes: bytes + skbs * 66, ..Counts::default() };
        let handshake = Handshake { isn, connections: 1, ..Handshake::default() };
        let half = Half { counts, highest, flags: flags.into(), ..Half::default() };
        FlowValue { handshake, halves: [half, Half::default()], ..FlowValue::EMPTY }
    }

    fn egress(before: &FlowValue, now: &FlowValue) -> i64 {
        let PayloadGrowth { bytes, gap, had_gap } = tcp(before, now);
        assert_eq!((gap, had_gap), (None, false));
        bytes.egress
    }

    fn gap(now: &FlowValue) -> Option<PayloadGap> {
        tcp(&FlowValue::EMPTY, now).gap
    }

    #[test]
    fn sequence_numbers_wrap_around_any_number_of_times() {
        for isn in [0, 7, u32::MAX, u32::MAX - 3] {
            for bytes in [0, 1, 1448, 3 * GIB, 4 * GIB - 1, 4 * GIB, 4 * GIB + 1, 70 * GIB] {
                assert_eq!(egress(&FlowValue::EMPTY, &sent(isn, bytes, SYN)), bytes.cast_signed(), "{isn} {bytes}");
                let (before, now) = (sent(isn, 5 * GIB, SYN), sent(isn, 5 * GIB + bytes, SYN | FIN));
                assert_eq!(egress(&before, &now), bytes.cast_signed(), "{isn} {bytes}");
            }
        }
    }

    #[test]
    fn data_of_a_syn_that_is_repeated_without_it_was_not_sent() {
        let (before, mut now) = (sent(9, 100, SYN), sent(9, 0, SYN));
        now.halves[0].counts = Counts { skbs: 2, bytes: before.halves[0].counts.bytes + 66, ..Counts::default() };
        assert_eq!(egress(&before, &now), -100);
    }

    #[test]
    fn without_the_beginning_nothing_is_known() {
        let mut value = sent(9, 100, SYN);
        value.halves[0].flags |= initial::AMBIGUOUS;
        assert_eq!(gap(&value), Some(PayloadGap::AmbiguousHandshake));
        value.handshake = Handshake::default();
        assert_eq!(gap(&value), Some(PayloadGap::NoHandshake));
        // An answer without its SYN.
        let mut answered = sent(9, 0, SYN);
        answered.halves[1] = answered.halves[0];
        assert_eq!(gap(&answered), Some(PayloadGap::NoHandshake));
        // A refused connection: RSTs have no place in a stream.
        answered.halves[1].resets = answered.halves[1].counts.skbs as u32;
        assert_eq!(tcp(&FlowValue::EMPTY, &answered), PayloadGrowth::default());
    }

    #[test]
    fn an_entry_that_is_read_before_its_handshake_is_recorded_is_known_later() {
        let now = sent(9, 5 * GIB, SYN | FIN);
        let early = FlowValue { handshake: Handshake::default(), ..sent(9, 0, SYN) };
        assert_eq!(gap(&early), Some(PayloadGap::NoHandshake));
        let growth = tcp(&early, &now);
        assert_eq!((growth.bytes.egress, growth.gap, growth.had_gap), ((5 * GIB).cast_signed(), None, true));
    }

    #[test]
    fn the_payload_of_datagrams_is_their_size_without_the_framing() {
        let mut value = FlowValue::EMPTY;
        value.halves[0].counts = Counts { skbs: 3, bytes: 3 * 42 + 1000, ..Counts::default() };
        value.halves[1].counts = Counts { skbs: 1, bytes: 34 + 500, ..Counts::default() };
        // A later fragment has no UDP header.
        value.halves[1].retransmitted_bytes = 8_u64.wrapping_neg();
        let key = EntryKey { kind: kind::IPV4, protocol: protocol::UDP, ..EntryKey::default() };
        let bytes = growth(&key, &FlowValue::EMPTY, &value).bytes;
        assert_eq!(bytes, PerDirection { egress: 1000, ingress: 500 });
    }
}
