//! Words from the wire and from command lines as comments: nothing in them can end a comment, a quoted string or a line.

use std::fmt::Write;

/// Printable ASCII that stands for itself in every format. The rest is written as `%XX`, the percent sign too, so that two different words
/// stay different. No quotes, backslashes, `$`, backticks, `#`, `;`, `{}` or `<>`: what a shell, nft, YAML or XML might take for its own.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" ._-:/@*,()+=~".contains(&byte)
}

/// The word, harmless, in at most `limit` bytes; `...` marks one that was cut.
pub(super) fn comment(word: &str, limit: usize) -> String {
    let mut safe = String::new();
    // Where to cut if it becomes too long: behind a whole character or `%XX`.
    let mut cut = 0;
    let last = word.len().wrapping_sub(1);
    for (at, byte) in word.bytes().enumerate() {
        // A space at the end would be lost by whoever trims lines.
        match is_plain(byte) && (byte != b' ' || at != last) {
            true => safe.push(char::from(byte)),
            // Writing to a string cannot fail.
            false => drop(write!(safe, "%{byte:02X}")),
        }
        if safe.len() > limit {
            safe.truncate(cut);
            return safe + "...";
        }
        if safe.len() + 3 <= limit {
            cut = safe.len();
        }
    }
    safe
}

/// A label of DNS (RFC 1123) made of a word, for objects that need such a name; `otherwise` if nothing is left.
pub(super) fn label(word: &str, otherwise: &str) -> String {
    let lower = word.to_ascii_lowercase();
    let dashed: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let trimmed = dashed.trim_matches('-');
    if trimmed.is_empty() { otherwise.to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_shown() {
        assert_eq!(comment("app.example", 100), "app.example");
        assert_eq!(comment("*.example.org (tcp/443)", 100), "*.example.org (tcp/443)");
        assert_eq!(comment("a\"; drop #\n\\'", 100), "a%22%3B drop %23%0A%5C%27");
        assert_eq!(comment("a ", 100), "a%20");
        assert_eq!(comment("grüße", 100), "gr%C3%BC%C3%9Fe");
        assert_eq!(comment(&"a".repeat(40), 20), "a".repeat(17) + "...");
        assert_eq!(comment(&"\"".repeat(9), 20), "%22%22%22%22%22...");
    }

    #[test]
    fn labels() {
        assert_eq!(label("Curl_7.88", "x"), "curl-7-88");
        assert_eq!(label("--", "netwatch"), "netwatch");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn nothing_breaks_out(word in any::<String>(), limit in 8usize..128) {
            let safe = comment(&word, limit);
            prop_assert!(safe.len() <= limit, "{safe}");
            prop_assert!(safe.bytes().all(|byte| is_plain(byte) || byte == b'%'), "{safe}");
        }
    }
}
