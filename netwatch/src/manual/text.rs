//! A page of the manual for a terminal.

use super::layout::{table, wrap};
use super::markdown::{PageBlock, TextStyle, parse};

/// Indentation of everything except headings.
const INDENT: usize = 2;
/// Maximum width, because longer lines are hard to read.
const MAX_WIDTH: usize = 100;

/// Renders a page. Without `color`, the text has no styles.
pub(super) fn render(page: &str, width: usize, color: bool) -> String {
    let width = width.clamp(20, MAX_WIDTH) - INDENT;
    let mut out = String::new();
    let mut after_item = false;
    for block in parse(page) {
        let is_item = matches!(block, PageBlock::Item { .. });
        let continues_list = is_item && after_item;
        if !out.is_empty() && !continues_list {
            out.push('\n');
        }
        after_item = is_item;
        for (indent, line) in lines(block, width) {
            out += " ".repeat(if line.is_empty() { 0 } else { indent }).as_str();
            write_line(&line, color, &mut out);
        }
    }
    out
}

/// The lines of a block, each with its indentation.
fn lines(block: PageBlock, width: usize) -> Vec<(usize, Vec<(char, TextStyle)>)> {
    match block {
        PageBlock::Heading { text, .. } => vec![(0, text.iter().map(|(c, _)| (*c, TextStyle::Strong)).collect())],
        PageBlock::Paragraph(text) => indented(INDENT, wrap(&text, width)),
        PageBlock::Table(rows) => indented(INDENT, table(&rows, width)),
        PageBlock::Code(code) => indented(
            INDENT * 2,
            code.iter().map(|line| line.chars().map(|c| (c, TextStyle::Plain)).collect()).collect(),
        ),
        PageBlock::Item { indent: before, marker, text } => {
            let indent = before + marker.len() + 1;
            let mut lines = indented(INDENT + indent, wrap(&text, width.saturating_sub(indent)));
            let marked = marker.chars().chain([' ']).map(|c| (c, TextStyle::Plain));
            lines[0] = (INDENT + before, marked.chain(lines[0].1.iter().copied()).collect());
            lines
        }
    }
}

fn indented(indent: usize, lines: Vec<Vec<(char, TextStyle)>>) -> Vec<(usize, Vec<(char, TextStyle)>)> {
    lines.into_iter().map(|line| (indent, line)).collect()
}

/// Writes a line with the escape sequences of its styles (SGR, ECMA-48).
fn write_line(line: &[(char, TextStyle)], color: bool, out: &mut String) {
    for part in line.chunk_by(|(_, a), (_, b)| a == b) {
        let start = match part[0].1 {
            TextStyle::Strong | TextStyle::Code if color => "\x1b[1m",
            TextStyle::Emphasis if color => "\x1b[4m",
            _ => "",
        };
        *out += start;
        out.extend(part.iter().map(|(c, _)| c));
        *out += if start.is_empty() { "" } else { "\x1b[0m" };
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Title\n\nSome `code` and text.\n\n- one\n- two words\n\n| a |\n|---|\n| b |\n\n```\nx\n```\n";

    #[test]
    fn renders_plain_text() {
        let expected = "Title\n\n  Some code and\n  text.\n\n  - one\n  - two words\n\n  a\n  b\n\n    x\n";
        assert_eq!(render(PAGE, 20, false), expected);
    }

    #[test]
    fn colors_only_on_request() {
        assert!(render(PAGE, 80, true).contains("Some \x1b[1mcode\x1b[0m and"));
        assert!(!render(PAGE, 80, false).contains('\x1b'));
    }
}
