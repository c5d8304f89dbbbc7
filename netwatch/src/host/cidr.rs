//! An IP prefix and the arithmetic on it. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A prefix of either family, with no bit set after its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// The prefix of this length that contains `address`. A length beyond the family's is cut to it.
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let length = length.min(width(address));
        Self { address: with_bits(address, bits(address) & !host_mask(address, length)), length }
    }

    /// `10.1.2.0/24`; an address with bits after the prefix is refused with the network it may have meant.
    pub fn parse_network(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').ok_or("it has no prefix length (write it as 10.1.2.0/24)")?;
        let address: IpAddr = address.parse().map_err(|_| "not an address before the slash".to_owned())?;
        let width = width(address);
        let length = length
            .parse()
            .ok()
            .filter(|length| *length <= width)
            .ok_or_else(|| format!("the prefix length must be a number, at most /{width}"))?;
        let cidr = Self::containing(address, length);
        match cidr.address == address {
            true => Ok(cidr),
            false => Err(format!("not the address of a network: did you mean {cidr}?")),
        }
    }

    /// Prefix length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The address `n` after the first.
    pub fn nth(&self, n: u128) -> IpAddr {
        with_bits(self.address, bits(self.address) | (n & host_mask(self.address, self.length)))
    }

    /// Whether they share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let length = self.length.min(other.length);
        self.is_ipv4() == other.is_ipv4()
            && Self::containing(self.address, length).address == Self::containing(other.address, length).address
    }

    /// How many prefixes of `length` it holds.
    pub(super) fn parts(&self, length: u8) -> u128 {
        1 << (length - self.length)
    }

    /// The prefix number `n` of `length` in it.
    pub(super) fn part(&self, length: u8, n: u128) -> Self {
        let shift = width(self.address) - length;
        Self { address: with_bits(self.address, bits(self.address) + (n << shift)), length }
    }

    /// The number of the first prefix of `length` in it that begins after `obstacle`; `None` if there is none.
    pub(super) fn part_after(&self, length: u8, obstacle: &Self) -> Option<u128> {
        let last = bits(obstacle.address) | host_mask(obstacle.address, obstacle.length);
        let number = (last.checked_sub(bits(self.address))? >> (width(self.address) - length)) + 1;
        Some(number).filter(|number| *number < self.parts(length))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of the same family as `like` with these bits.
fn with_bits(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

fn host_mask(address: IpAddr, length: u8) -> u128 {
    let host_bits = width(address) - length;
    1u128.checked_shl(host_bits.into()).unwrap_or(0).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cidr() -> impl Strategy<Value = Cidr> {
        prop_oneof![
            (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| Cidr::containing(Ipv4Addr::from(bits).into(), length)),
            (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| Cidr::containing(Ipv6Addr::from(bits).into(), length)),
        ]
    }

    #[test]
    fn prints_what_it_parses() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "203.0.113.7/32", "::/0", "64:ff9b:1::/48", "2001:db8::1/128"] {
            assert_eq!(Cidr::parse_network(text).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn overlapping_is_containing_each_others_first_address(a in any_cidr(), b in any_cidr()) {
            let contains = |a: &Cidr, b: &Cidr| a.is_ipv4() == b.is_ipv4() && Cidr::containing(b.address, a.length) == *a;
            prop_assert_eq!(a.overlaps(&b), contains(&a, &b) || contains(&b, &a));
            prop_assert!(a.overlaps(&a));
        }

        #[test]
        fn the_part_after_an_obstacle_does_not_touch_it(bits in any::<u32>(), length in 8u8..=32) {
            let pool = Cidr::parse_network("10.0.0.0/8").unwrap();
            let obstacle = Cidr::containing(Ipv4Addr::from(bits).into(), length);
            if let Some(number) = pool.part_after(30, &obstacle) {
                prop_assert!(!pool.part(30, number).overlaps(&obstacle));
            }
        }
    }
}
