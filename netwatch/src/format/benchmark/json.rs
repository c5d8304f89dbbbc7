//! An analysis as JSON. docs/benchmark.md describes every key.

use serde::Serialize;
use serde_json::Number;

use super::words;
use crate::benchmark::{Analysis, MetricRow, MetricSample, Outcome, RunMeasures, Side};
use crate::format::json::escaped;
use crate::format::rfc3339;
use crate::report::ExitStatus;
use crate::statistics::{CONFIDENCE, MedianDifference, SIGNIFICANCE};

/// Version of the keys. It rises when a key is renamed, removed or changes its meaning.
pub const SCHEMA: u32 = 1;

pub(super) fn text(analysis: &Analysis) -> String {
    escaped::to_text(&JsonAnalysis {
        schema: SCHEMA,
        confidence: CONFIDENCE,
        significance: SIGNIFICANCE,
        sides: analysis.sides.iter().enumerate().map(side).collect(),
        metrics: analysis.rows.iter().map(row).collect(),
        notes: &analysis.notes,
    })
}

#[derive(Serialize)]
struct JsonAnalysis<'a> {
    schema: u32,
    confidence: f64,
    significance: f64,
    sides: Vec<JsonSide<'a>>,
    metrics: Vec<JsonMetric<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct JsonSide<'a> {
    name: &'static str,
    label: &'a str,
    runs: Vec<JsonMeasuredRun<'a>>,
}

#[derive(Serialize)]
struct JsonMeasuredRun<'a> {
    run_id: &'a str,
    command: &'a [String],
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
}

#[derive(Serialize)]
struct JsonMetric<'a> {
    metric: &'static str,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    sides: Vec<JsonSample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<JsonMedianDifference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonSample {
    median: Number,
    lower_quartile: Number,
    upper_quartile: Number,
    min: Number,
    max: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<f64>,
    /// Numbers of runs, 1 for the first.
    outliers: Vec<usize>,
    values: Vec<Number>,
}

#[derive(Serialize)]
struct JsonMedianDifference {
    absolute: Number,
    low: Number,
    high: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_high: Option<f64>,
    p_value: f64,
}

fn side((place, side): (usize, &Side)) -> JsonSide<'_> {
    JsonSide { name: words::name(place), label: &side.label, runs: side.runs.iter().map(run).collect() }
}

fn run(run: &RunMeasures) -> JsonMeasuredRun<'_> {
    let (exit_code, exit_signal) = match run.exit {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let (command, started) = (run.command.as_slice(), rfc3339(run.started_ns));
    JsonMeasuredRun { run_id: &run.id, command, started, exit_code, exit_signal }
}

fn row(row: &MetricRow) -> JsonMetric<'_> {
    let difference = row.outcome.and_then(|outcome: Outcome| outcome.difference);
    JsonMetric {
        metric: row.metric.key,
        unit: row.metric.unit.name(),
        endpoint: row.endpoint.as_deref(),
        sides: row.samples.iter().map(sample).collect(),
        difference: difference.as_ref().map(JsonMedianDifference::from),
        verdict: row.outcome.map(|outcome| outcome.verdict.name()),
    }
}

fn sample(sample: &MetricSample) -> JsonSample {
    let found = &sample.distribution;
    JsonSample {
        median: number(found.median),
        lower_quartile: number(found.lower_quartile),
        upper_quartile: number(found.upper_quartile),
        min: number(found.min),
        max: number(found.max),
        noise: sample.noise,
        outliers: sample.outliers.iter().map(|place| place + 1).collect(),
        values: sample.values.iter().copied().map(number).collect(),
    }
}

impl From<&MedianDifference> for JsonMedianDifference {
    fn from(found: &MedianDifference) -> Self {
        let relative = found.relative;
        Self {
            absolute: number(found.absolute),
            low: number(found.bounds.low),
            high: number(found.bounds.high),
            relative: relative.map(|(relative, _)| relative),
            relative_low: relative.map(|(_, bounds)| bounds.low),
            relative_high: relative.map(|(_, bounds)| bounds.high),
            p_value: found.p_value,
        }
    }
}

/// Integers stay integers: `7`, `2.5`.
fn number(value: f64) -> Number {
    // Beyond this, a floating-point number is not exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.fract() == 0.0 && value.abs() < EXACT {
        true => Number::from(value as i64),
        false => Number::from_f64(value).unwrap_or_else(|| Number::from(0)),
    }
}
