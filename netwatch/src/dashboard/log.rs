//! The output of a command as lines: what a terminal would show of programs that write lines. Not a
//! terminal emulator: sequences that move the cursor are left out.

use std::collections::VecDeque;

/// Lines that are kept.
const MAX_LINES: usize = 10_000;
/// Characters that are kept of a line.
const MAX_CHARACTERS: usize = 4_096;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// A control sequence, to its final byte (ECMA-48, 5.4).
    Control,
    /// A string that BEL or ESC ends.
    String,
}

/// The newest lines of the output.
#[derive(Debug, Clone, Default)]
pub struct Log {
    lines: VecDeque<String>,
    /// The last line, which is not complete: its bytes, and where the next one is written.
    current: Vec<u8>,
    column: usize,
    state: State,
}

impl Log {
    /// Adds output.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add_byte(*byte);
        }
    }

    fn add_byte(&mut self, byte: u8) {
        const ESCAPE: u8 = 0x1b;
        const BELL: u8 = 0x07;
        self.state = match (self.state, byte) {
            (State::Text | State::String, ESCAPE) => State::Escape,
            (State::Text, b'\n') => {
                self.end_line();
                State::Text
            }
            (State::Text, b'\r') => {
                self.column = 0;
                State::Text
            }
            (State::Text, 0x08) => {
                self.column = self.column.saturating_sub(1);
                State::Text
            }
            (State::Text, b'\t') => {
                self.put(b' ');
                State::Text
            }
            (State::Text, byte) => {
                if byte >= b' ' && byte != 0x7f {
                    self.put(byte);
                }
                State::Text
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            // An intermediate byte: one more follows.
            (State::Escape, b' '..=b'/') => State::Escape,
            (State::Escape, _) | (State::String, BELL) => State::Text,
            (State::String, _) => State::String,
            (State::Control, b'K') => {
                self.current.truncate(self.column);
                State::Text
            }
            (State::Control, b'@'..=b'~') => State::Text,
            (State::Control, _) => State::Control,
        };
    }

    fn put(&mut self, byte: u8) {
        let has_room = self.current.len() < MAX_CHARACTERS;
        match self.current.get_mut(self.column) {
            Some(place) => *place = byte,
            None if has_room => self.current.push(byte),
            None => return,
        }
        self.column += 1;
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.current).into_owned();
        self.current.clear();
        self.column = 0;
        self.lines.push_back(line);
        if self.lines.len() > MAX_LINES {
            self.lines.pop_front();
        }
    }

    /// Number of lines, with the incomplete one.
    pub fn len(&self) -> usize {
        self.lines.len() + usize::from(!self.current.is_empty())
    }

    /// A line.
    pub fn line(&self, number: usize) -> Option<String> {
        let last = || (number == self.lines.len()).then(|| String::from_utf8_lossy(&self.current).into_owned());
        self.lines.get(number).cloned().or_else(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(output: &[u8]) -> Vec<String> {
        let mut log = Log::default();
        // Byte by byte, as a slow terminal delivers them.
        output.iter().for_each(|byte| log.add(&[*byte]));
        (0..log.len()).filter_map(|number| log.line(number)).collect()
    }

    #[test]
    fn lines_have_no_escape_sequences_and_progress_overwrites_itself() {
        assert_eq!(lines(b"one\r\n\x1b[1;31mtwo\x1b[0m\r\nthr"), ["one", "two", "thr"]);
        assert_eq!(lines(b" 1 %\r10 %\r100 %\n"), ["100 %"]);
        assert_eq!(lines(b"long text\r\x1b[Kshort\n"), ["short"]);
        assert_eq!(lines(b"\x1b]0;title\x07a\x1b]0;t\x1b\\b\x1b(Bc\x08d\n"), ["abd"]);
        assert_eq!(lines("grün\n".as_bytes()), ["grün"]);
        assert_eq!(lines(b"\xff\x00\n"), ["\u{fffd}"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = Log::default();
        log.add(&vec![b'x'; 3 * MAX_CHARACTERS]);
        log.add(&b"\n".repeat(2 * MAX_LINES));
        log.add(&[0x1b, b']']);
        log.add(&vec![b'x'; 3 * MAX_CHARACTERS]);
        assert_eq!(log.len(), MAX_LINES);
    }
}
