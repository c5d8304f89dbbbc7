//! An IP address as the classifier handles it: two machine words whose bytes in memory are in
//! network order. Not a 16-byte array, which the compiler would copy byte by byte through the
//! classifier's small stack.

/// An IPv6 address, or an IPv4 address mapped into one (`::ffff:a.b.c.d`).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    high: u64,
    low: u64,
}

impl Address {
    /// An IPv6 address from bytes in network order.
    #[inline(always)]
    pub fn v6(bytes: &[u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        let high = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        Self { high, low: u64::from_ne_bytes([i, j, k, l, m, n, o, p]) }
    }

    /// An IPv4 address from bytes in network order.
    #[inline(always)]
    pub fn v4(bytes: &[u8; 4]) -> Self {
        const PREFIX: u64 = 0x0000_ffff_0000_0000;
        Self { high: 0, low: (PREFIX | u64::from(u32::from_be_bytes(*bytes))).to_be() }
    }

    /// The bytes in network order.
    pub fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.high.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.low.to_ne_bytes());
        bytes
    }

    /// An address from the two words as they are in memory.
    #[inline(always)]
    pub fn from_words([high, low]: [u64; 2]) -> Self {
        Self { high, low }
    }

    /// The two words as they are in memory.
    #[inline(always)]
    pub fn words(&self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// The address as a number: the order in which people sort addresses.
    #[inline(always)]
    pub(crate) fn number(&self) -> (u64, u64) {
        (u64::from_be(self.high), u64::from_be(self.low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_mapped() {
        let mapped = Address::v4(&[198, 51, 100, 7]);
        assert_eq!(mapped.bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 7]);
        assert_eq!(mapped, Address::v6(&mapped.bytes()));
    }
}
