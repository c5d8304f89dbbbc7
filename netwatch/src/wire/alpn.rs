//! Protocol names of ALPN, in TLS and DNS (RFC 7301).

use std::fmt;

use super::{ByteReader, text};

/// A protocol name, registered at IANA or not: `h2`, `http/1.1`, `doq`. Its bytes are escaped by
/// [`text::escape`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alpn(Box<str>);

impl Alpn {
    /// Maximum number of bytes kept of a name; the longest at IANA has 23.
    pub const MAX: usize = 64;
    /// Maximum number of names kept of a list.
    pub const MAX_LIST: usize = 16;

    /// Makes a name from its bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(text::escape(bytes, Self::MAX).into())
    }

    /// Parses a list of names, each after a length of one byte, as far as they are complete.
    pub fn list(bytes: &[u8]) -> Vec<Self> {
        Self::raw_list(bytes).take(Self::MAX_LIST).map(Self::new).collect()
    }

    pub(super) fn raw_list(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut reader = ByteReader::new(bytes);
        std::iter::from_fn(move || reader.vector8())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_list_as_far_as_it_is_complete() {
        let names: Vec<String> = Alpn::list(b"\x02h2\x08http/1.1\x05cut").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["h2", "http/1.1"]);
        assert_eq!(Alpn::list(&[1, b'x'].repeat(99)).len(), Alpn::MAX_LIST);
    }
}
