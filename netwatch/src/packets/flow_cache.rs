//! Finds the flow of a packet by its bytes, without parsing them again: most packets differ from an
//! earlier one of their flow in none of the fields that decide about the flow.

use crate::flow::Direction;
use crate::meter::RingPacket;

/// Number of remembered headers, a power of two: 512 KiB.
const SLOTS: usize = 8192;

/// Places of flows by header. A header has two slots, next to each other, and may replace another
/// one.
#[derive(Debug)]
pub(super) struct FlowCache(Vec<CacheSlot>);

/// In one line of the CPU's cache.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct CacheSlot(Option<(HeaderKey, usize)>);

impl CacheSlot {
    fn place_of(&self, key: &HeaderKey) -> Option<usize> {
        self.0.as_ref().filter(|(known, _)| known == key).map(|(_, place)| *place)
    }
}

impl Default for FlowCache {
    fn default() -> Self {
        Self(vec![CacheSlot::default(); SLOTS])
    }
}

impl FlowCache {
    pub(super) fn get(&self, key: &HeaderKey) -> Option<usize> {
        let first = key.slot();
        self.0[first].place_of(key).or_else(|| self.0[first ^ 1].place_of(key))
    }

    /// The header that was here last moves to the other slot.
    pub(super) fn insert(&mut self, key: HeaderKey, place: usize) {
        let first = key.slot();
        self.0[first ^ 1] = std::mem::replace(&mut self.0[first], CacheSlot(Some((key, place))));
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(CacheSlot::default());
    }
}

/// What decides about the flow of a packet: addresses; ports, protocol and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderKey([u64; 5]);

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of a TCP header without options, and of a UDP header.
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Offset of the flags in a TCP header, and its SYN.
const TCP_FLAGS: usize = 13;
const SYN: u8 = 0x02;

impl HeaderKey {
    pub(super) fn of_packet(packet: &RingPacket<'_>) -> Option<Self> {
        Self::of(packet.bytes, packet.orig_len, packet.direction)
    }

    /// The key of the usual packet: TCP or UDP directly behind the IP header, whole, and without
    /// SYN, which begins a connection. `None` for others.
    fn of(bytes: &[u8], orig_len: u32, direction: Direction) -> Option<Self> {
        let ethertype: [u8; 2] = *bytes.get(12..)?.first_chunk()?;
        match ethertype {
            [0x08, 0x00] => Self::of_v4(bytes, orig_len, direction),
            [0x86, 0xdd] => Self::of_v6(bytes, orig_len, direction),
            _ => None,
        }
    }

    /// IPv4 without options. Neither a fragment nor shorter than it states.
    fn of_v4(bytes: &[u8], orig_len: u32, direction: Direction) -> Option<Self> {
        const TRANSPORT: usize = 34;
        let header: &[u8; 20] = bytes.get(14..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_usual = header[0] == 0x45 && header[6] & 0x3f == 0 && header[7] == 0;
        if !is_usual || 14 + length > orig_len as usize {
            return None;
        }
        let last = transport(bytes.get(TRANSPORT..)?, header[9], length.checked_sub(20)?)?;
        Some(Self([word(&header[12..])?, 0, 0, 0, last | side(direction)]))
    }

    /// IPv6 without extension headers.
    fn of_v6(bytes: &[u8], orig_len: u32, direction: Direction) -> Option<Self> {
        const TRANSPORT: usize = 54;
        const IS_V6: u64 = 1 << 48;
        let header: &[u8; 40] = bytes.get(14..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || TRANSPORT + length > orig_len as usize {
            return None;
        }
        let last = transport(bytes.get(TRANSPORT..)?, header[6], length)?;
        let [a, b, c, d] = [8, 16, 24, 32].map(|at| word(&header[at..]));
        Some(Self([a?, b?, c?, d?, last | IS_V6 | side(direction)]))
    }

    fn slot(&self) -> usize {
        let Self([a, b, c, d, last]) = self;
        let mixed = (a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47)).wrapping_add(*last);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.ilog2())) as usize & (SLOTS - 1)
    }
}

/// Ports and protocol, if the header is whole.
fn transport(bytes: &[u8], protocol: u8, length: usize) -> Option<u64> {
    let is_whole = match protocol {
        TCP => {
            let header: &[u8; TCP_HEADER] = bytes.first_chunk()?;
            let header_bytes = usize::from(header[12] >> 4) * 4;
            (TCP_HEADER..=length).contains(&header_bytes) && header[TCP_FLAGS] & SYN == 0
        }
        UDP => {
            let header: &[u8; UDP_HEADER] = bytes.first_chunk()?;
            let stated = usize::from(u16::from_be_bytes([header[4], header[5]]));
            (UDP_HEADER..=length).contains(&stated)
        }
        _ => false,
    };
    let ports = u32::from_be_bytes(*bytes.first_chunk()?);
    is_whole.then_some(u64::from(ports) | u64::from(protocol) << 32)
}

fn side(direction: Direction) -> u64 {
    u64::from(direction == Direction::Ingress) << 40
}

fn word(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::meter::{PacketFlows, PacketOrigin};

    #[test]
    fn a_header_is_found_at_its_last_place() {
        let mut cache = FlowCache::default();
        let key = |number: u64| HeaderKey([number, 0, 0, 0, 1]);
        for number in 0..20_000 {
            cache.insert(key(number), number as usize);
            assert_eq!(cache.get(&key(number)), Some(number as usize));
        }
        let wrong = |number: &u64| cache.get(&key(*number)).is_some_and(|place| place != *number as usize);
        assert_eq!((0..20_000).find(wrong), None);
        assert!((12_000..20_000).filter(|number| cache.get(&key(*number)).is_some()).count() > 4_000);
        cache.insert(key(7), 8);
        assert_eq!(cache.get(&key(7)), Some(8));
    }

    /// Frames whose fields are of few values, most of them with a whole transport header.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let few = |values: &'static [u8]| prop::sample::select(values);
        let fields = (few(&[4, 6]), few(&[6, 6, 17, 1, 47]), few(&[0, 0, 0, 1, 0x20, 0x40]), few(&[0, 0, 0, 2]));
        let any_transport = prop::collection::vec(few(&[0, 2, 5, 8, 16, 20, 40, 0x50, 0x60]), 0..40);
        let whole = (few(&[1, 2]), few(&[0, 1, 4, 0x10, 0x12]), 0_u8..12).prop_map(|(port, flags, payload)| {
            let length = 20 + payload;
            let mut header = vec![0, 80, 0, port, 0, length, 0, 1, 0, 0, 0, 1, 0x50, flags];
            header.resize(usize::from(length), 0);
            header
        });
        let transport = prop_oneof![3 => whole, 1 => any_transport];
        (fields, transport, few(&[1, 2]), few(&[0x45, 0x45, 0x45, 0x46, 0x55]), few(&[0, 0, 0, 4, 200])).prop_map(
            |((version, protocol, high, low), transport, host, first, less)| {
                let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
                let length = (transport.len() as u8).saturating_sub(less);
                if version == 4 {
                    bytes.extend([8, 0, first, 0, 0, length + 20, 0, 7, high, low, 64, protocol, 0, 0]);
                    bytes.extend([198, 51, 100, 2, 198, 51, 100, host]);
                } else {
                    bytes.extend([0x86, 0xdd, first | 0x20, 0, 0, 0, 0, length, protocol, 64]);
                    bytes.extend(
                        [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[2], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[host]].concat(),
                    );
                }
                bytes.extend(transport);
                bytes
            },
        )
    }

    /// How a packet differs from another one.
    #[derive(Debug, Clone)]
    enum Change {
        /// One byte, by exclusive or.
        Byte(Index, u8),
        /// Fewer bytes were captured.
        Captured(Index),
        /// It was this much longer when it was captured.
        Longer(u32),
        Shorter(u32),
    }

    impl Change {
        fn any() -> impl Strategy<Value = Self> {
            let byte = (any::<Index>(), 1..=u8::MAX).prop_map(|(place, bits)| Self::Byte(place, bits));
            prop_oneof![
                8 => byte,
                1 => any::<Index>().prop_map(Self::Captured),
                1 => (1_u32..2000).prop_map(Self::Longer),
                1 => (1_u32..20).prop_map(Self::Shorter),
            ]
        }

        fn applied(&self, bytes: &[u8], orig_len: u32) -> (Vec<u8>, u32) {
            let mut bytes = bytes.to_vec();
            match self {
                Self::Byte(place, bits) => *place.get_mut(&mut bytes) ^= bits,
                Self::Captured(length) => bytes.truncate(length.index(bytes.len())),
                Self::Longer(more) => return (bytes, orig_len + more),
                Self::Shorter(less) => return (bytes, orig_len.saturating_sub(*less)),
            }
            (bytes, orig_len)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8_000))]
        /// A packet with the key of another one has its flow, and begins no connection.
        #[test]
        fn equal_keys_have_equal_flows(one in frame(), change in Change::any(), cut in 0_u32..4) {
            let parsed = |bytes: &[u8], orig_len: u32| {
                let key = HeaderKey::of(bytes, orig_len, Direction::Egress);
                (key, PacketFlows::default().read(bytes, orig_len, Direction::Egress, 1))
            };
            let orig_len = one.len() as u32 - cut.min(2);
            let (other, other_len) = change.applied(&one, orig_len);
            let ((one_key, one), (other_key, other)) = (parsed(&one, orig_len), parsed(&other, other_len));
            if one_key.is_some() && one_key == other_key {
                prop_assert_eq!(one, other);
            }
            for (_, flow) in [(one_key, one), (other_key, other)].into_iter().filter(|(key, _)| key.is_some()) {
                let flow = flow.expect("a flow");
                prop_assert!(!flow.opens && flow.origin == PacketOrigin::Flow);
            }
        }
    }
}
