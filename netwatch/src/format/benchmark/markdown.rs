//! An analysis as Markdown: a table with a row per metric.

use super::words;
use crate::benchmark::{Analysis, MetricRow};
use crate::format::markdown::cell;

pub(super) fn text(analysis: &Analysis) -> String {
    let is_comparison = analysis.sides.len() > 1;
    let mut text = format!("# {}\n\n", if is_comparison { "Comparison" } else { "Benchmark" });
    for (place, side) in analysis.sides.iter().enumerate() {
        text += &format!("- {}\n", cell(&words::side(place, side)).replace(r"\|", "|"));
    }
    words::conclusion(analysis).into_iter().for_each(|sentence| text += &format!("\n{}\n", cell(&sentence)));
    text += match is_comparison {
        true => "\n| Metric | A | B | B compared with A |\n|---|---|---|---|\n",
        false => "\n| Metric | Median | Quartiles | Range | Outliers | Noise |\n|---|---|---|---|---|---|\n",
    };
    for row in analysis.rows.iter().filter(|row| !row.is_zero()) {
        text += &format!("| {} |\n", if is_comparison { compared(row) } else { measured(row) }.join(" | "));
    }
    for sentence in words::method(analysis) {
        text += &format!("\n{sentence}\n");
    }
    analysis.notes.iter().for_each(|note| text += &format!("\n- {}\n", cell(&crate::format::escape(note))));
    text
}

/// The name of an endpoint is from the network.
fn label(row: &MetricRow) -> String {
    match &row.endpoint {
        None => row.metric.label.to_owned(),
        Some(endpoint) => format!("{}, {}", row.metric.label, cell(&crate::format::escape(endpoint))),
    }
}

fn measured(row: &MetricRow) -> Vec<String> {
    let (sample, unit) = (&row.samples[0], row.metric.unit);
    vec![
        label(row),
        words::number(sample.distribution.median, unit),
        words::quartiles(sample, unit),
        words::extremes(sample, unit),
        words::outliers(sample),
        words::noise(sample),
    ]
}

fn compared(row: &MetricRow) -> Vec<String> {
    let unit = row.metric.unit;
    let side = |sample: &crate::benchmark::MetricSample| {
        format!("{} ({})", words::number(sample.distribution.median, unit), words::quartiles(sample, unit))
    };
    let mut cells = vec![label(row)];
    cells.extend(row.samples.iter().map(side));
    cells.push(words::verdict(row));
    cells
}
