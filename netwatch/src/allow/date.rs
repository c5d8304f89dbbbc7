//! Calendar days, for the last day of a rule. There is no clock here: the caller passes the current
//! day.

use std::fmt;

/// A day of the Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyDate {
    year: u16,
    month: u8,
    day: u8,
}

impl PolicyDate {
    /// A day; its parts are not checked against the calendar.
    pub fn new(year: u16, month: u8, day: u8) -> Self {
        Self { year, month, day }
    }

    /// The day of a time such as `2026-03-01T12:00:00Z` or of a date; `None` if the text does not
    /// begin with one.
    pub fn of_text(text: &str) -> Option<Self> {
        let date = text.get(..10)?;
        let mut parts = date.split('-');
        let day = Self::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (parts.next().is_none() && day.to_string() == date).then_some(day)
    }
}

impl fmt::Display for PolicyDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_from_times_and_ordered() {
        let day = |text| PolicyDate::of_text(text).expect("a date");
        assert_eq!(day("2026-03-01T12:00:00.000000001Z"), PolicyDate::new(2026, 3, 1));
        assert!(day("2026-12-31") < day("2027-01-01") && day("2026-09-30") < day("2026-10-01"));
        for invalid in ["", "2026", "2026-3-1-22", "26-03-01xxx", "+026-03-01"] {
            assert_eq!(PolicyDate::of_text(invalid), None, "{invalid}");
        }
    }
}
