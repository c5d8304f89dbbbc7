//! Output formats: each writes a report into a given writer. Not here: opening files, and
//! properties of the terminal.

use std::time::{Duration, UNIX_EPOCH};

pub mod benchmark;
pub mod check;
pub mod csv;
pub mod diff;
pub mod events;
pub mod exposition;
pub mod history;
pub mod html;
pub mod ipfix;
pub mod json;
pub mod markdown;
pub mod soak;
pub mod status;
pub mod summary;
pub mod threshold;
mod words;

pub use crate::escape::escape;

/// `2026-03-01T12:00:00.000000001Z` for nanoseconds since the Unix epoch: RFC 3339 in UTC, always
/// with nine digits, so that texts sort like times.
pub fn rfc3339(unix_ns: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(unix_ns)).to_string()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_have_nine_digits_and_follow_the_calendar() {
        let known = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399_999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"),
            (1_767_225_600_000_000_001, "2026-01-01T00:00:00.000000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ];
        for (unix_ns, text) in known {
            assert_eq!(rfc3339(unix_ns), text);
        }
    }
}
