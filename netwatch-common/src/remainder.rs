//! Slots of the REMAINDERS map: entries that always exist, so that every packet is counted even if
//! the flow table is full. Housekeeping and malformed packets are always counted here; packets of
//! flows that cannot be inserted are counted here by protocol.

use crate::flow::{EntryKey, FlowValue, housekeeping, kind, malformed, observation_point};

const HOUSEKEEPING: u32 = 256;
const MALFORMED: u32 = HOUSEKEEPING + housekeeping::COUNT as u32;
const NON_IP: u32 = MALFORMED + malformed::COUNT as u32;
/// Slots of one observation point.
const SLOTS_PER_POINT: u32 = NON_IP + 1;
/// Number of slots.
pub const COUNT: u32 = SLOTS_PER_POINT * observation_point::COUNT as u32;

/// EtherType under which non-IP frames are reported if the table had no room for their own.
/// Reserved by RFC 1701.
pub const OTHER_ETHERTYPES: u16 = 0xffff;

/// Protocol under which packets are counted that were not parsed at all. Reserved by IANA.
pub const UNREAD: u8 = 255;

/// Whether packets with this key are never counted in the flow table, only in their slot.
#[inline(always)]
pub fn is_fixed(key: &EntryKey) -> bool {
    key.kind == kind::HOUSEKEEPING || key.kind == kind::MALFORMED
}

/// The slot of a key. Always below [`COUNT`].
#[inline(always)]
pub fn slot(key: &EntryKey) -> u32 {
    let within = match key.kind {
        kind::HOUSEKEEPING => HOUSEKEEPING + u32::from(key.protocol),
        kind::MALFORMED => MALFORMED + u32::from(key.protocol),
        kind::NON_IP => NON_IP,
        _ => return protocol_slot(key.protocol, key.observation_point),
    };
    within + SLOTS_PER_POINT * u32::from(key.observation_point)
}

/// The slot for flows of a protocol. Always below [`COUNT`].
#[inline(always)]
pub fn protocol_slot(protocol: u8, observation_point: u8) -> u32 {
    u32::from(protocol) + SLOTS_PER_POINT * u32::from(observation_point)
}

/// The key that identifies a slot.
pub fn key(slot: u32) -> EntryKey {
    let within = slot % SLOTS_PER_POINT;
    let (kind, protocol) = match within {
        0..HOUSEKEEPING => (kind::OVERFLOW, within),
        HOUSEKEEPING..MALFORMED => (kind::HOUSEKEEPING, within - HOUSEKEEPING),
        MALFORMED..NON_IP => (kind::MALFORMED, within - MALFORMED),
        _ => (kind::NON_IP, 0),
    };
    let local_port = if kind == kind::NON_IP { OTHER_ETHERTYPES } else { 0 };
    EntryKey {
        local_port,
        kind,
        protocol: protocol as u8,
        observation_point: (slot / SLOTS_PER_POINT) as u8,
        ..EntryKey::default()
    }
}

/// A slot has the same counters and times as a flow entry.
pub type Remainder = FlowValue;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_key_are_inverse_functions() {
        for number in 0..COUNT {
            assert_eq!(slot(&key(number)), number);
        }
    }
}
