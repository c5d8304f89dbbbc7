//! Patterns of names: a name, or all names below a name.

use std::fmt;

use crate::wire::Name;

/// Characters that are escaped as `\DDD`, their decimal code, in a name of a policy. Unescaped,
/// they are a mistake of the author (a URL, a port, a star in the middle). A backslash is escaped
/// only before one of these codes.
const ESCAPED: [(char, &str); 5] = [(' ', r"\032"), ('*', r"\042"), ('/', r"\047"), (':', r"\058"), ('\\', r"\092")];

/// A pattern of names. Letters are in lower case, and there is no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name.
    Exact(String),
    /// Names with one or more labels before this one, which itself does not match.
    Below(String),
}

impl NamePattern {
    /// Matches only this name.
    pub fn exact(name: &Name) -> Self {
        Self::Exact(normalize(name.as_str()))
    }

    /// Reads `example.org` or `*.example.org`; fails with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rest, is_below) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        if rest.is_empty() {
            return Err("a name cannot be empty".into());
        }
        if let Some((bad, escape)) = ESCAPED.iter().find(|(bad, _)| *bad != '\\' && rest.contains(*bad)) {
            return Err(match bad {
                '*' => "a star stands for labels only at the start: *.example.org".into(),
                _ => format!("expected a name without {bad:?} (or {escape}, if a name contains it)"),
            });
        }
        let name = normalize(&unescape(rest));
        match is_below {
            true if name.is_empty() => Err("a star before the root matches everything: leave the name out".into()),
            true => Ok(Self::Below(name)),
            false => Ok(Self::Exact(name)),
        }
    }

    /// Whether the name matches.
    pub fn matches(&self, name: &Name) -> bool {
        // No copy is made, because each connection is compared with each pattern.
        let name = name.as_str().trim_end_matches('.');
        match self {
            Self::Exact(own) => own.eq_ignore_ascii_case(name),
            Self::Below(parent) => {
                let start = name.len().checked_sub(parent.len()).filter(|start| name.is_char_boundary(*start));
                let (before, end) = name.split_at(start.unwrap_or_default());
                let labels = before.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(parent));
                labels.is_some_and(|labels| !labels.is_empty() && !ends_with_escape(labels))
            }
        }
    }

    /// Whether the last two labels of pattern and name are the same.
    pub(super) fn shares_domain(&self, name: &Name) -> bool {
        self.domain().is_some_and(|own| domain(&normalize(name.as_str())) == Some(own))
    }

    /// Its last two labels.
    pub(super) fn domain(&self) -> Option<&str> {
        let (Self::Exact(own) | Self::Below(own)) = self;
        domain(own)
    }
}

/// The last two labels of a name; `None` if it has only one.
pub(super) fn domain(name: &str) -> Option<&str> {
    let last = name.rfind('.')?;
    let start = name[..last].rfind('.').map_or(0, |dot| dot + 1);
    Some(&name[start..])
}

/// The parents of a normalized name, the nearest first: `b.c`, then `c`, for `a.b.c`.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    dots.filter(|dot| *dot > 0 && !ends_with_escape(&name[..*dot])).map(|dot| &name[dot + 1..])
}

/// Whether a dot after this text is part of a label (`a\.b`), and no boundary.
fn ends_with_escape(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The name in lower case, without the dot at the end. The root becomes the empty text.
pub(super) fn normalize(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The character and the code that this text begins with.
fn escape_at(text: &str) -> Option<(char, &'static str)> {
    ESCAPED.into_iter().find(|(_, code)| text.starts_with(code))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (c, length) = escape_at(rest).map_or((c, c.len_utf8()), |(escaped, code)| (escaped, code.len()));
        plain.push(c);
        rest = &rest[length..];
    }
    plain
}

/// As in a policy.
impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Exact(name) | Self::Below(name)) = self;
        if name.is_empty() {
            return f.write_str(".");
        }
        if matches!(self, Self::Below(_)) {
            f.write_str("*.")?;
        }
        for (at, c) in name.char_indices() {
            let code = ESCAPED.iter().find(|(escaped, _)| *escaped == c).map(|(_, code)| *code);
            match code.filter(|_| c != '\\' || escape_at(&name[at..]).is_some()) {
                Some(code) => f.write_str(code)?,
                None => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::of_text(text)
    }

    #[test]
    fn a_star_is_one_or_more_labels_and_never_the_name_itself() {
        let pattern = NamePattern::parse("*.Example.org").expect("a pattern");
        for inside in ["a.example.org", "a.b.EXAMPLE.org.", "_x.example.org", "*.example.org"] {
            assert!(pattern.matches(&name(inside)), "{inside}");
        }
        for outside in ["example.org", ".example.org", "badexample.org", r"a\.example.org", "example.org.evil", ""] {
            assert!(!pattern.matches(&name(outside)), "{outside}");
        }
    }

    #[test]
    fn a_name_matches_only_itself() {
        let pattern = NamePattern::parse("App.example.").expect("a pattern");
        assert!(pattern.matches(&name("app.example")) && pattern.matches(&name("APP.example.")));
        assert!(!pattern.matches(&name("x.app.example")) && !pattern.matches(&name("app.example.org")));
        assert!(NamePattern::parse(".").expect("the root").matches(&name(".")));
    }

    #[test]
    fn mistakes_are_refused() {
        for invalid in ["", "*.", "*", "*.*", "a.*.b", "https://a.b", "a.b:443", "a b", "a/b", "*a.b", "*.."] {
            assert!(NamePattern::parse(invalid).is_err(), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn an_exact_pattern_survives_its_text(text in "[a-zA-Z0-9*:/ ._\\\\-]{0,12}", other in "[a-c.*]{0,6}") {
            let pattern = NamePattern::exact(&name(&text));
            let read = NamePattern::parse(&pattern.to_string()).map_err(TestCaseError::fail)?;
            prop_assert!(read.matches(&name(&text)), "{read:?}");
            prop_assert_eq!(read.matches(&name(&other)), normalize(&text) == normalize(&other));
        }
    }
}
