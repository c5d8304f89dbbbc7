//! The hash of a flow key: where its entry and its slot are looked for. The kernel's hash map has one of its own, behind a
//! helper call; this one is a few multiplications in line. Not keyed: who makes keys collide makes packets be counted
//! under their protocol instead of their flow, which the report says, and gains nothing.

use crate::flow::{FlowKey, kind};

/// Odd, without pattern: the first bits of the square roots of 2, 3, 5, 7, 11 and 13.
const FACTORS: [u64; 6] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
];

/// A key as five words: what it is in the memory of a little-endian machine.
pub type Words = [u64; 5];

/// The words of a key at hand.
#[inline(always)]
pub fn words(key: &FlowKey) -> Words {
    let [local_high, local_low] = key.local.words();
    let [remote_high, remote_low] = key.remote.words();
    let ports = u64::from(key.local_port) | (u64::from(key.remote_port) << 16);
    let rest = u64::from(key.kind) | (u64::from(key.protocol) << 8) | (u64::from(key.scope) << 16);
    [local_high, local_low, remote_high, remote_low, ports | (rest << 32)]
}

/// Whether the key in a table is the one with these words. Five comparisons of words: field by field there would be nine.
///
/// # Safety
/// `key` points to a live key.
#[inline(always)]
pub unsafe fn is_same(key: *const FlowKey, words: &Words) -> bool {
    // SAFETY: the caller's promise; a key is 40 bytes, aligned to eight, all of them initialised.
    let stored = unsafe { &*key.cast::<Words>() };
    // The ports first: flows differ there most often. They come with the kind, and with that of IPv4 the upper halves are 0.
    let is_v4 = (words[4] >> 32) as u8 == kind::IPV4;
    u64::from_le(stored[4]) == words[4]
        && stored[3] == words[3]
        && stored[1] == words[1]
        && (is_v4 || (stored[2] == words[2] && stored[0] == words[0]))
}

/// 64 bits, all of them as good as any. The products do not wait for each other; two rounds then carry high bits down.
///
/// A product carries upwards only: what differs in the last byte of two addresses would meet in the sum's highest byte, and one pair in 256
/// would cancel. So the products of three words are carried down too, each by another way.
#[inline(always)]
pub fn hash([a, b, c, d, e]: Words) -> u64 {
    let sum = carried(a.wrapping_mul(FACTORS[0]), 24)
        .wrapping_add(b.wrapping_mul(FACTORS[1]))
        .wrapping_add(carried(c.wrapping_mul(FACTORS[2]), 16))
        .wrapping_add(carried(d.wrapping_mul(FACTORS[3]), 32))
        .wrapping_add(e.wrapping_mul(FACTORS[4]));
    let folded = (sum ^ (sum >> 32)).wrapping_mul(FACTORS[5]);
    folded ^ (folded >> 29)
}

#[inline(always)]
fn carried(product: u64, down: u32) -> u64 {
    product ^ (product >> down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn key(number: u32) -> FlowKey {
        FlowKey {
            local: Address::v4(&[10, 0, 0, 2]),
            remote: Address::v4(&(0xc633_6400 + (number >> 14)).to_be_bytes()),
            local_port: 40_000 + (number & 0x3fff) as u16,
            remote_port: 443,
            kind: kind::IPV4,
            protocol: 6,
            ..FlowKey::default()
        }
    }

    #[test]
    fn a_key_is_the_same_as_itself_only() {
        let (one, other) = (key(1), FlowKey { scope: 1, ..key(1) });
        // SAFETY: both live.
        unsafe {
            assert!(is_same(&one, &words(&one)));
            assert!(!is_same(&one, &words(&other)));
            assert!(!is_same(&one, &words(&FlowKey { local_port: 1, ..one })));
        }
    }

    /// Addresses that differ in the last bytes of two words, which a sum of products alone would let cancel each other.
    #[test]
    fn neighbours_in_two_places_do_not_collide() {
        let v6 = |subnet: u8, host: u8| {
            let mut bytes = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            (bytes[7], bytes[15]) = (subnet, host);
            Address::v6(&bytes)
        };
        let base = FlowKey { kind: kind::IPV6, protocol: 17, local_port: 123, remote_port: 123, ..FlowKey::default() };
        type Make = fn(FlowKey, Address, u8) -> FlowKey;
        let grids: [(&str, Make); 4] = [
            ("remote", |key, at, _| FlowKey { remote: at, ..key }),
            ("local", |key, at, _| FlowKey { local: at, ..key }),
            ("remote and port", |key, at, low| FlowKey { remote: at, remote_port: u16::from(low), ..key }),
            ("both IPv4 ends", |key, at, low| FlowKey {
                local: Address::v4(&[10, 0, 0, low]),
                remote: Address::v4(&[198, 51, 100, at.bytes()[7]]),
                kind: kind::IPV4,
                ..key
            }),
        ];
        for (what, make) in grids {
            let mut hashes = [0; 65_536];
            for (number, place) in hashes.iter_mut().enumerate() {
                let [x, y] = (number as u16).to_be_bytes();
                *place = hash(words(&make(base, v6(x, y), y)));
            }
            hashes.sort_unstable();
            assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "{what}");
        }
    }

    /// Keys as real traffic has them, ports and addresses counted up, into as many buckets as there are keys: with a random function
    /// the fullest of 65 536 holds 8 in the mean.
    #[test]
    fn consecutive_ports_spread_over_any_bits() {
        for shift in [0, 13, 24, 40, 48] {
            let mut buckets = [0_u8; 65_536];
            for number in 0..65_536 {
                let bucket = &mut buckets[(hash(words(&key(number))) >> shift) as usize & 0xffff];
                *bucket = bucket.saturating_add(1);
            }
            let fullest = buckets.iter().max().copied().unwrap_or_default();
            let empty = buckets.iter().filter(|&&count| count == 0).count();
            assert!(fullest < 14, "bits from {shift}: {fullest} in one bucket");
            assert!((22_000..26_500).contains(&empty), "bits from {shift}: {empty} empty, not a share of 1/e");
        }
    }
}
