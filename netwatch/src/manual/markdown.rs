//! Reads the Markdown that docs/ uses: headings, paragraphs, lists, tables and code. Not a general
//! parser.

/// A part of a page, from one empty line to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageBlock {
    /// A heading; the title of a page has level 1.
    Heading { level: usize, text: Styled },
    /// Text that is filled into lines.
    Paragraph(Styled),
    /// An element of a list, indented by this number of columns.
    Item { indent: usize, marker: String, text: Styled },
    /// A table. The first row is the header; every row has one cell for each column.
    Table(Vec<Vec<Styled>>),
    /// Lines that stay as they are.
    Code(Vec<String>),
}

/// A text in which every character has a style.
pub(super) type Styled = Vec<(char, TextStyle)>;

/// How a character is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextStyle {
    Plain,
    Strong,
    Emphasis,
    Code,
}

/// The blocks of a page.
pub(super) fn parse(page: &str) -> Vec<PageBlock> {
    let mut lines = page.lines().peekable();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        if line.starts_with("```") {
            blocks.push(PageBlock::Code(lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect()));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            // The line below the header consists of dashes.
            rows.remove(1);
            blocks.push(PageBlock::Table(rows));
        } else if let Some((level, text)) = heading(line) {
            blocks.push(PageBlock::Heading { level, text: inline(text) });
        } else {
            let (marker, first) = item(line).unwrap_or(("", line));
            let mut text = first.to_owned();
            while let Some(next) = lines.next_if(|line| continues(line)) {
                text = text + " " + next.trim();
            }
            let text = inline(&text);
            let marker = marker.to_owned();
            let indent = line.len() - line.trim_start().len();
            blocks.push(if marker.is_empty() {
                PageBlock::Paragraph(text)
            } else {
                PageBlock::Item { indent, marker, text }
            });
        }
    }
    blocks
}

/// The level and the text of a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let (hashes, text) = line.split_once(' ')?;
    let is_heading = !hashes.is_empty() && hashes.bytes().all(|byte| byte == b'#');
    is_heading.then_some((hashes.len(), text))
}

/// Whether a line belongs to the paragraph or element above it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && item(line).is_none() && !["|", "```", "#"].iter().any(|start| line.starts_with(start))
}

/// The marker and the text of an element of a list.
fn item(line: &str) -> Option<(&str, &str)> {
    let (marker, text) = line.trim_start().split_once(' ')?;
    let number = marker.strip_suffix('.').unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (marker == "-" || is_number).then_some((marker, text.trim_start()))
}

/// The cells of a row. `\|` is a literal bar in a cell.
fn cells(row: &str) -> Vec<Styled> {
    let row = row.trim().trim_start_matches('|').replace("\\|", "\0");
    let row = row.strip_suffix('|').unwrap_or(&row);
    row.split('|').map(|cell| inline(&cell.trim().replace('\0', "|"))).collect()
}

/// The text with styles. A link is replaced by its text.
fn inline(text: &str) -> Styled {
    let mut styled = Vec::new();
    append(text, TextStyle::Plain, &mut styled);
    styled
}

fn append(mut text: &str, style: TextStyle, styled: &mut Styled) {
    while let Some(first) = text.chars().next() {
        text = match first {
            '`' => delimited(text, "`", "`").map(|(inner, rest)| {
                styled.extend(inner.chars().map(|c| (c, TextStyle::Code)));
                rest
            }),
            '*' if text.starts_with("**") => delimited(text, "**", "**").map(|(inner, rest)| {
                append(inner, TextStyle::Strong, styled);
                rest
            }),
            '*' => delimited(text, "*", "*").map(|(inner, rest)| {
                append(inner, TextStyle::Emphasis, styled);
                rest
            }),
            '[' => delimited(text, "[", "](").and_then(|(inner, rest)| {
                let (_, rest) = rest.split_once(')')?;
                append(inner, style, styled);
                Some(rest)
            }),
            _ => None,
        }
        .unwrap_or_else(|| {
            styled.push((first, style));
            &text[first.len_utf8()..]
        });
    }
}

/// The text between the delimiters, and the rest. An opening delimiter before a space is literal
/// text.
fn delimited<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (inner, rest) = text.strip_prefix(open)?.split_once(close)?;
    (!inner.is_empty() && !inner.starts_with(' ')).then_some((inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(styled: &Styled) -> String {
        styled.iter().map(|(c, _)| c).collect()
    }

    #[test]
    fn reads_blocks() {
        let page = "# Title\n\nA paragraph\nof two lines.\n- one\n  more\n  2. two\n\n```sh\n# x\n\ny\n```\n\n\
            | a | b |\n|---|---|\n| `x\\|y` | |\n";
        let blocks = parse(page);
        let [
            PageBlock::Heading { level: 1, .. },
            PageBlock::Paragraph(paragraph),
            one,
            two,
            code,
            PageBlock::Table(rows),
        ] = &blocks[..]
        else {
            panic!("{blocks:?}")
        };
        assert_eq!(text(paragraph), "A paragraph of two lines.");
        assert!(
            matches!(one, PageBlock::Item { marker, text: styled, .. } if marker == "-" && text(styled) == "one more")
        );
        assert!(matches!(two, PageBlock::Item { indent: 2, marker, .. } if marker == "2."));
        assert_eq!(*code, PageBlock::Code(vec!["# x".into(), String::new(), "y".into()]));
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(text).collect()).collect();
        assert_eq!(rows, [["a", "b"], ["x|y", ""]]);
    }

    #[test]
    fn reads_styles_and_leaves_targets_of_links_out() {
        let styled = inline("a **b `c`** *d* [`e` f](g.md#h) 2 * 3 [i]");
        assert_eq!(text(&styled), "a b c d e f 2 * 3 [i]");
        let styles: Vec<TextStyle> =
            styled.iter().filter(|(c, _)| "abcde".contains(*c)).map(|(_, style)| *style).collect();
        assert_eq!(
            styles,
            [TextStyle::Plain, TextStyle::Strong, TextStyle::Code, TextStyle::Emphasis, TextStyle::Code]
        );
    }
}
