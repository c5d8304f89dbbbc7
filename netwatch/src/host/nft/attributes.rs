//! Writes netlink attributes: length and kind in host order, values padded to four bytes.
//! [`crate::host::netlink`] reads them, except the numbers, which nf_tables stores in network
//! order.

/// Set on attributes that hold attributes.
const NESTED: u16 = 1 << 15;

pub use crate::host::netlink::{attribute as find, attributes as parse};

/// A list of attributes to write.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// The list as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("netwatch writes no attribute near 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Appends a number in network order.
    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// As [`Self::put_u32`].
    pub fn put_u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends a text with its final NUL.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value);
    }

    /// Appends an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.put_nested(kind, &inner.0);
    }

    /// Attributes that were read.
    pub fn put_nested(&mut self, kind: u16, attributes: &[u8]) {
        self.put(kind | NESTED, attributes);
    }
}

/// A number in network order.
pub fn find_u32(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// A number in network order.
pub fn find_u64(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// Text up to its NUL.
pub fn find_text(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind).map(text)
}

/// Text up to its NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mut attributes = Attributes::default();
        attributes.put_text(1, "nat");
        attributes.nest(2, |inner| inner.put_u32(3, 0x0102_0304));
        assert_eq!(attributes.bytes().len() % 4, 0);
        assert_eq!(find_text(attributes.bytes(), 1).as_deref(), Some("nat"));
        assert_eq!(find_u32(find(attributes.bytes(), 2).unwrap(), 3), Some(0x0102_0304));
        assert_eq!(find(attributes.bytes(), 9), None);
    }

    #[test]
    fn stops_at_truncated_input() {
        let mut attributes = Attributes::default();
        attributes.put_u64(1, 7);
        for end in 0..attributes.bytes().len() {
            assert_eq!(parse(&attributes.bytes()[..end]).count(), 0);
        }
        assert_eq!(find_u64(attributes.bytes(), 1), Some(7));
        assert_eq!(parse(&[0, 0, 0, 0, 1, 2]).count(), 0, "a length below the header's");
    }
}
