//! How packets are printed: what tcpdump's letters select.

/// The style of packet lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineStyle {
    /// The time of a line (`-t`).
    pub time: TimeStyle,
    /// Print the fields of the IP header, and longer texts (`-v`).
    pub is_verbose: bool,
    /// Print addresses and type of the Ethernet header (`-e`).
    pub shows_link: bool,
    /// Print protocol and length only (`-q`).
    pub is_quiet: bool,
    /// Leave out the name of the remote (`-n`).
    pub is_numeric: bool,
    /// Print the bytes after the line (`-x`, `-X`, `-A`).
    pub dump: Option<DumpStyle>,
}

/// How a line begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeStyle {
    /// Time of day in UTC.
    #[default]
    TimeOfDay,
    /// Without a time.
    None,
    /// Seconds since the Unix epoch.
    Unix,
    /// Time since the previous line.
    SincePrevious,
    /// Date and time of day in UTC.
    Date,
    /// Time since the first line.
    SinceFirst,
}

/// How bytes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpStyle {
    /// As hexadecimal digits, as text, or both.
    pub columns: DumpColumns,
    /// From the Ethernet header on, not only from the network header on.
    pub includes_link: bool,
}

/// The columns of printed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpColumns {
    /// Hexadecimal digits.
    Hex,
    /// Hexadecimal digits, and the printable characters beside them.
    HexAndText,
    /// Printable characters and line feeds.
    Text,
}

/// The time at the beginning of lines. Remembers the first and the previous time.
#[derive(Debug, Default)]
pub(super) struct LineClock {
    first_ns: Option<u64>,
    previous_ns: Option<u64>,
}

impl LineClock {
    /// The time of a line, with a space after it.
    pub(super) fn prefix(&mut self, style: TimeStyle, unix_ns: u64) -> String {
        let first_ns = *self.first_ns.get_or_insert(unix_ns);
        let previous_ns = self.previous_ns.replace(unix_ns).unwrap_or(unix_ns);
        match style {
            TimeStyle::TimeOfDay => time_of_day(unix_ns) + " ",
            TimeStyle::None => String::new(),
            TimeStyle::Unix => format!("{}.{:06} ", unix_ns / SECOND_NS, micros(unix_ns)),
            TimeStyle::SincePrevious => since(previous_ns, unix_ns),
            TimeStyle::Date => format!("{} {} ", date(unix_ns), time_of_day(unix_ns)),
            TimeStyle::SinceFirst => since(first_ns, unix_ns),
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

fn micros(unix_ns: u64) -> u64 {
    unix_ns / 1000 % 1_000_000
}

/// Time of day in UTC, with microseconds.
fn time_of_day(unix_ns: u64) -> String {
    let seconds = unix_ns / SECOND_NS % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, micros(unix_ns))
}

/// The date in UTC.
fn date(unix_ns: u64) -> String {
    let text = humantime::format_rfc3339(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(unix_ns)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Packets of a file may be out of order.
fn since(earlier_ns: u64, later_ns: u64) -> String {
    let sign = if later_ns < earlier_ns { "-" } else { " " };
    format!("{sign}{} ", time_of_day(later_ns.abs_diff(earlier_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_has_its_time() {
        let mut clock = LineClock::default();
        let later = 1_700_000_000_123_456_789;
        let styles = [
            (TimeStyle::TimeOfDay, "22:13:20.123456 "),
            (TimeStyle::None, ""),
            (TimeStyle::Unix, "1700000000.123456 "),
            (TimeStyle::Date, "2023-11-14 22:13:20.123456 "),
        ];
        for (style, text) in styles {
            assert_eq!(clock.prefix(style, later), text);
        }
        assert_eq!(clock.prefix(TimeStyle::SincePrevious, later + 1_500_000_000), " 00:00:01.500000 ");
        assert_eq!(clock.prefix(TimeStyle::SincePrevious, later), "-00:00:01.500000 ");
        assert_eq!(clock.prefix(TimeStyle::SinceFirst, later + 61_000_000_000), " 00:01:01.000000 ");
    }
}
