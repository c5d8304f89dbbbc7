//! Lines of a given width: wrapped text, and tables whose cells wrap.

use super::markdown::{Styled, TextStyle};

/// Spaces between the columns of a table.
const GAP: usize = 2;
/// Minimum width to which a column of a wide table is reduced.
const MIN_COLUMN: usize = 8;

/// Wraps a text at spaces. A longer word is broken.
pub(super) fn wrap(text: &[(char, TextStyle)], width: usize) -> Vec<Styled> {
    let mut lines: Vec<Styled> = vec![Vec::new()];
    for word in text.split(|(c, _)| *c == ' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let line = lines.last_mut().expect("there is always a line");
            let space = usize::from(!line.is_empty());
            if line.len() + space + rest.len() > width && !line.is_empty() {
                lines.push(Vec::new());
                continue;
            }
            line.extend(std::iter::repeat_n(separator(line, rest), space));
            let (now, later) = rest.split_at(rest.len().min(width.max(1)));
            line.extend(now);
            rest = later;
        }
    }
    lines
}

/// The space before a word, in the style of the words on both sides if they have the same.
fn separator(line: &Styled, word: &[(char, TextStyle)]) -> (char, TextStyle) {
    let before = line.last().map(|(_, style)| *style);
    let style = word.first().map(|(_, style)| *style).filter(|style| before == Some(*style));
    (' ', style.unwrap_or(TextStyle::Plain))
}

/// The lines of a table. An empty header is left out.
pub(super) fn table(rows: &[Vec<Styled>], width: usize) -> Vec<Styled> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths = column_widths(rows, columns, width);
    let has_header = rows.first().is_some_and(|header| header.iter().any(|cell| !cell.is_empty()));
    let mut lines = Vec::new();
    for (at, row) in rows.iter().enumerate().skip(usize::from(!has_header)) {
        let is_header = at == 0;
        let cells: Vec<Vec<Styled>> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| {
                let strong = cell.iter().map(|(c, style)| (*c, if is_header { TextStyle::Strong } else { *style }));
                wrap(&strong.collect::<Styled>(), *width)
            })
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        lines.extend((0..height).map(|line| join(&cells, &widths, line)));
    }
    lines
}

/// One line of a row.
fn join(cells: &[Vec<Styled>], widths: &[usize], line: usize) -> Styled {
    let mut joined = Styled::new();
    let mut start = 0;
    for (cell, width) in cells.iter().zip(widths) {
        let text = cell.get(line).map(Vec::as_slice).unwrap_or_default();
        if !text.is_empty() {
            joined.resize(start, (' ', TextStyle::Plain));
            joined.extend(text);
        }
        start += width + GAP;
    }
    joined
}

/// The width of the longest cell of each column. If the table does not fit, the widest columns are
/// reduced.
fn column_widths(rows: &[Vec<Styled>], columns: usize, width: usize) -> Vec<usize> {
    let longest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Vec::len).max().unwrap_or_default();
    let mut widths: Vec<usize> = (0..columns).map(longest).collect();
    let available = width.saturating_sub(GAP * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > available {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > MIN_COLUMN) else { break };
        *widest -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Styled {
        text.chars().map(|c| (c, TextStyle::Plain)).collect()
    }

    fn shown(lines: &[Styled]) -> Vec<String> {
        lines.iter().map(|line| line.iter().map(|(c, _)| c).collect()).collect()
    }

    #[test]
    fn wraps_at_spaces_and_breaks_long_words() {
        assert_eq!(shown(&wrap(&plain("ab cd  efghijk l"), 5)), ["ab cd", "efghi", "jk l"]);
        assert_eq!(shown(&wrap(&[], 5)), [""]);
    }

    #[test]
    fn tables_fit_the_width() {
        let row = |cells: [&str; 2]| cells.map(plain).to_vec();
        let rows = [row(["name", "meaning"]), row(["a", "one two three four"]), row(["bcd", "five"])];
        assert_eq!(shown(&table(&rows, 80))[1], "a     one two three four");
        let narrow = shown(&table(&rows, 15));
        assert_eq!(narrow, ["name  meaning", "a     one two", "      three", "      four", "bcd   five"]);
        let rows = [row(["", ""]), row(["a", "b"])];
        assert_eq!(shown(&table(&rows, 80)), ["a  b"]);
    }
}
