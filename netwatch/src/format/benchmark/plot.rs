//! A box plot of a metric as SVG: a box from quartile to quartile with the median, whiskers to the
//! extremes that are no outliers, and a circle for each outlier.

use std::fmt::Write;

use super::words;
use crate::benchmark::{MetricRow, MetricSample};
use crate::format::html::markup;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 26.0;
const MARGIN: f64 = 8.0;

/// The plot of all sides on one scale.
pub(super) fn svg(row: &MetricRow) -> String {
    let of = |pick: fn(&MetricSample) -> f64| row.samples.iter().map(pick);
    let low = of(|sample| sample.distribution.min).fold(f64::INFINITY, f64::min);
    let high = of(|sample| sample.distribution.max).fold(f64::NEG_INFINITY, f64::max);
    let scale = move |value: f64| match high > low {
        true => MARGIN + (value - low) / (high - low) * (WIDTH - 2.0 * MARGIN),
        false => WIDTH / 2.0,
    };
    let boxes: String = row.samples.iter().enumerate().map(|(side, sample)| one(side, sample, row, &scale)).collect();
    let height = HEIGHT * row.samples.len() as f64;
    let label = markup::text(&words::label(row)).into_owned();
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Box plot: {label}\">{boxes}</svg>"
    )
}

fn one(side: usize, sample: &MetricSample, row: &MetricRow, scale: &dyn Fn(f64) -> f64) -> String {
    let found = &sample.distribution;
    let inner = sample.values.iter().copied().filter(|value| !found.is_outlier(*value));
    let low = inner.clone().fold(found.lower_quartile, f64::min);
    let high = inner.fold(found.upper_quartile, f64::max);
    let [low, left, median, right, high] =
        [low, found.lower_quartile, found.median, found.upper_quartile, high].map(scale);
    let top = HEIGHT * side as f64;
    let (middle, box_top, box_height) = (top + HEIGHT / 2.0, top + 5.0, HEIGHT - 10.0);
    let (name, unit) = (words::name(side), row.metric.unit);
    let title = format!(
        "{name}: median {}, quartiles {}, range {}",
        words::number(found.median, unit),
        words::quartiles(sample, unit),
        words::extremes(sample, unit)
    );
    let width = (right - left).max(1.0);
    let mut svg = format!(
        "<g class=\"side{side}\"><title>{title}</title>\
         <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
         <rect x=\"{left:.1}\" y=\"{box_top}\" width=\"{width:.1}\" height=\"{box_height}\"/>\
         <line class=\"median\" x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{box_top}\" y2=\"{}\"/>",
        box_top + box_height
    );
    for place in &sample.outliers {
        let x = scale(sample.values[*place]);
        // Writing to a String does not fail.
        let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{middle}\" r=\"3\"/>");
    }
    svg + "</g>"
}
