//! Escaping of text for HTML. All text of the page passes through it.

use std::borrow::Cow;
use std::fmt::Write;

use crate::format::escape;

/// Escapes for text and for attributes in double quotes, in HTML and XML. Characters that reorder a
/// line are displayed as escapes.
pub(in crate::format) fn text(plain: &str) -> Cow<'_, str> {
    let plain = escape(plain);
    if !plain.contains(['&', '<', '>', '"', '\'']) {
        return plain;
    }
    let mut safe = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Like [`text`], but keeps line ends and tabs: for preformatted text that is copied. HTML has no
/// carriage returns (HTML, 13.2.3.5).
pub(super) fn verbatim(plain: &str) -> String {
    let is_kept = ['\n', '\t'];
    let plain = plain.replace("\r\n", "\n");
    let pieces = plain.split_inclusive(is_kept).map(|piece| {
        let line = piece.trim_end_matches(is_kept);
        text(line).into_owned() + &piece[line.len()..]
    });
    pieces.collect()
}

/// Escapes JSON for a script element: its value stays the same, and no string in it is markup
/// (HTML, 4.12.1.3) or a line end of JavaScript.
pub(super) fn island(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String does not fail.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(text("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(text("a\u{202e}b\0"), r"a\u{202e}b\u{0}");
        assert!(matches!(text("app.example"), Cow::Borrowed(_)));
    }

    #[test]
    fn preformatted_text_keeps_its_lines() {
        assert_eq!(verbatim("a\r\n\n\t<b>\u{1b}\n"), "a\n\n\t&lt;b&gt;\\u{1b}\n");
    }

    #[test]
    fn json_in_a_script_keeps_its_value() {
        let value = serde_json::json!({ "</script>": "<!-- & \u{2028}" });
        let safe = island(&value.to_string());
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
