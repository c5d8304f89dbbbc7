//! Benchmarks: what runs of a command cost, and whether two commands differ. Plain data:
//! [`crate::format::benchmark`] writes it. docs/benchmark.md is the manual.

mod analysis;
mod measures;
mod metric;

pub use analysis::{Analysis, MetricRow, MetricSample, MetricVerdict, Outcome, Side, analyze};
pub use measures::RunMeasures;
pub use metric::{METRICS, Metric, Unit};
