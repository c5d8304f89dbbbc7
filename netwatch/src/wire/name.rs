//! Names as text. Packets carry them as arbitrary bytes.

use std::fmt;
use std::sync::Arc;

use super::text;

/// A name as text: of a DNS message, a server name of TLS, or a `Host` of HTTP.
///
/// At most [`Name::MAX`] bytes of the original are kept ([`text::CUT`] marks a longer one). ASCII
/// letters are in lower case, because names that differ only by case are equal (RFC 4343). There
/// is no dot at the end. Other bytes are escaped by [`text::push_ascii`], and a dot inside a DNS
/// label becomes `\.`. IDNA names stay encoded (`xn--…`), so names that look alike in Unicode do
/// not look alike here. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Maximum number of bytes kept of the original (RFC 1035 section 2.3.4).
    pub const MAX: usize = 255;

    /// Makes a name from bytes without labels; `None` if they are empty or a single dot.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        (!bytes.is_empty()).then(|| Self::lower(text::escape_ascii(bytes, Self::MAX)))
    }

    /// Makes a name from DNS labels. Without labels it is the root, written as a dot.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut name = String::with_capacity(64);
        let mut left = Self::MAX;
        for label in labels {
            if !name.is_empty() {
                name.push('.');
            }
            if label.len() >= left {
                name.push_str(text::CUT);
                break;
            }
            text::push_ascii(&mut name, label, b".");
            left -= label.len() + 1;
        }
        if name.is_empty() {
            name.push('.');
        }
        Self::lower(name)
    }

    fn lower(mut text: String) -> Self {
        text.make_ascii_lowercase();
        Self(text.into())
    }

    /// Restores a name from the text of [`Self::as_str`].
    pub fn of_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length of the text, bytes.
    pub fn memory(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_and_escapes() {
        assert_eq!(Name::new(b"App.Example.").unwrap(), "app.example");
        assert_eq!(Name::new(b"xn--mnchen-3ya.example").unwrap(), "xn--mnchen-3ya.example");
        assert_eq!(Name::new(b"."), None);
        assert_eq!(Name::new(b""), None);
        assert_eq!(Name::new(b"a\nb").unwrap(), r"a\010b");
    }

    #[test]
    fn escapes_dots_inside_labels() {
        let name = |labels: &[&'static [u8]]| Name::from_labels(labels.iter().copied());
        assert_eq!(name(&[b"a.b", b"example"]), r"a\.b.example");
        assert_eq!(
            name(&["Bürodrucker 2".as_bytes(), b"_ipp", b"_tcp", b"local"]),
            r"b\195\188rodrucker 2._ipp._tcp.local"
        );
        assert_eq!(name(&[]), ".");
    }

    #[test]
    fn marks_names_that_are_cut() {
        let long = Name::new(&[b'a'; 300]).unwrap();
        assert_eq!(long.as_str(), "a".repeat(255) + text::CUT);
        let label: &[u8] = &[b'b'; 63];
        let labels = Name::from_labels([label; 5].into_iter());
        assert_eq!(labels.as_str().chars().filter(|c| *c == 'b').count(), 3 * 63);
        assert!(labels.as_str().ends_with(text::CUT));
    }
}
