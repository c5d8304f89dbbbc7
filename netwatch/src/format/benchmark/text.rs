//! An analysis as text: a table with a row per metric.

use super::words;
use crate::benchmark::{Analysis, MetricRow};

pub(super) fn text(analysis: &Analysis) -> String {
    let mut text = String::new();
    for (place, side) in analysis.sides.iter().enumerate() {
        text += &format!("{}\n", words::side(place, side));
    }
    // The answer comes first.
    words::conclusion(analysis).into_iter().for_each(|sentence| text += &format!("\n{sentence}\n"));
    text += "\n";
    let is_comparison = analysis.sides.len() > 1;
    // A metric that is 0 everywhere has nothing to read; the other formats have it.
    let rows = analysis.rows.iter().filter(|row| !row.is_zero());
    text += &match is_comparison {
        true => aligned(["metric", "A", "B", "B compared with A"], rows.map(compared)),
        false => aligned(["metric", "median", "quartiles", "range", "outliers", "noise"], rows.map(measured)),
    };
    let outliers = if is_comparison { outliers(analysis) } else { Vec::new() };
    let sentences = words::method(analysis).into_iter().chain(outliers);
    sentences.for_each(|sentence| text += &format!("\n{sentence}\n"));
    analysis.notes.iter().for_each(|note| text += &format!("\nnote: {}\n", crate::format::escape(note)));
    text
}

fn measured(row: &MetricRow) -> [String; 6] {
    let (sample, unit) = (&row.samples[0], row.metric.unit);
    [
        words::label(row),
        words::number(sample.distribution.median, unit),
        words::quartiles(sample, unit),
        words::extremes(sample, unit),
        words::outliers(sample),
        words::noise(sample),
    ]
}

fn compared(row: &MetricRow) -> [String; 4] {
    let unit = row.metric.unit;
    let [a, b] = [0, 1].map(|side| {
        let sample = &row.samples[side];
        let (median, quartiles) = (words::number(sample.distribution.median, unit), words::quartiles(sample, unit));
        if median == quartiles { median } else { format!("{median} ({quartiles})") }
    });
    [words::label(row), a, b, words::verdict(row)]
}

/// The outliers of a comparison, whose table has no room for them.
fn outliers(analysis: &Analysis) -> Vec<String> {
    let of_row = |row: &MetricRow| {
        let of_side = |(side, sample): (usize, &crate::benchmark::MetricSample)| {
            let name = words::name(side);
            (!sample.outliers.is_empty()).then(|| format!("{name} {}", words::outliers(sample)))
        };
        let sides: Vec<String> = row.samples.iter().enumerate().filter_map(of_side).collect();
        (!sides.is_empty()).then(|| format!("{}: {}", words::label(row), sides.join(", ")))
    };
    let rows: Vec<String> = analysis.rows.iter().filter_map(of_row).collect();
    if rows.is_empty() { rows } else { vec![format!("Outliers: {}", rows.join("; "))] }
}

/// Columns of equal width, two spaces apart; the last one is as wide as its text.
fn aligned<const COLUMNS: usize>(head: [&str; COLUMNS], rows: impl Iterator<Item = [String; COLUMNS]>) -> String {
    let table: Vec<[String; COLUMNS]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        format!("{}\n", cells.join("  ").trim_end())
    };
    table.iter().map(line).collect()
}
