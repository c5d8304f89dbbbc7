//! The addresses of the target of a capture, if the user named them.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use netwatch_common::address::Address;
use netwatch_common::parse::{Hook, Packet};

/// Addresses and networks of the target. Without any, the end that opened a flow counts as local.
#[derive(Debug, Default, Clone)]
pub struct LocalAddresses(Vec<LocalNetwork>);

#[derive(Debug, Clone)]
struct LocalNetwork {
    text: String,
    is_v4: bool,
    bits: u128,
    mask: u128,
}

impl LocalAddresses {
    /// Parses texts of the form `ADDR` or `ADDR/LEN`.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        texts.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The addresses and networks as the user wrote them.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|network| network.text.clone()).collect()
    }

    /// The hook at which the target's link would have seen this packet. Packets between two local
    /// or two other addresses count as on a loopback, because neither end is the remote one.
    #[inline]
    pub fn hook(&self, packet: &Packet) -> Hook {
        if self.0.is_empty() {
            return Hook::Loopback;
        }
        match (self.has(&packet.source), self.has(&packet.destination)) {
            (true, false) => Hook::FromTarget,
            (false, true) => Hook::ToTarget,
            _ => Hook::Loopback,
        }
    }

    /// As [`Self::hook`]. If no address was named, the direction that the file states determines
    /// the hook.
    #[inline]
    pub(super) fn hook_or(&self, stated: Option<Hook>, packet: &Packet) -> Hook {
        stated.filter(|_| self.0.is_empty()).unwrap_or_else(|| self.hook(packet))
    }

    /// Whether a packet has two ends and neither is local, although local addresses were named.
    pub(super) fn is_of_others(&self, packet: &Packet) -> bool {
        let has_ends = packet.source != Address::default() || packet.destination != Address::default();
        !self.0.is_empty() && has_ends && !self.has(&packet.source) && !self.has(&packet.destination)
    }

    fn has(&self, address: &Address) -> bool {
        let bits = u128::from_be_bytes(address.bytes());
        let is_v4 = bits & first_bits(96) == Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().to_bits();
        self.0.iter().any(|network| network.is_v4 == is_v4 && bits & network.mask == network.bits)
    }
}

impl FromStr for LocalNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let wrong = || format!("{text} is neither an address nor a network like 198.51.100.0/24 or 2001:db8::/32");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        // The packet parser stores IPv4 addresses as IPv4-mapped IPv6 addresses.
        let (address, width) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 32),
            IpAddr::V6(v6) => (v6, 128),
        };
        let length: u32 = length.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
        if length > width {
            return Err(wrong());
        }
        let mask = u128::MAX.checked_shl(width - length).unwrap_or(0) | first_bits(128 - width);
        Ok(Self { text: text.to_owned(), is_v4: width == 32, bits: address.to_bits() & mask, mask })
    }
}

/// A mask of this many leading bits.
fn first_bits(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(networks: &[&str], address: &str) -> bool {
        let local = LocalAddresses::new(networks.iter().copied()).expect("networks");
        let address = match address.parse::<IpAddr>().expect("an address") {
            IpAddr::V4(v4) => Address::v4(&v4.octets()),
            IpAddr::V6(v6) => Address::v6(&v6.octets()),
        };
        local.has(&address)
    }

    #[test]
    fn matches_addresses_and_networks_of_both_families() {
        assert!(has(&["198.51.100.7"], "198.51.100.7") && !has(&["198.51.100.7"], "198.51.100.8"));
        assert!(has(&["198.51.100.0/24"], "198.51.100.255") && !has(&["198.51.100.0/24"], "198.51.101.0"));
        assert!(has(&["198.51.100.9/24"], "198.51.100.1"), "bits after the prefix are ignored");
        assert!(has(&["2001:db8::/32"], "2001:db8:7::1") && !has(&["2001:db8::/32"], "2001:db9::1"));
        assert!(has(&["0.0.0.0/0"], "203.0.113.1") && !has(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(has(&["::/0"], "2001:db8::1") && !has(&["::/0"], "203.0.113.1"));
        assert!(has(&["203.0.113.1", "2001:db8::1"], "2001:db8::1"));
        for wrong in ["host", "198.51.100.7/33", "2001:db8::/129", "198.51.100.7/", "/8", ""] {
            assert!(LocalAddresses::new([wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn direction_follows_the_local_end() {
        let local = LocalAddresses::new(["198.51.100.0/24"]).expect("a network");
        let packet = |source: [u8; 4], destination: [u8; 4]| Packet {
            source: Address::v4(&source),
            destination: Address::v4(&destination),
            ..Packet::default()
        };
        let (ours, other) = ([198, 51, 100, 1], [203, 0, 113, 1]);
        assert_eq!(local.hook(&packet(ours, other)), Hook::FromTarget);
        assert_eq!(local.hook(&packet(other, ours)), Hook::ToTarget);
        assert_eq!(local.hook(&packet(ours, ours)), Hook::Loopback);
        assert_eq!(local.hook(&packet(other, other)), Hook::Loopback);
        assert!(local.is_of_others(&packet(other, other)) && !local.is_of_others(&packet(ours, ours)));
        assert!(!local.is_of_others(&Packet::default()), "ARP has no IP ends");
        assert_eq!(LocalAddresses::default().hook(&packet(ours, other)), Hook::Loopback);
    }
}
