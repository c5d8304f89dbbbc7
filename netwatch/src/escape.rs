//! Makes text harmless for a terminal. JSON has an escape of its own for the same characters: `json::harmless`.

use std::borrow::Cow;

/// Replaces what could move the cursor, change colours or reorder the line: control characters (C0, DEL, C1), line separators
/// and bidirectional controls become `\n`, `\u{1b}` and the like. The backslash itself stays, so this is for reading, not for parsing back.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_harmful(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// The same for text of several lines, which stay lines.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(escape).collect::<Vec<_>>().join("\n"))
}

/// The bidirectional controls are those of Unicode's UAX #9; they can make a line read differently from what it says.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_and_reordering_are_shown_not_obeyed() {
        assert_eq!(escape("\x1b[31mred\x07\n\u{9b}"), r"\u{1b}[31mred\u{7}\n\u{9b}");
        assert_eq!(escape("a\u{202e}b"), r"a\u{202e}b");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escape_lines("a\n\u{1b}[2Jb\n"), "a\n\\u{1b}[2Jb\n");
    }

    #[test]
    fn ordinary_text_is_borrowed() {
        assert!(matches!(escape("grüße → ok"), Cow::Borrowed(_)));
    }
}
