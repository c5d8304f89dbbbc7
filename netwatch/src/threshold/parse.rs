//! Reads a threshold. An error names the column.

use std::fmt;

use super::quantity::{NUMBERS, OPEN, Quantity, RETRANSMIT_RATIO, Statistic, TIMES, ThresholdUnit};
use super::{Threshold, ThresholdComparison};

/// Why a text is no threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdError {
    /// The column, 1 for the first character.
    pub column: usize,
    /// The cause.
    pub cause: String,
}

impl fmt::Display for ThresholdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.cause)
    }
}

impl std::error::Error for ThresholdError {}

type Result<T> = std::result::Result<T, ThresholdError>;

impl Threshold {
    /// Reads `QUANTITY COMPARISON VALUE [for TIME]`, or several of them separated by commas.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let mut reader = Reader { text, at: 0 };
        let mut thresholds = Vec::new();
        loop {
            thresholds.push(Self::read(&mut reader)?);
            if reader.rest().is_empty() {
                return Ok(thresholds);
            }
            if !reader.accept(",") {
                return Err(reader.error(format!("unexpected {:?}", reader.rest())));
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let start = reader.at;
        let quantity = quantity(reader)?;
        let comparison = comparison(reader)?;
        let limit = value(reader, quantity.unit())?;
        let hold_ns = hold(reader, quantity)?;
        let text = reader.text[start..reader.at].trim().to_owned();
        reader.skip_space();
        Ok(Self { text, quantity, comparison, limit, hold_ns })
    }
}

/// The text, and how far it was read.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The characters from here on that belong to a word.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn error(&self, cause: impl Into<String>) -> ThresholdError {
        self.error_at(self.at, cause)
    }

    fn error_at(&self, at: usize, cause: impl Into<String>) -> ThresholdError {
        ThresholdError { column: self.text[..at].chars().count() + 1, cause: cause.into() }
    }
}

fn word<'t>(reader: &mut Reader<'t>) -> (usize, &'t str) {
    reader.skip_space();
    (reader.at, reader.take(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'))
}

fn quantity(reader: &mut Reader<'_>) -> Result<Quantity> {
    let (at, name) = word(reader);
    reader.skip_space();
    if reader.accept("(") {
        let statistic =
            statistic(name).ok_or_else(|| reader.error_at(at, format!("unknown statistic {name:?}; {STATISTICS}")))?;
        let (at, name) = word(reader);
        let place = TIMES.iter().position(|(known, _)| *known == name);
        let place = place.ok_or_else(|| reader.error_at(at, format!("unknown times {name:?}; {}", times())))?;
        reader.skip_space();
        return match reader.accept(")") {
            true => Ok(Quantity::Statistic(statistic, place)),
            false => Err(reader.error("expected )")),
        };
    }
    if name == OPEN {
        return Ok(Quantity::Open);
    }
    if TIMES.iter().any(|(known, _)| *known == name) {
        return Err(reader.error_at(at, format!("{name} has many values: write p99({name}), for example")));
    }
    let place = NUMBERS.iter().position(|(known, ..)| *known == name);
    place.map(Quantity::Number).ok_or_else(|| reader.error_at(at, format!("unknown quantity {name:?}; {}", numbers())))
}

const STATISTICS: &str = "expected p50, p90, p99.9 and the like, min, mean or max";

fn times() -> String {
    format!("expected {}", TIMES.map(|(name, _)| name).join(", "))
}

fn numbers() -> String {
    let names = NUMBERS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    format!("expected {OPEN}, {names}, or p99(connect) and the like")
}

fn statistic(name: &str) -> Option<Statistic> {
    Some(match name {
        "min" => Statistic::Percentile(0),
        "max" => Statistic::Percentile(Statistic::MAX),
        "mean" => Statistic::Mean,
        _ => Statistic::percentile(name.strip_prefix('p')?.parse().ok()?)?,
    })
}

fn comparison(reader: &mut Reader<'_>) -> Result<ThresholdComparison> {
    reader.skip_space();
    let found = ThresholdComparison::ALL.into_iter().find(|(sign, _)| reader.accept(sign));
    found.map(|(_, comparison)| comparison).ok_or_else(|| reader.error("expected >, >=, <, <=, == or !="))
}

/// A number with a unit of the quantity.
fn value(reader: &mut Reader<'_>, unit: ThresholdUnit) -> Result<f64> {
    reader.skip_space();
    let at = reader.at;
    let digits = reader.take(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = digits.parse().map_err(|_| reader.error_at(at, format!("expected {}", example(unit))))?;
    let mut value = number * scale(reader, unit)?;
    // `1h30m`, as in --duration.
    while unit == ThresholdUnit::Time && reader.rest().starts_with(|c: char| c.is_ascii_digit()) {
        let at = reader.at;
        let digits = reader.take(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = digits.parse().map_err(|_| reader.error_at(at, format!("expected {}", example(unit))))?;
        value += number * scale(reader, unit)?;
    }
    // Counters have 64 bits.
    match value < u64::MAX as f64 {
        true => Ok(value),
        false => Err(reader.error_at(at, "the value is too large")),
    }
}

/// The unit of a number, also after a space, if the quantity has units.
fn scale(reader: &mut Reader<'_>, unit: ThresholdUnit) -> Result<f64> {
    let number_end = reader.at;
    if unit != ThresholdUnit::Count {
        reader.skip_space();
    }
    let unit_at = reader.at;
    let name = match reader.take(|c| c.is_alphabetic() || c == '%') {
        "for" => "",
        name => name,
    };
    if name.is_empty() {
        reader.at = number_end;
    }
    factor(unit, name).ok_or_else(|| match name {
        "" => reader.error_at(number_end, format!("expected a unit: {}", example(unit))),
        name => reader.error_at(unit_at, format!("unknown unit {name:?}: expected {}", example(unit))),
    })
}

fn example(unit: ThresholdUnit) -> &'static str {
    match unit {
        ThresholdUnit::Count => "a number without a unit, such as 500",
        ThresholdUnit::Bytes => "a size, such as 4096B, 10MB or 1GiB",
        ThresholdUnit::Time => "a time, such as 50ms or 2s",
        ThresholdUnit::Ratio => "a percentage, such as 1%",
    }
}

/// What a unit stands for. A time without one would be ambiguous.
fn factor(unit: ThresholdUnit, name: &str) -> Option<f64> {
    Some(match (unit, name) {
        (ThresholdUnit::Count, "") | (ThresholdUnit::Ratio, "") | (ThresholdUnit::Bytes, "" | "B") => 1.0,
        (ThresholdUnit::Ratio, "%") => 0.01,
        (ThresholdUnit::Bytes, "kB") => 1e3,
        (ThresholdUnit::Bytes, "MB") => 1e6,
        (ThresholdUnit::Bytes, "GB") => 1e9,
        (ThresholdUnit::Bytes, "KiB") => 1024.0,
        (ThresholdUnit::Bytes, "MiB") => 1024.0 * 1024.0,
        (ThresholdUnit::Bytes, "GiB") => 1024.0 * 1024.0 * 1024.0,
        (ThresholdUnit::Time, "ns") => 1.0,
        (ThresholdUnit::Time, "us" | "µs" | "μs") => 1e3,
        (ThresholdUnit::Time, "ms") => 1e6,
        (ThresholdUnit::Time, "s" | "sec" | "second" | "seconds") => 1e9,
        (ThresholdUnit::Time, "m" | "min" | "minute" | "minutes") => 60e9,
        (ThresholdUnit::Time, "h" | "hour" | "hours") => 3600e9,
        (ThresholdUnit::Time, "d" | "day" | "days") => 86_400e9,
        _ => return None,
    })
}

/// `for 5m`.
fn hold(reader: &mut Reader<'_>, quantity: Quantity) -> Result<Option<u64>> {
    reader.skip_space();
    let at = reader.at;
    if word(reader).1 != "for" {
        reader.at = at;
        return Ok(None);
    }
    reader.skip_space();
    if reader.rest().is_empty() {
        return Err(reader.error("expected a time after `for`, such as 30s or 5m"));
    }
    if !quantity.is_over_time() {
        let cause = format!("only {OPEN}, {RETRANSMIT_RATIO}, p99(connect) and the like can be compared for a time");
        return Err(reader.error_at(at, cause));
    }
    value(reader, ThresholdUnit::Time).map(|time| Some(time as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Threshold> {
        let mut thresholds = Threshold::parse_all(text)?;
        assert_eq!(thresholds.len(), 1, "{text}");
        Ok(thresholds.remove(0))
    }

    #[test]
    fn commas_separate_conditions() {
        let thresholds = Threshold::parse_all("failed > 0 , open > 500 for 5m,p99(connect) > 50ms").expect("three");
        let texts: Vec<&str> = thresholds.iter().map(Threshold::text).collect();
        assert_eq!(texts, ["failed > 0", "open > 500 for 5m", "p99(connect) > 50ms"]);
    }

    #[test]
    fn reads_the_examples_of_the_manual() {
        let parse = |text: &str| one(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let failed = parse("failed > 0");
        assert_eq!(
            (failed.quantity, failed.comparison, failed.limit),
            (Quantity::Number(0), ThresholdComparison::Above, 0.0)
        );
        let connect = parse(" p99.9( connect )>=50ms ");
        assert_eq!(connect.quantity, Quantity::Statistic(Statistic::Percentile(99_900_000), 0));
        assert_eq!(
            (connect.comparison, connect.limit, connect.text()),
            (ThresholdComparison::AtLeast, 50e6, "p99.9( connect )>=50ms")
        );
        let open = parse("open > 500 for 5m");
        assert_eq!((open.quantity, open.limit, open.hold_ns), (Quantity::Open, 500.0, Some(300_000_000_000)));
        assert_eq!(parse("retransmit_ratio > 1.5%").limit, 0.015);
        assert_eq!((parse("sent > 10MB").limit, parse("received != 1GiB").limit), (1e7, 1_073_741_824.0));
        assert_eq!(parse("duration<=1.5h").limit, 5.4e12);
        assert_eq!((parse("sent > 1 MB").limit, parse("retransmit_ratio > 1 %").limit), (1e6, 0.01));
        assert_eq!((parse("duration > 1h30m").limit, parse("duration > 2min5s").limit), (5.4e12, 125e9));
        assert_eq!(parse("p99(connect) > 50 ms for 1 m").hold_ns, Some(60_000_000_000));
        assert_eq!(parse("open > 500  for 1d").hold_ns, Some(86_400_000_000_000));
    }

    #[test]
    fn an_error_names_its_column() {
        for (text, column, cause) in [
            ("", 1, "unknown quantity \"\""),
            ("fialed > 0", 1, "unknown quantity \"fialed\"; expected open, failed"),
            ("connect > 5ms", 1, "connect has many values: write p99(connect)"),
            ("p999(connect) > 5ms", 1, "unknown statistic \"p999\""),
            ("p99(conect) > 5ms", 5, "unknown times \"conect\"; expected connect, rtt, dns"),
            ("p99(connect > 5ms", 13, "expected )"),
            ("failed 0", 8, "expected >, >="),
            ("failed > many", 10, "expected a number without a unit"),
            ("failed > 5ms", 11, "unknown unit \"ms\""),
            ("p99(connect) > 50", 18, "expected a unit: a time"),
            ("p99(connect) > 50µm", 18, "unknown unit \"µm\""),
            ("failed > 0 for 5m", 12, "only open, retransmit_ratio, p99(connect)"),
            ("open > 500 for long", 16, "expected a time"),
            ("open > 5 for", 13, "expected a time after `for`"),
            ("open > 5 for ", 14, "expected a time after `for`"),
            ("open > 5 form 3s", 10, "unexpected \"form 3s\""),
            ("failed > 0 & x", 12, "unexpected \"& x\""),
            ("failed > 0, opne > 3", 13, "unknown quantity \"opne\""),
            ("failed > 0,", 12, "unknown quantity \"\""),
            ("failed > 99999999999999999999", 10, "the value is too large"),
            ("open > 1 for 999999999h", 14, "the value is too large"),
        ] {
            let error = Threshold::parse_all(text).expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.cause.starts_with(cause), "{text}: {error}");
        }
    }
}
