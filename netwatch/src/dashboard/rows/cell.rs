//! A cell of a table: a value that is sorted as it is and shown as text.

use crate::escape::escape;
use crate::format::summary::units::{bytes, count, duration};

/// A column.
#[derive(Debug)]
pub struct Column {
    /// The head.
    pub title: &'static str,
    /// Width in columns of the terminal; 0 for what is left.
    pub width: u16,
    /// The terminal needs so many columns for this one to be shown.
    pub from: u16,
    /// Numbers are on the right.
    pub is_number: bool,
}

impl Column {
    pub(super) const fn text(title: &'static str, width: u16, from: u16) -> Self {
        Self { title, width, from, is_number: false }
    }

    pub(super) const fn number(title: &'static str, width: u16, from: u16) -> Self {
        Self { title, width, from, is_number: true }
    }
}

/// A value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    #[default]
    Empty,
    /// Text, possibly from outside.
    Text(String),
    /// A number. Zero is not shown.
    Count(u64),
    /// A number that names something.
    Id(u64),
    /// Bytes. Zero is not shown.
    Bytes(u64),
    /// Bytes per second. Zero is not shown.
    Rate(u64),
    /// Nanoseconds.
    Time(u64),
    /// Rates, the newest last.
    Trend(Vec<u64>),
}

/// The heights of a sparkline.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Cell {
    pub(super) fn time(ns: Option<u64>) -> Self {
        ns.map_or(Self::Empty, Self::Time)
    }

    /// The text to show, harmless for a terminal.
    pub fn text(&self) -> String {
        match self {
            Self::Empty | Self::Count(0) | Self::Bytes(0) | Self::Rate(0) => String::new(),
            Self::Text(text) => escape(text).to_string(),
            Self::Count(value) => count(*value),
            Self::Id(value) => value.to_string(),
            Self::Bytes(value) => bytes(*value),
            Self::Rate(value) => format!("{}/s", bytes(*value)),
            // Whole seconds from a second on, so that the text does not change all the time.
            Self::Time(ns) if *ns >= 1_000_000_000 => match ns / 1_000_000_000 {
                seconds @ ..60 => format!("{seconds} s"),
                seconds => duration(seconds * 1_000_000_000),
            },
            Self::Time(ns) => duration(*ns),
            Self::Trend(rates) => sparkline(rates),
        }
    }
}

/// A bar for each value, relative to the largest.
fn sparkline(values: &[u64]) -> String {
    let largest = values.iter().copied().max().unwrap_or_default().max(1);
    let bar = |value: &u64| BARS[(u128::from(*value) * 8).div_ceil(u128::from(largest)) as usize];
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_relative_to_its_largest_value_and_shows_every_traffic() {
        assert_eq!(sparkline(&[0, 1, 400, 800]), " ▁▄█");
        assert_eq!(sparkline(&[0, 0]), "  ");
        assert_eq!(sparkline(&[u64::MAX, 1]), "█▁");
    }

    #[test]
    fn cells_sort_by_value_and_show_no_zeros() {
        assert!(Cell::Bytes(900) < Cell::Bytes(1_000) && Cell::Empty < Cell::Time(0));
        assert_eq!(Cell::Bytes(0).text(), "");
        assert_eq!(Cell::Rate(1_000).text().replace('\u{a0}', " "), "1.00 kB/s");
        assert_eq!(Cell::Text("a\x1b[31m".into()).text(), escape("a\x1b[31m").to_string());
        assert_eq!(Cell::Time(2_900_000_000).text(), "2 s");
    }
}
