//! The text in a Rust file that people read: comments and string literals, which the tokens of a
//! compiler leave out or have already decoded.

/// A comment or a string literal.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage {
    /// Without `//`, `/*` and quotation marks. Consecutive comment lines are one passage.
    pub text: String,
    /// The line of its first character, counted from 1.
    pub line: usize,
}

/// Every comment and every string literal of a file, in the order in which they end.
pub fn passages(code: &str) -> Vec<Passage> {
    let mut reader = PassageReader { rest: code, line: 1, found: Vec::new(), last_comment: 0 };
    while let Some(next) = reader.rest.chars().next() {
        match next {
            '/' if reader.rest.starts_with("//") => reader.line_comment(),
            '/' if reader.rest.starts_with("/*") => reader.until("/*", "*/"),
            '"' => reader.string(),
            'r' => reader.raw_string(),
            '\'' => reader.character(),
            c if c.is_alphanumeric() || c == '_' => reader.word(),
            _ => drop(reader.take(next.len_utf8())),
        }
    }
    reader.found
}

struct PassageReader<'a> {
    rest: &'a str,
    line: usize,
    found: Vec<Passage>,
    /// The last line of the passage before, if that is a comment.
    last_comment: usize,
}

impl<'a> PassageReader<'a> {
    /// Skips this many bytes, and returns them.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn line_comment(&mut self) {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = self.line;
        let text = self.take(end).trim_start_matches(['/', '!']).trim();
        match self.found.last_mut() {
            Some(before) if self.last_comment + 1 == line => before.text += &format!("\n{text}"),
            _ => self.found.push(Passage { text: text.to_owned(), line }),
        }
        self.last_comment = line;
    }

    /// A passage between two marks, without escapes.
    fn until(&mut self, begin: &str, end: &str) {
        self.take(begin.len());
        let line = self.line;
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        let text = self.take(length).to_owned();
        self.take(end.len());
        self.found.push(Passage { text, line });
        self.last_comment = 0;
    }

    fn string(&mut self) {
        self.take(1);
        let line = self.line;
        let mut is_escaped = false;
        let ends = |c: char| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        };
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        let text = self.take(length).to_owned();
        self.take(1);
        self.found.push(Passage { text, line });
        self.last_comment = 0;
    }

    /// `r"…"`, `r#"…"#`, or a word that begins with `r`.
    fn raw_string(&mut self) {
        let hashes = self.rest[1..].chars().take_while(|c| *c == '#').count();
        if self.rest[1 + hashes..].starts_with('"') {
            let marks = "#".repeat(hashes);
            self.until(&format!("r{marks}\""), &format!("\"{marks}"));
        } else {
            self.word();
        }
    }

    /// A character literal or a lifetime.
    fn character(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        let first = chars.next().map(|(_, c)| c);
        let second = chars.next();
        match (first, second) {
            (Some('\\'), _) => {
                let length = self.rest[3..].find('\'').map_or(self.rest.len(), |end| end + 4);
                self.take(length);
            }
            (Some(_), Some((at, '\''))) => drop(self.take(at + 1)),
            _ => drop(self.take(1)),
        }
    }

    /// An identifier or number. The prefix of a byte or C string is one too.
    fn word(&mut self) {
        let ends = |c: char| !c.is_alphanumeric() && c != '_';
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        if ["br", "cr"].contains(&&self.rest[..length]) {
            self.take(1);
        } else {
            self.take(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(code: &str) -> Vec<(String, usize)> {
        passages(code).into_iter().map(|passage| (passage.text, passage.line)).collect()
    }

    #[test]
    fn finds_comments_and_strings() {
        let code =
            "//! One\n//! module.\n\nfn f() { g(\"a \\\" b\"); } // end\n/* block */ let x = r#\"raw \" text\"#;\n";
        let expected = [("One\nmodule.", 1), ("a \\\" b", 4), ("end", 4), (" block ", 5), ("raw \" text", 5)];
        assert_eq!(texts(code), expected.map(|(text, line)| (text.to_owned(), line)));
    }

    #[test]
    fn quotation_marks_in_characters_begin_no_string() {
        assert_eq!(texts("fn f<'a>(x: &'a str) { g('\"', '\\'', b'\"', \"s\", '\\u{22}', b\"t\", br\"u\") }").len(), 3);
    }
}
