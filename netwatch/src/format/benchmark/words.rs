//! The words of an analysis, which every format for people shares.

use crate::benchmark::{Analysis, Metric, MetricRow, MetricSample, MetricVerdict, Side, Unit};
use crate::format::escape;
use crate::format::summary::units::{bytes, count, duration};
use crate::statistics::MedianDifference;

/// The names of the sides.
const NAMES: [&str; 2] = ["A", "B"];

/// The name of a side.
pub(super) fn name(place: usize) -> &'static str {
    NAMES.get(place).copied().unwrap_or("?")
}

/// `A: curl -s x (10 runs)`.
pub(super) fn side(place: usize, side: &Side) -> String {
    let runs = match side.runs.len() {
        1 => "1 run".to_owned(),
        runs => format!("{} runs", count(runs as u64)),
    };
    format!("{}: {} ({runs})", name(place), escape(&side.label))
}

/// `1.24 s`, `12.3 kB`, `7`, `2.5`. Medians of an even number of counts may end in a half.
pub(super) fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => duration(value.round() as u64),
        Unit::Bytes => bytes(value.round() as u64),
        Unit::Count if value.fract() == 0.0 => count(value as u64),
        Unit::Count => format!("{value:.1}"),
    }
}

/// `12.3 kB to 14.1 kB`, or one number.
pub(super) fn range(low: f64, high: f64, unit: Unit) -> String {
    let [low, high] = [low, high].map(|value| number(value, unit));
    if low == high { low } else { format!("{low} to {high}") }
}

/// The quartiles.
pub(super) fn quartiles(sample: &MetricSample, unit: Unit) -> String {
    range(sample.distribution.lower_quartile, sample.distribution.upper_quartile, unit)
}

/// The extremes.
pub(super) fn extremes(sample: &MetricSample, unit: Unit) -> String {
    range(sample.distribution.min, sample.distribution.max, unit)
}

/// `2 (runs 3, 7)`, or `-`.
pub(super) fn outliers(sample: &MetricSample) -> String {
    let places: Vec<String> = sample.outliers.iter().map(|place| (place + 1).to_string()).collect();
    match places.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("1 (run {one})"),
        many => format!("{} (runs {})", many.len(), many.join(", ")),
    }
}

/// `0.42 %`, `12 %`, `340 %`: two significant digits.
pub(super) fn percent(ratio: f64) -> String {
    let percent = 100.0 * ratio.abs();
    match percent {
        0.0 => "0 %".to_owned(),
        0.0..0.005 => "< 0.01 %".to_owned(),
        0.005..0.995 => format!("{percent:.2} %"),
        0.995..9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// The null comparison of a sample: `0.42 %`, or `-`.
pub(super) fn noise(sample: &MetricSample) -> String {
    sample.noise.map_or_else(|| "-".to_owned(), percent)
}

/// The name of a metric in a table: `sent`, or `bytes, app.example tcp/443`.
pub(super) fn label(row: &MetricRow) -> String {
    match &row.endpoint {
        None => row.metric.label.to_owned(),
        Some(endpoint) => format!("{}, {}", row.metric.label, escape(endpoint)),
    }
}

/// `12 % ± 2 % fewer bytes`, `no difference found (3 % ± 5 %)`, `too few runs`.
pub(super) fn verdict(row: &MetricRow) -> String {
    let Some(outcome) = &row.outcome else { return String::new() };
    match (outcome.verdict, &outcome.difference) {
        (MetricVerdict::Differs, Some(found)) => {
            format!("{} {}", amount(found, row.metric), direction(found, row.metric))
        }
        (MetricVerdict::NoDifference, Some(found)) if found.absolute == 0.0 && found.bounds.half_width() == 0.0 => {
            "equal".to_owned()
        }
        (MetricVerdict::NoDifference, Some(found)) => format!("no difference found ({})", signed(found, row.metric)),
        _ => "too few runs".to_owned(),
    }
}

/// `12 % ± 2 %`; without a ratio, `3 ± 1`.
fn amount(found: &MedianDifference, metric: Metric) -> String {
    match &found.relative {
        Some((relative, bounds)) => format!("{} ± {}", percent(*relative), percent(bounds.half_width())),
        None => {
            let [amount, width] = [found.absolute.abs(), found.bounds.half_width()].map(|it| number(it, metric.unit));
            format!("{amount} ± {width}")
        }
    }
}

fn signed(found: &MedianDifference, metric: Metric) -> String {
    let sign = if found.absolute < 0.0 { "-" } else { "+" };
    format!("{sign}{}", amount(found, metric))
}

fn direction(found: &MedianDifference, metric: Metric) -> &'static str {
    match (metric.unit, found.absolute < 0.0) {
        (Unit::Nanoseconds, true) => "shorter",
        (Unit::Nanoseconds, false) => "longer",
        (Unit::Bytes, true) => "fewer bytes",
        (Unit::Bytes, false) => "more bytes",
        (Unit::Count, true) => "fewer",
        (Unit::Count, false) => "more",
    }
}

/// What the comparison found, in a sentence: `B differs from A in 2 of 17 metrics`.
pub(super) fn conclusion(analysis: &Analysis) -> Option<String> {
    let compared: Vec<MetricVerdict> = analysis.rows.iter().filter_map(|row| Some(row.outcome?.verdict)).collect();
    if compared.is_empty() {
        return None;
    }
    if compared.iter().all(|verdict| *verdict == MetricVerdict::TooFew) {
        return Some("Too few runs for a verdict: four on each side are the minimum.".to_owned());
    }
    let found = compared.iter().filter(|verdict| **verdict == MetricVerdict::Differs).count();
    let metrics = compared.len();
    Some(match found {
        0 => format!("No difference found between A and B in {metrics} metrics."),
        found => format!("B differs from A in {found} of {metrics} metrics."),
    })
}

/// How the numbers are to be read, a sentence each.
pub(super) fn method(analysis: &Analysis) -> Vec<String> {
    let mut method = Vec::new();
    if analysis.sides.len() > 1 {
        method.push(
            "± is half of the 95 % confidence interval of the difference of the medians (bootstrap); a verdict \
             needs an interval without 0 and a Mann-Whitney test that passes the correction for all metrics at 5 %."
                .to_owned(),
        );
    }
    if let Some(noise) = analysis.noise() {
        let noise = percent(noise);
        method
            .push(format!("Noise: the halves of a side, every other run, differ by up to {noise} (null comparison)."));
    }
    method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_two_digits() {
        let known = [
            (0.0, "0 %"),
            (0.000_01, "< 0.01 %"),
            (-0.0042, "0.42 %"),
            (0.0123, "1.2 %"),
            (-0.1234, "12 %"),
            (0.0999, "10 %"),
            (3.4, "340 %"),
        ];
        for (ratio, text) in known {
            assert_eq!(percent(ratio), text);
        }
    }

    #[test]
    fn numbers_have_their_unit() {
        assert_eq!(number(1_240_000_000.4, Unit::Nanoseconds), "1.24 s");
        assert_eq!(number(12_345.0, Unit::Bytes), "12.3 kB");
        assert_eq!((number(7.0, Unit::Count), number(2.5, Unit::Count)), ("7".to_owned(), "2.5".to_owned()));
        assert_eq!(range(7.0, 7.0, Unit::Count), "7");
    }
}
