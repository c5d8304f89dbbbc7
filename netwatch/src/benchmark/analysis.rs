//! The statistics of one or two sides, each of which is a number of runs.

use std::collections::BTreeSet;

use super::RunMeasures;
use super::metric::{ENDPOINT_METRICS, METRICS, Metric};
use crate::statistics::{Distribution, MedianDifference, SIGNIFICANCE, difference, false_discoveries};

/// Maximum number of endpoints that are analyzed: those with most bytes.
const MAX_ENDPOINTS: usize = 10;

/// Fewest runs whose halves can be compared with each other.
const MIN_RUNS_FOR_NOISE: usize = 4;

/// Fewest runs of each side with which any difference can be found.
const MIN_RUNS_FOR_VERDICT: usize = 4;

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
    /// The null comparison: the difference between the medians of every other pair of runs and of
    /// the rest, divided by the median. Equal things differ by this much.
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
    /// So few runs that even the clearest difference of one metric could be chance.
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

    /// Whether all values of all sides are equal.
    pub fn is_constant(&self) -> bool {
        let mut values = self.samples.iter().flat_map(|sample| &sample.values);
        let first = values.next();
        values.all(|value| Some(value) == first)
    }

    fn is_headline(&self) -> bool {
        self.endpoint.is_none() && self.metric.is_headline()
    }

    /// The difference, if it is not chance.
    pub fn found(&self) -> Option<&MedianDifference> {
        self.outcome.as_ref().filter(|outcome| outcome.verdict == MetricVerdict::Differs)?.difference.as_ref()
    }
}

impl Analysis {
    /// The largest noise of the rows that differ, or of all that could: a metric that is not
    /// compared has no part in it.
    pub fn noise(&self) -> Option<f64> {
        let is_found = self.rows.iter().any(|row| row.found().is_some());
        let is_relevant = |row: &&MetricRow| match row.outcome {
            None => true,
            Some(_) if is_found => row.found().is_some(),
            Some(outcome) => outcome.verdict != MetricVerdict::TooFew,
        };
        let rows = self.rows.iter().filter(is_relevant);
        rows.flat_map(|row| &row.samples).filter_map(|sample| sample.noise).reduce(f64::max)
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
    let too_few = decide(&mut rows, &sides);
    let mut notes = notes(&sides, &missing);
    notes.extend(too_few.map(|(metrics, runs)| {
        let metrics = if metrics == 1 { "1 metric has".to_owned() } else { format!("{metrics} metrics have") };
        format!("{metrics} too few runs for a verdict: {runs} runs on each side are enough")
    }));
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

/// Compares every other pair of runs with the rest: both halves have seen the same conditions. In a
/// comparison of commands, one run of each pair went first in its round, and the other second.
fn noise(values: &[f64], median: f64) -> Option<f64> {
    if values.len() < MIN_RUNS_FOR_NOISE || median <= 0.0 {
        return None;
    }
    let half = |first: usize| {
        let half: Vec<f64> = values.chunks(2).skip(first).step_by(2).flatten().copied().collect();
        Distribution::of(&half).map(|half| half.median)
    };
    Some((half(0)? - half(1)?).abs() / median)
}

/// The headline metrics are decided together and the others together, so that many rows do not make
/// a false alarm likely, and rows of detail do not hide a difference in duration or bytes. Returns
/// how many rows have too few runs, and how many runs they need on each side.
fn decide(rows: &mut [MetricRow], sides: &[Side]) -> Option<(usize, usize)> {
    let [a, b] = sides else { return None };
    let least_p = least_p_value(a.runs.len(), b.runs.len());
    let (mut too_few, mut needed) = (0, 0);
    for is_headline in [true, false] {
        let family: Vec<&mut MetricRow> = rows.iter_mut().filter(|row| row.is_headline() == is_headline).collect();
        // Constant rows cannot be discoveries, and are known before the values are assigned to
        // sides: without them, the others are tested as strictly as they have to be.
        let tests = family.iter().filter(|row| !row.is_constant()).count().max(1);
        let left = decide_family(family, least_p * tests as f64 <= SIGNIFICANCE);
        if left > 0 {
            (too_few, needed) = (too_few + left, needed.max(runs_needed(tests)));
        }
    }
    (too_few > 0).then_some((too_few, needed))
}

/// Returns how many rows have too few runs. `can_differ` is whether a lone difference can be found.
fn decide_family(mut family: Vec<&mut MetricRow>, can_differ: bool) -> usize {
    let tested = |row: &MetricRow| Some(row.outcome?.difference.filter(|_| !row.is_constant())?.p_value);
    let p_values: Vec<f64> = family.iter().filter_map(|row| tested(row)).collect();
    let discoveries = false_discoveries(&p_values, SIGNIFICANCE);
    // After one discovery, the least possible p-value is one too.
    let can_differ = can_differ || discoveries.contains(&true);
    let mut discoveries = discoveries.into_iter();
    let mut too_few = 0;
    for row in &mut family {
        let is_discovery = tested(row).is_some() && discoveries.next().unwrap_or(false);
        let Some(outcome) = row.outcome.as_mut() else { continue };
        outcome.verdict = match &outcome.difference {
            Some(found) if is_discovery && found.bounds.excludes_zero() => MetricVerdict::Differs,
            Some(_) if can_differ => MetricVerdict::NoDifference,
            _ => MetricVerdict::TooFew,
        };
        too_few += usize::from(outcome.verdict == MetricVerdict::TooFew);
    }
    too_few
}

/// The p-value of samples of which one is wholly below the other: 2 of all ways to divide them.
fn least_p_value(a: usize, b: usize) -> f64 {
    let ways = (1..=a.min(b)).fold(1.0, |ways, place| ways * (a + b + 1 - place) as f64 / place as f64);
    2.0 / ways
}

/// The number of runs of each side from which a lone difference among so many rows can be found.
fn runs_needed(tests: usize) -> usize {
    (MIN_RUNS_FOR_VERDICT..)
        .find(|runs| least_p_value(*runs, *runs) * tests as f64 <= SIGNIFICANCE)
        .unwrap_or(usize::MAX)
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

    /// Runs of which only the first `headline` and the last `details` metrics vary.
    fn varied(label: &str, runs: usize, (headline, details): (usize, usize), shift: f64) -> Side {
        let mut side = side(label, &vec![1.0; runs]);
        for (place, run) in side.runs.iter_mut().enumerate() {
            let vary = |metric: usize| {
                let is_headline = METRICS[metric].0.is_headline();
                let rank = (0..metric).filter(|other| METRICS[*other].0.is_headline() == is_headline).count();
                rank < if is_headline { headline } else { details }
            };
            // The duration differs by the shift; the other metrics vary alike on both sides.
            let value = |metric: usize| match (metric, vary(metric)) {
                (0, true) => 100.0 + place as f64 + shift,
                (_, true) => 100.0 + place as f64,
                (_, false) => 5.0,
            };
            run.values = (0..METRICS.len()).map(|metric| Some(value(metric))).collect();
            run.endpoints.clear();
        }
        side
    }

    fn verdict_of_duration(runs: usize, varying: (usize, usize)) -> MetricVerdict {
        let [a, b] = [("a", 0.0), ("b", 1000.0)].map(|(label, shift)| varied(label, runs, varying, shift));
        analyze(vec![a, b]).rows[0].outcome.expect("two sides").verdict
    }

    /// Duration, CPU times, bytes and connections, beside as many details as there are.
    #[test]
    fn a_lone_difference_is_found_from_five_runs_or_is_not_decided() {
        for (runs, varying, verdict) in [
            (4, (1, 17), MetricVerdict::Differs),
            (4, (2, 0), MetricVerdict::TooFew),
            (4, (6, 17), MetricVerdict::TooFew),
            (5, (3, 1), MetricVerdict::Differs),
            (5, (6, 17), MetricVerdict::Differs),
            (6, (6, 17), MetricVerdict::Differs),
            (10, (6, 17), MetricVerdict::Differs),
        ] {
            assert_eq!(verdict_of_duration(runs, varying), verdict, "{runs} runs, {varying:?} metrics vary");
        }
    }

    #[test]
    fn no_difference_is_found_only_where_one_could_have_been() {
        let analysis = |runs| analyze([0, 1].map(|_| varied("a", runs, (6, 17), 0.0)).into());
        let verdicts = |runs| {
            let of = |row: &MetricRow| (row.is_headline(), row.outcome.expect("two sides").verdict);
            analysis(runs).rows.iter().map(of).collect::<Vec<_>>()
        };
        let few = |verdict: MetricVerdict| verdict == MetricVerdict::TooFew;
        assert!(verdicts(4).into_iter().all(|(_, verdict)| few(verdict)));
        assert!(verdicts(5).into_iter().all(|(is_headline, verdict)| few(verdict) != is_headline));
        assert!(verdicts(6).into_iter().all(|(_, verdict)| verdict == MetricVerdict::NoDifference));
        let note = analysis(5).notes.pop().expect("a note");
        let number = verdicts(5).into_iter().filter(|(_, verdict)| few(*verdict)).count();
        let expected = format!("{number} metrics have too few runs for a verdict: 6 runs on each side are enough");
        assert_eq!(note, expected);
        assert_eq!(analysis(6).notes, Vec::<String>::new());
    }

    #[test]
    fn the_noise_of_a_comparison_is_that_of_what_differs() {
        let mut sides: Vec<Side> =
            [("a", 0.0), ("b", 1000.0)].map(|(label, shift)| varied(label, 8, (1, 1), shift)).into();
        for run in sides.iter_mut().flat_map(|side| &mut side.runs).step_by(4) {
            run.values[METRICS.len() - 1] = Some(9_000.0);
        }
        let analysis = analyze(sides);
        let noise = analysis.rows[0].samples.iter().filter_map(|sample| sample.noise).reduce(f64::max);
        assert!(analysis.noise() == noise && noise < Some(0.1), "{noise:?}");
    }

    #[test]
    fn the_null_comparison_is_the_difference_of_the_halves() {
        let analysis = analyze(vec![side("a", &[100.0, 100.0, 110.0, 110.0])]);
        assert_eq!(analysis.rows[0].samples[0].noise, Some(10.0 / 105.0));
        let order = analyze(vec![side("a", &[100.0, 110.0, 100.0, 110.0])]);
        assert_eq!(order.rows[0].samples[0].noise, Some(0.0), "every other run goes first in its round");
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
