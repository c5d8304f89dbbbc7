//! The words of an analysis, which every format for people shares.

use crate::benchmark::{Analysis, Metric, MetricRow, MetricSample, MetricVerdict, Side, Unit};
use crate::format::escape;
use crate::format::summary::units::{bytes, count, duration};
use crate::report::counted;
use crate::statistics::{Bounds, MedianDifference};

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
        (MetricVerdict::Differs, Some(found)) => differs(found, row.metric),
        (_, Some(_)) if row.is_constant() => "equal".to_owned(),
        (MetricVerdict::NoDifference, Some(found)) => format!("no difference found ({})", signed(found, row.metric)),
        _ => "too few runs".to_owned(),
    }
}

/// `12 % ± 2 % longer`; with the bounds where the interval is so skewed that half of its width
/// exceeds the difference: `92 % longer (8 % to 286 %)`.
fn differs(found: &MedianDifference, metric: Metric) -> String {
    let (amount, direction) = (amount(found, metric), direction(found, metric));
    let ends = |bounds: &Bounds| {
        let [one, other] = [bounds.low.abs(), bounds.high.abs()];
        [one.min(other), one.max(other)]
    };
    let bounds = match &found.relative {
        Some((relative, bounds)) if bounds.half_width() > relative.abs() => ends(bounds).map(percent),
        None if found.bounds.half_width() > found.absolute.abs() => {
            ends(&found.bounds).map(|end| number(end, metric.unit))
        }
        _ => return format!("{amount} {direction}"),
    };
    let estimate = amount.split(" ± ").next().unwrap_or_default();
    format!("{estimate} {direction} ({})", bounds.join(" to "))
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

/// What the comparison found, in a sentence: `B differs from A in 2 of 17 metrics: duration 12 % ±
/// 2 % shorter; sent 3.1 % ± 0.2 % fewer bytes`.
pub(super) fn conclusion(analysis: &Analysis) -> Option<String> {
    let compared: Vec<MetricVerdict> = analysis.rows.iter().filter_map(|row| Some(row.outcome?.verdict)).collect();
    if compared.is_empty() {
        return None;
    }
    let number = |wanted: MetricVerdict| compared.iter().filter(|verdict| **verdict == wanted).count();
    let (found, decided) = (number(MetricVerdict::Differs), compared.len() - number(MetricVerdict::TooFew));
    Some(match (found, decided) {
        (_, 0) => "Too few runs for a verdict.".to_owned(),
        (0, decided) => format!("No difference found between A and B in {}.", counted(decided as u64, "metric")),
        (found, decided) => {
            format!("B differs from A in {found} of {}: {}.", counted(decided as u64, "metric"), differences(analysis))
        }
    })
}

/// The first differences, those of whole runs before those of endpoints.
fn differences(analysis: &Analysis) -> String {
    /// Differences in the sentence; the table has all of them.
    const MAX_NAMED: usize = 3;
    let found: Vec<&MetricRow> = analysis.rows.iter().filter(|row| row.found().is_some()).collect();
    let named = found.iter().take(MAX_NAMED).map(|row| format!("{} {}", label(row), verdict(row)));
    let more = if found.len() > MAX_NAMED { "; …" } else { "" };
    named.collect::<Vec<_>>().join("; ") + more
}

/// How the numbers are to be read, a sentence each.
pub(super) fn method(analysis: &Analysis) -> Vec<String> {
    let mut method = Vec::new();
    if analysis.sides.len() > 1 {
        method.push(
            "± is half of the 95 % confidence interval of the difference of the medians (bootstrap); a verdict \
             needs an interval without 0 and a Mann-Whitney test that passes the correction for many metrics at 5 %. \
             Duration, CPU times, bytes and connections are corrected together, the other metrics together."
                .to_owned(),
        );
    }
    if let Some(noise) = analysis.noise() {
        let noise = percent(noise);
        let metrics = match analysis.rows.iter().any(|row| row.found().is_some()) {
            true => " in the metrics that differ",
            false => "",
        };
        method.push(format!("Noise: the halves of a side differ by up to {noise}{metrics} (null comparison)."));
    }
    method
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A skewed interval excludes 0 although half of its width exceeds the difference.
    #[test]
    fn a_skewed_interval_is_stated_by_its_bounds() {
        let metric = Metric { key: "duration_ns", label: "duration", unit: Unit::Nanoseconds };
        let found = |absolute: f64, [low, high]: [f64; 2], has_ratio: bool| MedianDifference {
            absolute: absolute * 1e9,
            bounds: Bounds { low: low * 1e9, high: high * 1e9 },
            relative: has_ratio.then_some((absolute, Bounds { low, high })),
            p_value: 0.001,
        };
        for (found, text) in [
            (found(0.92, [0.08, 2.86], true), "92 % longer (8.0 % to 286 %)"),
            (found(-0.2, [-0.9, -0.1], true), "20 % shorter (10 % to 90 %)"),
            (found(0.5, [0.25, 0.75], true), "50 % ± 25 % longer"),
            (found(1.0, [0.5, 4.5], false), "1.00 s longer (500 ms to 4.50 s)"),
            (found(1.0, [0.5, 1.5], false), "1.00 s ± 500 ms longer"),
        ] {
            assert_eq!(differs(&found, metric), text);
        }
    }

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
