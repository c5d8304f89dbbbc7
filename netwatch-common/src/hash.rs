//! The hash of a flow key, which selects the buckets of its entry and its slot in the front: a few
//! inline multiplications, where the kernel's hash maps need a helper call. It is not keyed. An
//! attacker who makes keys collide only causes packets to be counted by protocol instead of by
//! flow, which reports show.

use crate::flow::{EntryKey, kind};

/// Odd numbers without a pattern: the first bits of the square roots of 2, 3, 5, 7, 11 and 13.
const FACTORS: [u64; 6] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
];

/// A key as five words: its memory on a little-endian machine.
pub type Words = [u64; 5];

/// The words of a key.
#[inline(always)]
pub fn words(key: &EntryKey) -> Words {
    let [local_high, local_low] = key.local.words();
    let [remote_high, remote_low] = key.remote.words();
    let ports = u64::from(key.local_port) | (u64::from(key.remote_port) << 16);
    let rest = u64::from(key.kind) | (u64::from(key.protocol) << 8) | (u64::from(key.observation_point) << 16);
    [local_high, local_low, remote_high, remote_low, ports | (rest << 32)]
}

/// Whether a stored key has these words. Comparing words takes five comparisons, comparing fields
/// would take nine.
///
/// # Safety
/// `key` points to a live key.
#[inline(always)]
pub unsafe fn is_same(key: *const EntryKey, words: &Words) -> bool {
    // SAFETY: guaranteed by the caller; a key is 40 initialized bytes, aligned to eight.
    let stored = unsafe { &*key.cast::<Words>() };
    // The ports first, where flows differ most often. The same word has the kind; for IPv4 the
    // upper halves are 0.
    let is_v4 = (words[4] >> 32) as u8 == kind::IPV4;
    u64::from_le(stored[4]) == words[4]
        && stored[3] == words[3]
        && stored[1] == words[1]
        && (is_v4 || (stored[2] == words[2] && stored[0] == words[0]))
}

/// 64 bits that are all equally well mixed. The products are independent of each other, so the CPU
/// computes them in parallel; two rounds then mix high bits into low ones.
///
/// A product propagates differences only upwards, and the last byte of an address is the highest
/// byte of its word. The differences of two words would meet there and cancel out for one pair in
/// 256. Therefore the products of three words are also folded downwards, by distances that neither
///   each other nor the rounds undo. The distances were chosen by trial, with keys that differ as
///   those of real traffic do (tests below), not by proof.
#[inline(always)]
pub fn hash([a, b, c, d, e]: Words) -> u64 {
    let sum = fold_down(a.wrapping_mul(FACTORS[0]), 32)
        .wrapping_add(b.wrapping_mul(FACTORS[1]))
        .wrapping_add(fold_down(c.wrapping_mul(FACTORS[2]), 26))
        .wrapping_add(fold_down(d.wrapping_mul(FACTORS[3]), 38))
        .wrapping_add(e.wrapping_mul(FACTORS[4]));
    fold_down(fold_down(sum, 30).wrapping_mul(FACTORS[5]), 33)
}

#[inline(always)]
fn fold_down(word: u64, down: u32) -> u64 {
    word ^ (word >> down)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::address::Address;

    fn key(number: u32) -> EntryKey {
        EntryKey {
            local: Address::v4(&[10, 0, 0, 2]),
            remote: Address::v4(&(0xc633_6400 + (number >> 14)).to_be_bytes()),
            local_port: 40_000 + (number & 0x3fff) as u16,
            remote_port: 443,
            kind: kind::IPV4,
            protocol: 6,
            ..EntryKey::default()
        }
    }

    #[test]
    fn a_key_equals_only_itself() {
        let (one, other) = (key(1), EntryKey { observation_point: 1, ..key(1) });
        // SAFETY: both live.
        unsafe {
            assert!(is_same(&one, &words(&one)));
            assert!(!is_same(&one, &words(&other)));
            assert!(!is_same(&one, &words(&EntryKey { local_port: 1, ..one })));
        }
    }

    /// Makes a key from two bytes.
    type Make = fn(u8, u8) -> EntryKey;

    /// Keys that differ in two bytes, at positions where keys of real traffic differ.
    const GRIDS: [(&str, Make); 14] = [
        ("IPv4, remotes", |x, y| v4([10, 0, 0, 2], [203, 0, x, y], 40_000, 443)),
        ("IPv4, local ports", |x, y| v4([10, 0, 0, 2], [203, 0, 1, 1], u16::from_be_bytes([x, y]), 443)),
        ("IPv4, remote ports", |x, y| v4([10, 0, 0, 2], [203, 0, 1, 1], 40_000, u16::from_be_bytes([x, y]))),
        ("IPv4, remotes and local ports", |x, y| v4([10, 0, 0, 2], [203, 0, 1, x], 40_000 + u16::from(y), 443)),
        ("IPv4, remotes and remote ports", |x, y| v4([10, 0, 0, 2], [203, 0, 1, y], 40_000, 20_000 + u16::from(x))),
        ("IPv4, both ends", |x, y| v4([10, 0, 0, x], [203, 0, 1, y], 40_000, 443)),
        ("IPv4, the same port at both ends", |x, y| {
            v4([10, 0, 0, 2], [203, 0, 1, 1], u16::from_be_bytes([x, y]), u16::from_be_bytes([x, y]))
        }),
        ("IPv6, hosts", |x, y| v6((9, [0, 2]), (1, [x, y]), 40_000)),
        ("IPv6, networks and hosts", |x, y| v6((9, [0, 2]), (x, [0, y]), 40_000)),
        ("IPv6, both networks", |x, y| v6((y, [0, 2]), (x, [0, 1]), 40_000)),
        ("IPv6, both hosts", |x, y| v6((1, [0, y]), (1, [0, x]), 40_000)),
        ("IPv6, network of one end and host of the other", |x, y| v6((y, [0, 2]), (1, [0, x]), 40_000)),
        ("IPv6, ports", |x, y| v6((9, [0, 2]), (1, [0, 1]), u16::from_be_bytes([x, y]))),
        ("IPv6, networks and ports", |x, y| v6((9, [0, 2]), (x, [0, 1]), u16::from(y))),
    ];

    fn v4(local: [u8; 4], remote: [u8; 4], local_port: u16, remote_port: u16) -> EntryKey {
        let (local, remote) = (Address::v4(&local), Address::v4(&remote));
        EntryKey { local, remote, local_port, remote_port, kind: kind::IPV4, protocol: 17, ..EntryKey::default() }
    }

    fn v6(local: (u8, [u8; 2]), remote: (u8, [u8; 2]), local_port: u16) -> EntryKey {
        let address = |(network, [x, y]): (u8, [u8; 2])| {
            Address::v6(&[0x20, 1, 13, 184, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, x, y])
        };
        let (local, remote) = (address(local), address(remote));
        EntryKey { local, remote, local_port, remote_port: 443, kind: kind::IPV6, protocol: 6, ..EntryKey::default() }
    }

    fn hashes(make: Make) -> Vec<u64> {
        (0..=u16::MAX).map(u16::to_be_bytes).map(|[x, y]| hash(words(&make(x, y)))).collect()
    }

    #[test]
    fn keys_that_differ_in_two_bytes_do_not_collide() {
        for (what, make) in GRIDS {
            let mut hashes = hashes(make);
            hashes.sort_unstable();
            assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "{what}");
        }
    }

    /// How many of `places` a random function fills with `keys` keys on average.
    fn filled_at_random(keys: usize, places: usize) -> f64 {
        places as f64 * (1.0 - (-(keys as f64) / places as f64).exp())
    }

    /// For slots of the front (also with few keys), for buckets, and for round-trip probes.
    #[test]
    fn keys_that_differ_in_two_bytes_spread_over_the_bits_in_use() {
        for (what, make) in GRIDS {
            let hashes = hashes(make);
            for (shift, bits, keys) in
                [(40, 12, 256), (40, 12, 4096), (0, 14, 65_536), (20, 10, 1024), (48, 16, 65_536)]
            {
                let mut counts = vec![0_usize; 1 << bits];
                let mask = counts.len() - 1;
                hashes[..keys].iter().for_each(|hash| counts[(hash >> shift) as usize & mask] += 1);
                let filled = counts.iter().filter(|&&count| count != 0).count() as f64;
                let expected = filled_at_random(keys, counts.len());
                assert!(
                    filled > 0.9 * expected,
                    "{what}: {keys} keys by {bits} bits from {shift} fill {filled} of {expected}"
                );
            }
        }
    }

    /// Keys like those of real traffic, with consecutive ports and addresses, in as many buckets as
    /// there are keys. With a random function, the fullest of 65,536 buckets holds 8 keys on
    /// average.
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
            assert!((22_000..26_500).contains(&empty), "bits from {shift}: {empty} empty, expected a share of 1/e");
        }
    }
}
