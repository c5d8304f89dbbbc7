//! Text made harmless for HTML: the one way in which it gets into the page's markup.

use std::borrow::Cow;
use std::fmt::Write;

use crate::format::escape;

/// For text and for attributes in double quotes. What could reorder a line is shown, not obeyed.
pub(super) fn text(plain: &str) -> Cow<'_, str> {
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

/// JSON that can stand in a script element: its strings keep their meaning, and nothing in them is markup (HTML, 4.12.1.3) or the end of a line of
/// JavaScript.
pub(super) fn island(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Memory takes all.
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
    fn islands_keep_their_meaning() {
        let value = serde_json::json!({ "</script>": "<!-- & \u{2028}" });
        let safe = island(&value.to_string());
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
