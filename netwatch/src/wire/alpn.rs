//! Names of application protocols in TLS and DNS (RFC 7301).

use std::fmt;

use super::{ByteReader, text};

/// The name of a protocol, as IANA has it or not: `h2`, `http/1.1`, `doq`. Its bytes as text, by the rule of [`text::push`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alpn(Box<str>);

impl Alpn {
    /// Bytes of a name that are kept; IANA's longest has 23.
    pub const MAX: usize = 64;
    /// Names of a list that are kept.
    pub const MAX_LIST: usize = 16;

    /// A name from its bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(text::escape(bytes, Self::MAX).into())
    }

    /// Names that follow each other, each behind a length of one byte, as far as there are whole ones.
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
    fn a_list_ends_where_its_bytes_do() {
        let names: Vec<String> = Alpn::list(b"\x02h2\x08http/1.1\x05cut").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["h2", "http/1.1"]);
        assert_eq!(Alpn::list(&[1, b'x'].repeat(99)).len(), Alpn::MAX_LIST);
    }
}
