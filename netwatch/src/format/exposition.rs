//! Metrics as text that Prometheus scrapes: the OpenMetrics format 1.0 and the older text format
//! 0.0.4. Not here: which metrics there are.

use std::fmt::{self, Display, Write};

/// A text format of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// Text format 0.0.4, which every version of Prometheus and `promtool check metrics` read.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The media type, as in the `Content-Type` of a response.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A sum that only grows; its samples end in `_total`.
    Counter,
    /// A value that grows and shrinks.
    Gauge,
    /// Numbers of values by size.
    Histogram,
    /// Count and sum of values.
    Summary,
    /// Labels about the source; its sample ends in `_info` and is 1.
    Info,
}

/// A metric: what its samples have in common.
#[derive(Debug, Clone, Copy)]
pub struct MetricFamily {
    /// Without `_total`, `_info` and the like; ends in the unit, if it has one.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// The base unit (`bytes`, `seconds`), or empty.
    pub unit: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// Labels of a sample.
pub type LabelPairs<'a> = [(&'a str, &'a str)];

/// Writes metrics. Samples of a metric follow its header.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    format: ExpositionFormat,
    metric: Option<MetricFamily>,
}

impl Exposition {
    /// An empty text.
    pub fn new(format: ExpositionFormat) -> Self {
        Self { text: String::with_capacity(16 * 1024), format, metric: None }
    }

    /// Begins a metric.
    pub fn metric(&mut self, metric: MetricFamily) {
        let MetricFamily { name, kind, unit, help } = metric;
        let is_open = self.format == ExpositionFormat::OpenMetrics;
        let (suffix, kind) = match kind {
            MetricKind::Counter if is_open => ("", "counter"),
            MetricKind::Counter => ("_total", "counter"),
            MetricKind::Gauge => ("", "gauge"),
            MetricKind::Histogram => ("", "histogram"),
            MetricKind::Summary => ("", "summary"),
            MetricKind::Info if is_open => ("", "info"),
            MetricKind::Info => ("_info", "gauge"),
        };
        self.push(format_args!("# TYPE {name}{suffix} {kind}\n"));
        if is_open && !unit.is_empty() {
            self.push(format_args!("# UNIT {name} {unit}\n"));
        }
        self.push(format_args!("# HELP {name}{suffix} {help}\n"));
        self.metric = Some(metric);
    }

    /// Writes the sample of a counter, a gauge or an info.
    pub fn sample(&mut self, labels: &LabelPairs<'_>, value: impl Display) {
        let suffix = match self.metric.map(|metric| metric.kind) {
            Some(MetricKind::Counter) => "_total",
            Some(MetricKind::Info) => "_info",
            _ => "",
        };
        self.part(suffix, labels, None, value);
    }

    /// Writes a metric with one sample that has no labels.
    pub fn single(&mut self, metric: MetricFamily, value: impl Display) {
        self.metric(metric);
        self.sample(&[], value);
    }

    /// Writes the samples of a histogram: the upper bounds of its buckets, each with the number of
    /// values up to it, then the number and the sum of all values.
    pub fn histogram(&mut self, buckets: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) {
        for (bound, up_to) in buckets {
            self.part("_bucket", &[], Some(&number(bound)), up_to);
        }
        self.part("_bucket", &[], Some("+Inf"), count);
        self.summary(&[], count, sum);
    }

    /// Writes the samples of a summary without quantiles.
    pub fn summary(&mut self, labels: &LabelPairs<'_>, count: u64, sum: f64) {
        self.part("_count", labels, None, count);
        self.part("_sum", labels, None, number(sum));
    }

    /// The complete text.
    pub fn finish(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn part(&mut self, suffix: &str, labels: &LabelPairs<'_>, bound: Option<&str>, value: impl Display) {
        let Some(MetricFamily { name, .. }) = self.metric else { return };
        self.push(format_args!("{name}{suffix}"));
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (number, (label, value)) in all.enumerate() {
            let before = if number == 0 { "{" } else { "," };
            self.push(format_args!("{before}{label}=\"{}\"", EscapedLabel(value)));
        }
        let after = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

/// A number of a format that distinguishes floating point numbers from integers: with a point.
pub fn number(value: f64) -> String {
    format!("{value:?}")
}

/// A text without control characters, as the value of a label is written.
pub fn printable(text: &str) -> String {
    text.replace(crate::escape::needs_escape, REPLACEMENT)
}

/// Replaces a control character.
const REPLACEMENT: &str = "\u{fffd}";

/// The value of a label. Control characters, which tools print as they are, are replaced.
struct EscapedLabel<'a>(&'a str);

impl Display for EscapedLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            c if crate::escape::needs_escape(c) => f.write_str(REPLACEMENT),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: MetricFamily =
        MetricFamily { name: "sent_bytes", kind: MetricKind::Counter, unit: "bytes", help: "Bytes." };
    const TIME: MetricFamily =
        MetricFamily { name: "t_seconds", kind: MetricKind::Histogram, unit: "seconds", help: "Time." };
    const BUILD: MetricFamily = MetricFamily { name: "build", kind: MetricKind::Info, unit: "", help: "Version." };

    fn text(format: ExpositionFormat) -> String {
        let mut out = Exposition::new(format);
        out.metric(BYTES);
        out.sample(&[("to", "a\"b\\c\nd")], 7);
        out.metric(TIME);
        out.histogram([(0.001, 2), (1.0, 3)].into_iter(), 4, 2.5);
        out.metric(BUILD);
        out.sample(&[("version", "1")], 1);
        out.finish()
    }

    #[test]
    fn both_formats_have_the_same_samples_and_their_own_headers() {
        let samples = "sent_bytes_total{to=\"a\\\"b\\\\c\u{fffd}d\"} 7\n";
        let times = "t_seconds_bucket{le=\"0.001\"} 2\nt_seconds_bucket{le=\"1.0\"} 3\nt_seconds_bucket{le=\"+Inf\"} 4\n\
             t_seconds_count 4\nt_seconds_sum 2.5\n";
        let info = "build_info{version=\"1\"} 1\n";
        assert_eq!(
            text(ExpositionFormat::Text),
            format!(
                "# TYPE sent_bytes_total counter\n# HELP sent_bytes_total Bytes.\n{samples}\
                 # TYPE t_seconds histogram\n# HELP t_seconds Time.\n{times}\
                 # TYPE build_info gauge\n# HELP build_info Version.\n{info}"
            )
        );
        assert_eq!(
            text(ExpositionFormat::OpenMetrics),
            format!(
                "# TYPE sent_bytes counter\n# UNIT sent_bytes bytes\n# HELP sent_bytes Bytes.\n{samples}\
                 # TYPE t_seconds histogram\n# UNIT t_seconds seconds\n# HELP t_seconds Time.\n{times}\
                 # TYPE build info\n# HELP build Version.\n{info}# EOF\n"
            )
        );
    }
}
