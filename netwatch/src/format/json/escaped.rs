//! JSON that is safe to display: characters that a terminal interprets are written as `\u` escapes,
//! which mean the same to a parser.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::escape::needs_escape;

/// Writes a value: objects indented, each entry of a list on one line.
pub fn pretty(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(Escaped(out), EntryPerLine::default());
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// Writes a value on one line, without a newline.
pub(in crate::format) fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(Escaped(out), value).map_err(io::Error::from)
}

/// A value as text like [`pretty`], with a newline at its end. For short values only: all of it is
/// in memory.
pub fn to_text(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    pretty(value, &mut text).expect("plain values serialize, and memory accepts every write");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Indents objects by two spaces per level and writes each entry of a list on one line. Long lists
/// then take a fraction of the bytes that full indentation takes, and line tools still work.
#[derive(Default)]
struct EntryPerLine {
    /// Objects and lists that are open, outside of list entries.
    level: usize,
    /// Lists that are open inside of a list entry, plus one for the entry itself.
    entry_level: usize,
    /// The innermost object or list is empty so far.
    is_empty: bool,
}

impl EntryPerLine {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.entry_level == 0 {
            self.level += 1;
        }
        self.is_empty = true;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.entry_level == 0 {
            self.level -= 1;
            if !self.is_empty {
                self.new_line(out)?;
            }
        }
        self.is_empty = false;
        out.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.entry_level == 0 { self.new_line(out) } else { Ok(()) }
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.level).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for EntryPerLine {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)?;
        self.entry_level += 1;
        Ok(())
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.entry_level -= 1;
        self.is_empty = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(if self.entry_level == 0 { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_empty = false;
        Ok(())
    }
}

/// Accepts JSON in pieces that end between characters, as serde_json writes it. Outside of strings
/// JSON holds only printable ASCII and newlines.
struct Escaped<'w>(&'w mut dyn Write);

impl Write for Escaped<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        // The common case.
        if piece.iter().all(|byte| byte.is_ascii() && *byte != 0x7f) {
            return self.0.write_all(piece).map(|()| piece.len());
        }
        let text = str::from_utf8(piece).map_err(io::Error::other)?;
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c != '\n' && needs_escape(*c)) {
            self.0.write_all(&rest.as_bytes()[..at])?;
            // Four digits suffice: every harmful character is below U+10000.
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
    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_what_a_terminal_interprets_and_keeps_the_value() {
        let hostile = "\u{9b}31m a\u{202e}b \u{7f}\u{1b}[2J\n grüße \u{feff}\u{2028}\\u009b";
        let text = to_text(&[hostile]);
        assert!(!text.contains(|c| c != '\n' && needs_escape(c)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [hostile]);
        assert!(text.contains("grüße") && text.contains("\\u009b31m"), "{text}");
    }

    #[test]
    fn indents_objects_and_writes_an_entry_per_line() {
        let value = json!({
            "a": {"b": 1, "c": {}},
            "d": [],
            "e": [{"f": [1, [2]], "g": {"h": null}}, [], {}],
            "i": {"j": [1, "2"]},
        });
        let expected = r#"{
  "a": {
    "b": 1,
    "c": {}
  },
  "d": [],
  "e": [
    {"f":[1,[2]],"g":{"h":null}},
    [],
    {}
  ],
  "i": {
    "j": [
      1,
      "2"
    ]
  }
}
"#;
        assert_eq!(to_text(&value), expected);
    }
}
