//! The difference of the medians of two samples, with its confidence interval by the bootstrap
//! (Efron, 1979; the percentile method).

use super::CONFIDENCE;
use super::distribution::median;
use super::rank::mann_whitney;

/// Number of resamples: the bounds then vary by far less than the interval is wide.
const RESAMPLES: usize = 10_000;

/// Number of resamples of constant samples, which are all equal.
const CONSTANT_RESAMPLES: usize = 1;

/// Any constant: equal samples give equal intervals.
const SEED: u64 = 0x6e65_7477_6174_6368;

/// The bounds of a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Bounds {
    /// Half of its width.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether it excludes that there is no difference.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The difference of the medians of two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MedianDifference {
    /// Median of the second sample minus that of the first.
    pub absolute: f64,
    /// Its confidence interval.
    pub bounds: Bounds,
    /// The difference divided by the median of the first sample, and its confidence interval;
    /// `None` if the first sample has values that are not positive.
    pub relative: Option<(f64, Bounds)>,
    /// The probability that equal distributions give samples that differ in rank by as much.
    pub p_value: f64,
}

/// The difference of two samples of at least two values each; `None` for smaller ones.
pub fn difference(a: &[f64], b: &[f64]) -> Option<MedianDifference> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let has_ratio = a.iter().all(|value| *value > 0.0);
    let (mut differences, mut ratios) = (Vec::with_capacity(RESAMPLES), Vec::new());
    let (mut of_a, mut of_b) = (a.to_vec(), b.to_vec());
    let is_constant = [a, b].iter().all(|sample| sample.iter().all(|value| *value == sample[0]));
    for _ in 0..if is_constant { CONSTANT_RESAMPLES } else { RESAMPLES } {
        let (of_a, of_b) = (resampled(a, &mut of_a, &mut random), resampled(b, &mut of_b, &mut random));
        differences.push(of_b - of_a);
        if has_ratio {
            ratios.push((of_b - of_a) / of_a);
        }
    }
    let (of_a, of_b) = (median(&mut a.to_vec()), median(&mut b.to_vec()));
    Some(MedianDifference {
        absolute: of_b - of_a,
        bounds: bounds(differences),
        relative: has_ratio.then(|| ((of_b - of_a) / of_a, bounds(ratios))),
        p_value: mann_whitney(a, b),
    })
}

/// The median of as many values, drawn with replacement.
fn resampled(sample: &[f64], room: &mut [f64], random: &mut fastrand::Rng) -> f64 {
    room.iter_mut().for_each(|value| *value = sample[random.usize(..sample.len())]);
    median(room)
}

fn bounds(mut resamples: Vec<f64>) -> Bounds {
    resamples.sort_by(f64::total_cmp);
    let outside = ((1.0 - CONFIDENCE) / 2.0 * resamples.len() as f64) as usize;
    Bounds { low: resamples[outside], high: resamples[resamples.len() - 1 - outside] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::normal;
    use super::*;

    #[test]
    fn a_constant_difference_has_an_interval_of_no_width() {
        let found = difference(&[100.0; 5], &[88.0; 5]).expect("samples");
        assert_eq!((found.absolute, found.bounds), (-12.0, Bounds { low: -12.0, high: -12.0 }));
        let (relative, bounds) = found.relative.expect("a ratio");
        assert!((relative + 0.12).abs() < 1e-12 && bounds.excludes_zero() && bounds.half_width() == 0.0);
        assert!(found.p_value < 0.01, "{}", found.p_value);
    }

    #[test]
    fn a_first_sample_with_zero_has_no_ratio_and_one_value_no_interval() {
        assert!(difference(&[0.0, 1.0], &[1.0, 2.0]).expect("samples").relative.is_none());
        assert_eq!(difference(&[1.0], &[1.0, 2.0]), None);
    }

    /// The medians of both distributions are known, so that the true difference is: the interval
    /// must contain it about as often as promised. The percentile method is known to be slightly
    /// off for ten values.
    #[test]
    fn the_interval_contains_the_true_difference_as_often_as_promised() {
        let mut random = fastrand::Rng::with_seed(42);
        let trials = 100;
        let hits = (0..trials)
            .filter(|_| {
                let a: Vec<f64> = normal(&mut random, 10).iter().map(|value| 100.0 + value).collect();
                let b: Vec<f64> = normal(&mut random, 10).iter().map(|value| 105.0 + 2.0 * value).collect();
                let Bounds { low, high } = difference(&a, &b).expect("samples").bounds;
                (low..=high).contains(&5.0)
            })
            .count();
        assert!((88..=100).contains(&hits), "{hits} of {trials}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn equal_samples_give_equal_results_that_contain_the_difference(
            a in prop::collection::vec(1.0..1e6_f64, 2..12), b in prop::collection::vec(1.0..1e6_f64, 2..12)
        ) {
            let found = difference(&a, &b).expect("samples");
            prop_assert_eq!(Some(found), difference(&a, &b));
            prop_assert!(found.bounds.low <= found.bounds.high);
            let itself = difference(&a, &a).expect("samples");
            prop_assert!(itself.absolute == 0.0 && !itself.bounds.excludes_zero() && itself.p_value > 0.5);
        }
    }
}
