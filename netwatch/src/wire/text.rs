//! Bytes of packets as text that is safe to print and from which the bytes can be restored.

/// Marks text that was cut at its limit. No escape begins like this.
pub const CUT: &str = "\\…";

/// Appends `bytes` as text. Printable UTF-8 is kept. A backslash, and every character in `also`,
/// gets a backslash before it. Every other byte (control characters, characters that reorder or
/// join text invisibly, invalid UTF-8) becomes `\DDD`, in decimal as in the presentation format of
/// DNS (RFC 1035 section 5.1). Two different byte strings never result in the same text.
pub fn push(text: &mut String, bytes: &[u8], also: &[u8]) {
    // The fast path: nearly all names consist of plain characters.
    if let Ok(plain) = str::from_utf8(bytes)
        && bytes.iter().all(|byte| is_plain(*byte) && !also.contains(byte))
    {
        return text.push_str(plain);
    }
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_char(text, c, also));
        push_escaped(text, chunk.invalid());
    }
}

/// As [`push`], for names: every byte that is not ASCII is escaped too, because letters of other
/// scripts can resemble ASCII letters.
pub fn push_ascii(text: &mut String, bytes: &[u8], also: &[u8]) {
    for byte in bytes {
        match *byte {
            byte if byte == b'\\' || also.contains(&byte) => text.extend(['\\', char::from(byte)]),
            byte if is_plain(byte) => text.push(char::from(byte)),
            byte => push_escaped(text, &[byte]),
        }
    }
}

/// At most `limit` bytes as text, followed by [`CUT`] if there were more.
pub fn escape(bytes: &[u8], limit: usize) -> String {
    within(bytes, limit, push)
}

/// As [`escape`], with [`push_ascii`].
pub fn escape_ascii(bytes: &[u8], limit: usize) -> String {
    within(bytes, limit, push_ascii)
}

fn within(bytes: &[u8], limit: usize, push: impl Fn(&mut String, &[u8], &[u8])) -> String {
    let mut text = String::with_capacity(bytes.len().min(limit));
    push(&mut text, &bytes[..bytes.len().min(limit)], b"");
    if bytes.len() > limit {
        text.push_str(CUT);
    }
    text
}

/// Whether this is an ASCII character that needs no escape.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

fn push_char(text: &mut String, c: char, also: &[u8]) {
    if is_harmful(c) {
        push_escaped(text, c.encode_utf8(&mut [0; 4]).as_bytes());
        return;
    }
    if c == '\\' || u8::try_from(c).is_ok_and(|byte| also.contains(&byte)) {
        text.push('\\');
    }
    text.push(c);
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let digit = |value: u8| char::from(b'0' + value % 10);
        text.extend(['\\', digit(byte / 100), digit(byte / 10), digit(*byte)]);
    }
}

/// Control characters, line separators, characters without width, and those that change the
/// direction of text (Unicode UAX #9).
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inverse of [`push`].
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            if first != b'\\' {
                bytes.push(first);
                rest = after;
            } else if after[0].is_ascii_digit() {
                bytes.push(text_number(&after[..3]));
                rest = &after[3..];
            } else {
                bytes.push(after[0]);
                rest = &after[1..];
            }
        }
        bytes
    }

    fn text_number(digits: &[u8]) -> u8 {
        str::from_utf8(digits).unwrap().parse().unwrap()
    }

    #[test]
    fn escapes_what_is_not_printable() {
        assert_eq!(escape(b"app.example", 255), "app.example");
        assert_eq!(escape("grüße 世界".as_bytes(), 255), "grüße 世界");
        assert_eq!(escape(b"\x1b[31m\\\xff\x00", 255), r"\027[31m\\\255\000");
        assert_eq!(escape("a\u{202e}b\u{200b}".as_bytes(), 255), r"a\226\128\174b\226\128\139");
        assert_eq!(escape(b"abcdef", 3), "abc\\…");
        assert_eq!(escape_ascii("app\\é.example".as_bytes(), 255), r"app\\\195\169.example");
    }

    proptest! {
        #[test]
        fn escapes_reversibly_and_safely(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&bytes, 64);
            prop_assert_eq!(unescape(&text), bytes.clone());
            prop_assert!(!text.contains(is_harmful), "{}", text);
            let mut name = String::new();
            push_ascii(&mut name, &bytes, b".");
            prop_assert_eq!(unescape(&name), bytes);
            prop_assert!(name.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", name);
        }
    }
}
