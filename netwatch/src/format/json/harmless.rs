//! JSON that a terminal can show: what JSON lets through and a terminal obeys is written as JSON's own escape for it, `\u` and four digits, which means
//! the same.

use std::io::{self, Write};

use serde::Serialize;

use crate::escape::needs_escape;

/// Writes a value, indented.
pub fn pretty(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(Harmless(out), value).map_err(io::Error::from)
}

/// Writes a value on one line, without its end.
pub(super) fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(Harmless(out), value).map_err(io::Error::from)
}

/// A value as text, indented, with a newline at its end.
pub fn text(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    pretty(value, &mut text).expect("plain values, and memory takes all");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Takes JSON in pieces that end between characters, as serde_json gives it. Outside of strings there is nothing but printable ASCII and newlines.
struct Harmless<'w>(&'w mut dyn Write);

impl Write for Harmless<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        // Nearly all of them.
        if piece.iter().all(|byte| byte.is_ascii() && *byte != 0x7f) {
            return self.0.write_all(piece).map(|()| piece.len());
        }
        let text = str::from_utf8(piece).map_err(io::Error::other)?;
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c != '\n' && needs_escape(*c)) {
            self.0.write_all(&rest.as_bytes()[..at])?;
            // All of them are within 16 bits.
            write!(self.0, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_all(rest.as_bytes()).map(|()| piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_value_and_obeyed_by_no_terminal() {
        let hostile = "\u{9b}31m a\u{202e}b \u{7f}\u{1b}[2J\n grüße \u{feff}\u{2028}\\u009b";
        let text = text(&[hostile]);
        assert!(!text.contains(|c| c != '\n' && needs_escape(c)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [hostile]);
        assert!(text.contains("grüße") && text.contains("\\u009b31m"), "{text}");
    }
}
