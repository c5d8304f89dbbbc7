//! A cursor over bytes that may be cut off: every read returns `None` where there are too few.

/// The bytes that have not been read. A read that fails consumes nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes `count` bytes, or fewer if there are fewer; returns whether all were there.
    pub fn take_some(&mut self, count: usize) -> (&'a [u8], bool) {
        let taken = count.min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(taken);
        self.rest = rest;
        (bytes, taken == count)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u32_le(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a vector of TLS (RFC 8446 section 3.4): a length of one byte, then as many bytes.
    pub fn vector8(&mut self) -> Option<&'a [u8]> {
        self.vector(|reader| reader.u8().map(usize::from))
    }

    /// Takes a vector with a length of two bytes.
    pub fn vector16(&mut self) -> Option<&'a [u8]> {
        self.vector(|reader| reader.u16().map(usize::from))
    }

    fn vector(&mut self, length: impl Fn(&mut Self) -> Option<usize>) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let count = length(&mut ahead)?;
        let bytes = ahead.take(count)?;
        *self = ahead;
        Some(bytes)
    }

    /// Takes an integer of QUIC, 1, 2, 4 or 8 bytes (RFC 9000 section 16).
    pub fn varint(&mut self) -> Option<u64> {
        let first = *self.rest.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let high = u64::from(first & 0x3f);
        Some(bytes[1..].iter().fold(high, |value, byte| value << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_fails_consumes_nothing() {
        let mut reader = ByteReader::new(&[0, 3, 1, 2]);
        assert_eq!(reader.vector16(), None);
        assert_eq!(reader.u32(), Some(0x0003_0102));
        assert_eq!(reader.u8(), None);
        assert!(reader.is_empty());
    }

    #[test]
    fn reads_integers_of_quic() {
        // RFC 9000 appendix A.1.
        let read = |bytes: &[u8]| ByteReader::new(bytes).varint();
        assert_eq!(read(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]), Some(151_288_809_941_952_652));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some(494_878_333));
        assert_eq!(read(&[0x7b, 0xbd]), Some(15_293));
        assert_eq!(read(&[0x25]), Some(37));
        assert_eq!(read(&[0x7b]), None);
    }

    #[test]
    fn takes_as_many_bytes_as_there_are() {
        let mut reader = ByteReader::new(b"abc");
        assert_eq!(reader.take_some(2), (&b"ab"[..], true));
        assert_eq!(reader.take_some(2), (&b"c"[..], false));
    }
}
