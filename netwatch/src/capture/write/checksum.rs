//! Internet checksums (RFC 1071).

/// A sum of 16-bit words that has not been folded.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes, which start at an even offset of what is summed.
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        // The sum of swapped words is the swapped sum (RFC 1071, 2 B): no word has to be swapped.
        let native = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        self.0 += u64::from(u16::from_be_bytes(Self(native).folded().to_ne_bytes()));
        match *rest {
            [a, b, c] => self.0 += u64::from(u32::from_be_bytes([a, b, c, 0])),
            [a, b] => self.0 += u64::from(u16::from_be_bytes([a, b])),
            [a] => self.0 += u64::from(u16::from_be_bytes([a, 0])),
            _ => {}
        }
        self
    }

    /// Adds a number of at most 32 bits.
    pub(super) fn add_number(mut self, number: u32) -> Self {
        self.0 += u64::from(number);
        self
    }

    /// The sum in 16 bits.
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum: the complement of the sum.
    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }
}
