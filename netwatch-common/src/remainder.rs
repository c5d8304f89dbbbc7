//! Slots of the REMAINDERS map: entries that always exist, so that no packet is ever forgotten when the flow table is
//! full. Housekeeping and malformed packets always go here; flows by their protocol when they cannot be inserted.

use crate::flow::{FlowKey, FlowValue, housekeeping, kind, malformed, scope};

const HOUSEKEEPING: u32 = 256;
const MALFORMED: u32 = HOUSEKEEPING + housekeeping::COUNT as u32;
const NON_IP: u32 = MALFORMED + malformed::COUNT as u32;
/// Slots of one scope.
const PER_SCOPE: u32 = NON_IP + 1;
/// How many slots there are.
pub const COUNT: u32 = PER_SCOPE * scope::COUNT as u32;

/// The EtherType under which non-IP frames are reported whose own entry did not fit. RFC 1701 reserves it.
pub const OTHER_ETHERTYPES: u16 = 0xffff;

/// The protocol under which packets are counted that were not read at all. IANA reserves it.
pub const UNREAD: u8 = 255;

/// True when packets of this kind are counted in their slot only, never in the flow table.
#[inline(always)]
pub fn is_fixed(key: &FlowKey) -> bool {
    key.kind == kind::HOUSEKEEPING || key.kind == kind::MALFORMED
}

/// The slot of a key. Always under [`COUNT`].
#[inline(always)]
pub fn slot(key: &FlowKey) -> u32 {
    let within = match key.kind {
        kind::HOUSEKEEPING => HOUSEKEEPING + u32::from(key.protocol),
        kind::MALFORMED => MALFORMED + u32::from(key.protocol),
        kind::NON_IP => NON_IP,
        _ => return of_protocol(key.protocol, key.scope),
    };
    within + PER_SCOPE * u32::from(key.scope)
}

/// The slot of a protocol's flows. Always under [`COUNT`].
#[inline(always)]
pub fn of_protocol(protocol: u8, scope: u8) -> u32 {
    u32::from(protocol) + PER_SCOPE * u32::from(scope)
}

/// The key that stands for a slot.
pub fn key(slot: u32) -> FlowKey {
    let within = slot % PER_SCOPE;
    let (kind, protocol) = match within {
        0..HOUSEKEEPING => (kind::OVERFLOW, within),
        HOUSEKEEPING..MALFORMED => (kind::HOUSEKEEPING, within - HOUSEKEEPING),
        MALFORMED..NON_IP => (kind::MALFORMED, within - MALFORMED),
        _ => (kind::NON_IP, 0),
    };
    let local_port = if kind == kind::NON_IP { OTHER_ETHERTYPES } else { 0 };
    FlowKey { local_port, kind, protocol: protocol as u8, scope: (slot / PER_SCOPE) as u8, ..FlowKey::default() }
}

/// An entry of the REMAINDERS map is a flow entry: same counters, same times.
pub type Remainder = FlowValue;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_key_are_inverse() {
        for number in 0..COUNT {
            assert_eq!(slot(&key(number)), number);
        }
    }
}
