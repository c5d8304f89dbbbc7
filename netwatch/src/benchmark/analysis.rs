//! The statistics of one or two sides, each of which is a number of runs.

use std::collections::BTreeSet;

use super::RunMeasures;
use super::metric::{ENDPOINT_METRICS, METRICS, Metric};
use crate::statistics::{Distribution, MedianDifference, SIGNIFICANCE, difference, false_discoveries};

/// Maximum number of endpoints that are analyzed: those with most bytes.
const MAX_ENDPOINTS: usize = 10;

/// Fewest runs whose halves can be compared with each other.
const MIN_RUNS_FOR_NOISE: usize = 4;

/// Runs of the same command.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What was run, or which runs were read.
    pub label: String,
    /// The runs, in the order of their start.
    pub runs: Vec<RunMeasures>,
}

/// The result of a benchmark or a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// One side, or two that are compared.
    pub sides: Vec<Side>,
    /// A row for each metric that every run has, those of the runs first.
    pub rows: Vec<MetricRow>,
    /// What is missing or limits the result, a sentence each.
    pub notes: Vec<String>,
}

/// A metric on each side.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The endpoint; `None` for a metric of the whole run.
    pub endpoint: Option<String>,
    /// The metric.
    pub metric: Metric,
    /// Its values on each side.
    pub samples: Vec<MetricSample>,
    /// The comparison of two sides.
    pub outcome: Option<Outcome>,
}

/// The values of a metric on one side.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSample {
    /// One value per run, in the order of the runs.
    pub values: Vec<f64>,
    /// Their distribution.
    pub distribution: Distribution,
    /// The places of the outliers, 0 for the first run.
    pub outliers: Vec<usize>,
    /// The null comparison: the difference between the medians of every other run and of the rest,
    /// divided by the median. Equal things differ by this much.
    pub noise: Option<f64>,
}

/// The comparison of two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The difference; `None` if a side has fewer than two runs.
    pub difference: Option<MedianDifference>,
    /// What it means.
    pub verdict: MetricVerdict,
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricVerdict {
    /// So few runs that even the clearest difference could be chance.
    TooFew,
    /// The difference can be chance.
    NoDifference,
    /// The difference is not chance, and its confidence interval excludes 0.
    Differs,
}

impl MetricVerdict {
    /// The name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooFew => "too_few_runs",
            Self::NoDifference => "no_difference",
            Self::Differs => "differs",
        }
    }
}

impl MetricRow {
    /// Whether every value is 0.
    pub fn is_zero(&self) -> bool {
        self.samples.iter().all(|sample| sample.distribution.min == 0.0 && sample.distribution.max == 0.0)
    }

    /// The difference, if it is not chance.
    pub fn found(&self) -> Option<&MedianDifference> {
        self.outcome.as_ref().filter(|outcome| outcome.verdict == MetricVerdict::Differs)?.difference.as_ref()
    }
}

impl Analysis {
    /// The largest noise of any row of a side that has a difference or could have one.
    pub fn noise(&self) -> Option<f64> {
        self.rows.iter().flat_map(|row| &row.samples).filter_map(|sample| sample.noise).reduce(f64::max)
    }
}

/// Analyzes one side, or compares two.
pub fn analyze(sides: Vec<Side>) -> Analysis {
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for (place, (metric, _)) in METRICS.iter().enumerate() {
        let values = |run: &RunMeasures| run.values[place];
        match row(None, *metric, &sides, values) {
            Some(row) => rows.push(row),
            None if sides.iter().flat_map(|side| &side.runs).any(|run| values(run).is_some()) => {
                missing.push(metric.label);
            }
            None => {}
        }
    }
    for endpoint in largest_endpoints(&sides) {
        for (place, metric) in ENDPOINT_METRICS.iter().enumerate() {
            // An endpoint that a run did not use has no bytes there.
            let none = [Some(0.0), Some(0.0), None];
            let values = |run: &RunMeasures| run.endpoints.get(&endpoint).unwrap_or(&none)[place];
            rows.extend(row(Some(&endpoint), *metric, &sides, values));
        }
    }
    decide(&mut rows, &sides);
    let notes = notes(&sides, &missing);
    Analysis { sides, rows, notes }
}

fn row(
    endpoint: Option<&str>,
    metric: Metric,
    sides: &[Side],
    value: impl Fn(&RunMeasures) -> Option<f64>,
) -> Option<MetricRow> {
    let of_side = |side: &Side| sample(side.runs.iter().map(&value).collect::<Option<Vec<f64>>>()?);
    let samples = sides.iter().map(of_side).collect::<Option<Vec<MetricSample>>>()?;
    let outcome = match samples.as_slice() {
        [a, b] => Some(Outcome { difference: difference(&a.values, &b.values), verdict: MetricVerdict::NoDifference }),
        _ => None,
    };
    Some(MetricRow { endpoint: endpoint.map(str::to_owned), metric, samples, outcome })
}

fn sample(values: Vec<f64>) -> Option<MetricSample> {
    let distribution = Distribution::of(&values)?;
    let outliers = (0..values.len()).filter(|place| distribution.is_outlier(values[*place])).collect();
    let noise = noise(&values, distribution.median);
    Some(MetricSample { values, distribution, outliers, noise })
}

/// Compares every other run with the rest: both halves have seen the same conditions.
fn noise(values: &[f64], median: f64) -> Option<f64> {
    if values.len() < MIN_RUNS_FOR_NOISE || median <= 0.0 {
        return None;
    }
    let half = |first: usize| {
        let half: Vec<f64> = values.iter().copied().skip(first).step_by(2).collect();
        Distribution::of(&half).map(|half| half.median)
    };
    Some((half(0)? - half(1)?).abs() / median)
}

/// All rows are decided together, so that many of them do not make a false alarm likely.
fn decide(rows: &mut [MetricRow], sides: &[Side]) {
    let counts: Vec<usize> = sides.iter().map(|side| side.runs.len()).collect();
    let can_differ = matches!(counts.as_slice(), [a, b] if least_p_value(*a, *b) <= SIGNIFICANCE);
    let p_values: Vec<f64> =
        rows.iter().filter_map(|row| Some(row.outcome.as_ref()?.difference.as_ref()?.p_value)).collect();
    let mut discoveries = false_discoveries(&p_values, SIGNIFICANCE).into_iter();
    for outcome in rows.iter_mut().filter_map(|row| row.outcome.as_mut()) {
        outcome.verdict = match &outcome.difference {
            None => MetricVerdict::TooFew,
            Some(found) => {
                let is_discovery = discoveries.next().unwrap_or(false);
                match (is_discovery && found.bounds.excludes_zero(), can_differ) {
                    (true, _) => MetricVerdict::Differs,
                    (false, true) => MetricVerdict::NoDifference,
                    (false, false) => MetricVerdict::TooFew,
                }
            }
        };
    }
}

/// The p-value of samples of which one is wholly below the other: 2 of all ways to divide them.
fn least_p_value(a: usize, b: usize) -> f64 {
    let ways = (1..=a.min(b)).fold(1.0, |ways, place| ways * (a + b + 1 - place) as f64 / place as f64);
    2.0 / ways
}

fn largest_endpoints(sides: &[Side]) -> Vec<String> {
    let runs = || sides.iter().flat_map(|side| &side.runs);
    let names: BTreeSet<&String> = runs().flat_map(|run| run.endpoints.keys()).collect();
    let bytes = |name: &String| runs().filter_map(|run| run.endpoints.get(name)?[0]).sum::<f64>();
    let mut sized: Vec<(f64, &String)> = names.into_iter().map(|name| (bytes(name), name)).collect();
    sized.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    sized.into_iter().take(MAX_ENDPOINTS).map(|(_, name)| name.clone()).collect()
}

fn notes(sides: &[Side], missing: &[&str]) -> Vec<String> {
    let mut notes = Vec::new();
    if !missing.is_empty() {
        notes.push(format!("not compared, because some runs have no value: {}", missing.join(", ")));
    }
    let endpoints: BTreeSet<&String> =
        sides.iter().flat_map(|side| &side.runs).flat_map(|run| run.endpoints.keys()).collect();
    if endpoints.len() > MAX_ENDPOINTS {
        notes.push(format!("of {} endpoints, the {MAX_ENDPOINTS} with most bytes are analyzed", endpoints.len()));
    }
    for run in sides.iter().flat_map(|side| &side.runs) {
        notes.extend(run.gaps.iter().map(|gap| format!("run {}: {gap}", run.id)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs whose duration has these values.
    fn side(label: &str, durations: &[f64]) -> Side {
        let run = |(place, duration): (usize, &f64)| RunMeasures {
            id: format!("{label}{place}"),
            command: vec![label.to_owned()],
            started_ns: place as u64,
            exit: None,
            values: (0..METRICS.len()).map(|metric| (metric == 0).then_some(*duration)).collect(),
            endpoints: [("app.example tcp/443".to_owned(), [Some(10.0 * duration), Some(1.0), None])].into(),
            gaps: Vec::new(),
        };
        Side { label: label.to_owned(), runs: durations.iter().enumerate().map(run).collect() }
    }

    fn shifted(by: f64) -> Vec<f64> {
        (0..10).map(|place| 100.0 + f64::from(place * 7 % 10) / 10.0 + by).collect()
    }

    #[test]
    fn a_clear_difference_is_found_and_an_equal_side_is_not() {
        let analysis = analyze(vec![side("a", &shifted(0.0)), side("b", &shifted(-12.0))]);
        let duration = &analysis.rows[0];
        let (relative, bounds) = duration.found().expect("a difference").relative.expect("a ratio");
        assert!((-0.125..-0.115).contains(&relative) && bounds.excludes_zero(), "{relative} {bounds:?}");
        let connections = analysis.rows.iter().find(|row| row.metric.key == "connections").expect("of the endpoint");
        assert_eq!(connections.outcome.expect("two sides").verdict, MetricVerdict::NoDifference);
        let same = analyze(vec![side("a", &shifted(0.0)), side("b", &shifted(0.0))]);
        assert!(same.rows.iter().all(|row| row.found().is_none()));
    }

    #[test]
    fn three_runs_are_too_few_for_a_verdict() {
        let analysis = analyze(vec![side("a", &[1.0, 2.0, 3.0]), side("b", &[7.0, 8.0, 9.0])]);
        assert!(analysis.rows.iter().all(|row| row.outcome.expect("two sides").verdict == MetricVerdict::TooFew));
        assert_eq!(analyze(vec![side("a", &[1.0]), side("b", &[2.0])]).rows[0].outcome.expect("two").difference, None);
    }

    #[test]
    fn the_null_comparison_is_the_difference_of_the_halves() {
        let analysis = analyze(vec![side("a", &[100.0, 110.0, 100.0, 110.0])]);
        assert_eq!(analysis.rows[0].samples[0].noise, Some(10.0 / 105.0));
        assert!(analysis.rows[0].outcome.is_none(), "one side is not compared");
        assert_eq!(analyze(vec![side("a", &[1.0, 2.0, 3.0])]).rows[0].samples[0].noise, None);
    }

    #[test]
    fn a_metric_that_a_run_lacks_is_left_out_and_noted() {
        let mut sides = vec![side("a", &[1.0, 2.0])];
        sides[0].runs[0].values[1] = Some(5.0);
        let analysis = analyze(sides);
        assert!(analysis.rows.iter().all(|row| row.metric.key != METRICS[1].0.key));
        assert!(analysis.notes[0].contains(METRICS[1].0.label), "{:?}", analysis.notes);
    }

    /// Under the null hypothesis at most one comparison in twenty reports anything.
    #[test]
    fn equal_sides_give_no_alarm() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut sample = || (0..10).map(|_| 100.0 + random.f64()).collect::<Vec<f64>>();
        let trials = 20;
        let alarms = (0..trials).filter(|_| {
            let analysis = analyze(vec![side("a", &sample()), side("b", &sample())]);
            analysis.rows.iter().any(|row| row.found().is_some())
        });
        let alarms = alarms.count();
        assert!(alarms <= 3, "{alarms} of {trials}");
    }
}
