//! Names as packets carry them: any bytes, made into text by one rule.

use std::fmt;
use std::sync::Arc;

use super::text;

/// A name as text: of a DNS message, a server name of TLS, a `Host` of HTTP.
///
/// The rule: at most [`Name::MAX`] bytes of the original ([`text::CUT`] marks a longer one), ASCII letters in lower case because names differ
/// by nothing else (RFC 4343), no dot at the end, escaped as [`text::push_ascii`] says, and in DNS a dot inside a label as `\.`. IDNA stays as it
/// was sent (`xn--…`): what looks like another name in Unicode does not here. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Bytes of the original that are kept (RFC 1035 section 2.3.4).
    pub const MAX: usize = 255;

    /// A name of bytes without structure; `None` if there are none but a dot.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        (!bytes.is_empty()).then(|| Self::lower(text::escape_ascii(bytes, Self::MAX)))
    }

    /// A name of DNS. No labels are the root, which is written as a dot.
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

    /// A name that was made by this rule before and kept as text.
    pub fn of_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of the text.
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
    fn the_rule() {
        assert_eq!(Name::new(b"App.Example.").unwrap(), "app.example");
        assert_eq!(Name::new(b"xn--mnchen-3ya.example").unwrap(), "xn--mnchen-3ya.example");
        assert_eq!(Name::new(b"."), None);
        assert_eq!(Name::new(b""), None);
        assert_eq!(Name::new(b"a\nb").unwrap(), r"a\010b");
    }

    #[test]
    fn labels_keep_their_dots_apart() {
        let name = |labels: &[&'static [u8]]| Name::from_labels(labels.iter().copied());
        assert_eq!(name(&[b"a.b", b"example"]), r"a\.b.example");
        assert_eq!(
            name(&["Bürodrucker 2".as_bytes(), b"_ipp", b"_tcp", b"local"]),
            r"b\195\188rodrucker 2._ipp._tcp.local"
        );
        assert_eq!(name(&[]), ".");
    }

    #[test]
    fn long_names_are_cut_and_say_so() {
        let long = Name::new(&[b'a'; 300]).unwrap();
        assert_eq!(long.as_str(), "a".repeat(255) + text::CUT);
        let label: &[u8] = &[b'b'; 63];
        let labels = Name::from_labels([label; 5].into_iter());
        assert_eq!(labels.as_str().chars().filter(|c| *c == 'b').count(), 3 * 63);
        assert!(labels.as_str().ends_with(text::CUT));
    }
}
