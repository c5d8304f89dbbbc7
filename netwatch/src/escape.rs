//! Escapes text for a terminal. For JSON, `json::escaped` escapes the same characters.

use std::borrow::Cow;

/// Escapes characters that can move the cursor, change colors or reorder the line: control
/// characters (C0, DEL, C1), line separators and bidirectional controls become `\n`, `\u{1b}` and
/// so on. The backslash is not escaped, so the result is for people and cannot be parsed.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if needs_escape(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// Like [`escape`], but keeps line feeds.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(escape).collect::<Vec<_>>().join("\n"))
}

/// Whether [`escape`] escapes the character. The bidirectional controls are those of UAX #9: they
/// can display a line in an order that misleads the reader.
pub(crate) fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_control_sequences_and_bidirectional_controls() {
        assert_eq!(escape("\x1b[31mred\x07\n\u{9b}"), r"\u{1b}[31mred\u{7}\n\u{9b}");
        assert_eq!(escape("a\u{202e}b"), r"a\u{202e}b");
    }

    #[test]
    fn keeps_line_feeds() {
        assert_eq!(escape_lines("a\n\u{1b}[2Jb\n"), "a\n\\u{1b}[2Jb\n");
    }

    #[test]
    fn borrows_text_without_control_characters() {
        assert!(matches!(escape("grüße → ok"), Cow::Borrowed(_)));
    }
}
