//! Reads `netwatch.toml`. An unknown key is an error: a rule with a mistyped key would allow more
//! than its author wants.

use std::ops::Range;

use toml_edit::{Document, Item, Key, Table};

use super::parse_rule;
use super::rule::AllowList;

/// Why a policy cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The reason, without a full stop.
    pub cause: String,
}

/// A reason and the bytes of the text that it concerns.
pub(super) type Located = (String, Option<Range<usize>>);

/// Reads the text of a policy.
pub fn parse(text: &str) -> Result<AllowList, PolicyError> {
    let document = Document::parse(text).map_err(|error| at(text, (first_line(error.message()), error.span())))?;
    read(document.as_table(), text).map_err(|located| at(text, located))
}

fn read(top: &Table, text: &str) -> Result<AllowList, Located> {
    let mut list = AllowList::default();
    for (key, item) in entries(top) {
        match key.get() {
            "allow" => list.rules = rules(key, item, text)?,
            "lookups" => list.any_lookup = is_second(item, ["names", "any"])?,
            "uncertain" => list.allow_uncertain = is_second(item, ["fail", "allow"])?,
            _ => return Err(unknown(key, &["allow", "lookups", "uncertain"])),
        }
    }
    Ok(list)
}

fn rules(key: &Key, item: &Item, text: &str) -> Result<Vec<super::rule::AllowRule>, Located> {
    let Some(tables) = item.as_array_of_tables() else {
        return Err(("write each rule as a table [[allow]]".into(), key.span()));
    };
    // Computed once, because a policy may have many thousand rules.
    let ends: Vec<usize> = text.match_indices('\n').map(|(end, _)| end).collect();
    let line = |table: &Table| table.span().map_or(0, |span| ends.partition_point(|end| *end < span.start) + 1);
    tables.iter().map(|table| parse_rule::rule(table, line(table))).collect()
}

/// Keys and values of a table.
pub(super) fn entries(table: &Table) -> impl Iterator<Item = (&Key, &Item)> {
    table.iter().filter_map(|(key, _)| table.get_key_value(key))
}

pub(super) fn unknown(key: &Key, known: &[&str]) -> Located {
    (format!("unknown key {}, expected one of {}", key.get(), known.join(", ")), key.span())
}

/// Which of two words the value is.
fn is_second(item: &Item, words: [&str; 2]) -> Result<bool, Located> {
    match item.as_str() {
        Some(word) if word == words[0] => Ok(false),
        Some(word) if word == words[1] => Ok(true),
        _ => Err((format!("expected \"{}\" or \"{}\"", words[0], words[1]), item.span())),
    }
}

fn at(text: &str, (cause, span): Located) -> PolicyError {
    let (line, column) = position(text, span.map_or(0, |span| span.start));
    PolicyError { line, column, cause }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_lines_and_characters() {
        assert_eq!(position("a\nüb\nc", 0), (1, 1));
        assert_eq!(position("a\nüb\nc", 4), (2, 2), "a letter of two bytes is one column");
        assert_eq!(position("a\nüb\nc", 6), (3, 1));
        assert_eq!(position("a", 9), (1, 2), "beyond the end");
    }
}
