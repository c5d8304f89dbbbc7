//! Escapes names from packets and command lines, so that they cannot end a comment, a quoted string
//! or a line.

use std::fmt::Write;

/// Printable ASCII without a special meaning in any format. Everything else is written as `%XX`,
/// the percent sign too, so that different words stay different. Excluded are quotes, backslashes,
/// `$`, backticks, `#`, `;`, `{}` and `<>`, which have a meaning in a shell, nft, YAML or XML.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" ._-:/@*,()+=~".contains(&byte)
}

/// The word with special characters escaped, in at most `limit` bytes; `...` marks a word that was
/// cut.
pub(super) fn comment(word: &str, limit: usize) -> String {
    let mut safe = String::new();
    // The position at which a word that is too long is cut: after a whole character or `%XX`.
    let mut cut = 0;
    let last = word.len().wrapping_sub(1);
    for (at, byte) in word.bytes().enumerate() {
        // Programs that trim lines would remove a space at the end.
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

/// Lines of at most `width` bytes, broken at spaces, and in longer words behind dots and slashes.
/// For text that [`comment`] made.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for mut word in text.split(' ') {
        let last = lines.last_mut().expect("one line");
        if last.len() + usize::from(!last.is_empty()) + word.len() <= width {
            last.extend((!last.is_empty()).then_some(' '));
            last.push_str(word);
            continue;
        }
        while word.len() > width {
            // Behind a dot or slash where there is one, because names are read by their parts.
            let at = word[..width].rfind(['.', '/']).map_or(width, |at| at + 1);
            let (line, rest) = word.split_at(at);
            lines.push(line.to_owned());
            word = rest;
        }
        lines.push(word.to_owned());
    }
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// Whether the word is a DNS label (RFC 1123) in lower case, as Kubernetes requires.
pub fn is_label(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&word.len()) && word.bytes().all(is_plain) && !word.starts_with('-') && !word.ends_with('-')
}

/// A DNS label (RFC 1123) made from a word, for objects that need such a name; `otherwise` if
/// nothing remains.
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
    fn escapes_special_characters_and_cuts_long_words() {
        assert_eq!(comment("app.example", 100), "app.example");
        assert_eq!(comment("*.example.org (tcp/443)", 100), "*.example.org (tcp/443)");
        assert_eq!(comment("a\"; drop #\n\\'", 100), "a%22%3B drop %23%0A%5C%27");
        assert_eq!(comment("a ", 100), "a%20");
        assert_eq!(comment("grüße", 100), "gr%C3%BC%C3%9Fe");
        assert_eq!(comment(&"a".repeat(40), 20), "a".repeat(17) + "...");
        assert_eq!(comment(&"\"".repeat(9), 20), "%22%22%22%22%22...");
    }

    #[test]
    fn wraps_at_spaces_and_in_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("metrics.shop.example", 16), ["metrics.shop.", "example"], "at a dot");
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn makes_labels() {
        assert_eq!(label("Curl_7.88", "x"), "curl-7-88");
        assert_eq!(label("--", "netwatch"), "netwatch");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_word_ends_a_comment(word in any::<String>(), limit in 8usize..128) {
            let safe = comment(&word, limit);
            prop_assert!(safe.len() <= limit, "{safe}");
            prop_assert!(safe.bytes().all(|byte| is_plain(byte) || byte == b'%'), "{safe}");
        }
    }
}
