//! Whether two samples come from the same distribution: the test of Mann and Whitney, and the
//! correction for many tests at once.

/// Up to this number of values in both samples the distribution is exact, beyond it the normal one.
const MAX_EXACT: usize = 60;

/// The two-sided p-value of the test of Mann and Whitney: the probability that two samples of one
/// distribution differ in rank by as much. Ties are exact too: all ways to divide the observed
/// ranks are counted. 1 if a sample is empty.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let (ranks, sum) = doubled_ranks(a, b);
    match ranks.len() {
        0..=MAX_EXACT => exact(&ranks, a.len(), sum),
        _ => approximate(&ranks, a.len(), sum),
    }
}

/// Twice the rank of each value of both samples, which is an integer also for ties, and the sum of
/// those in `a`.
fn doubled_ranks(a: &[f64], b: &[f64]) -> (Vec<usize>, usize) {
    let mut all: Vec<(f64, bool)> = a.iter().map(|value| (*value, true)).collect();
    all.extend(b.iter().map(|value| (*value, false)));
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut ranks, mut sum) = (Vec::with_capacity(all.len()), 0);
    for ties in all.chunk_by(|(one, _), (other, _)| one == other) {
        // The mean of the ranks from the first tie to the last.
        let rank = 2 * ranks.len() + ties.len() + 1;
        sum += rank * ties.iter().filter(|(_, in_a)| *in_a).count();
        ranks.extend(std::iter::repeat_n(rank, ties.len()));
    }
    (ranks, sum)
}

/// Counts the subsets of `count` ranks whose sum is as far from the mean as `sum`.
fn exact(ranks: &[usize], count: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // By number of ranks and their sum: the number of subsets, which may exceed 64 bits.
    let mut ways = vec![vec![0.0_f64; total + 1]; count + 1];
    ways[0][0] = 1.0;
    for (place, rank) in ranks.iter().enumerate() {
        for chosen in (0..count.min(place + 1)).rev() {
            let (fewer, more) = ways.split_at_mut(chosen + 1);
            let (from, to) = (&fewer[chosen], &mut more[0]);
            to.iter_mut().skip(*rank).zip(from).for_each(|(to, from)| *to += from);
        }
    }
    // The mean of the sum is count / length of the total; compared without a division.
    let distance = |sum: usize| (sum * ranks.len()).abs_diff(count * total);
    let observed = distance(sum);
    let extreme = ways[count].iter().enumerate().filter(|(sum, _)| distance(*sum) >= observed);
    let extreme: f64 = extreme.map(|(_, ways)| ways).sum();
    (extreme / ways[count].iter().sum::<f64>()).min(1.0)
}

/// By the normal distribution, with the corrections for ties and continuity.
fn approximate(ranks: &[usize], count: usize, sum: usize) -> f64 {
    let (all, a) = (ranks.len() as f64, count as f64);
    let ties: f64 = ranks.chunk_by(PartialEq::eq).map(|ties| (ties.len() as f64).powi(3) - ties.len() as f64).sum();
    let variance = a * (all - a) / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((sum as f64 / 2.0 - a * (all + 1.0) / 2.0).abs() - 0.5).max(0.0);
    2.0 * upper_tail(distance / variance.sqrt())
}

/// The probability that a normal variable exceeds `z`, which is not negative: 26.2.17 of Abramowitz
/// and Stegun, with an error below 7.5e-8.
pub(super) fn upper_tail(z: f64) -> f64 {
    const FACTORS: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let sum = FACTORS.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    (sum * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt()).clamp(0.0, 0.5)
}

/// Which of many p-values are discoveries, if at most `rate` of those reported may be false
/// (Benjamini and Hochberg, 1995). Without any difference, `rate` is the probability that one is
/// reported.
pub fn false_discoveries(p_values: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let below = |(place, p): (usize, &f64)| (*p <= (place + 1) as f64 / count * rate).then_some(*p);
    let limit = sorted.iter().enumerate().filter_map(below).next_back();
    p_values.iter().map(|p| limit.is_some_and(|limit| *p <= limit)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::normal;
    use super::*;

    /// Checked by counting by hand: of 20 divisions of six ranks two are as extreme, and so on.
    #[test]
    fn p_values_of_small_samples_are_exact() {
        let known: [(&[f64], &[f64], f64); 6] = [
            (&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 2.0 / 20.0),
            (&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0),
            (&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0], 4.0 / 20.0),
            (&[5.0; 4], &[5.0; 6], 1.0),
            // Four of the six divisions of 1, 1, 2, 2 differ less than the observed one.
            (&[1.0, 1.0], &[2.0, 2.0], 2.0 / 6.0),
            (&[1.0], &[2.0], 1.0),
        ];
        for (a, b, p) in known {
            assert!((mann_whitney(a, b) - p).abs() < 1e-12, "{a:?} {b:?}: {}", mann_whitney(a, b));
            assert!((mann_whitney(b, a) - p).abs() < 1e-12, "the order of the samples has no effect");
        }
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    /// The quantiles of the normal distribution, from any table.
    #[test]
    fn the_tail_of_the_normal_distribution_is_that_of_the_tables() {
        for (z, p) in [
            (0.0, 0.5),
            (1.0, 0.158_655_25),
            (1.959_963_984_540_054, 0.025),
            (2.575_829_303_548_901, 0.005),
            (5.0, 2.866_5e-7),
        ] {
            assert!((upper_tail(z) - p).abs() < 1e-7, "{z}: {}", upper_tail(z));
        }
    }

    #[test]
    fn both_methods_agree_where_they_meet() {
        let mut random = fastrand::Rng::with_seed(7);
        for shift in [0.0, 0.3, 0.8] {
            let a = normal(&mut random, 30);
            let b: Vec<f64> = normal(&mut random, 30).iter().map(|value| value + shift).collect();
            let (ranks, sum) = doubled_ranks(&a, &b);
            let (one, other) = (exact(&ranks, 30, sum), approximate(&ranks, 30, sum));
            assert!((one - other).abs() < 0.01, "{one} {other}");
        }
    }

    /// Under the null hypothesis a p-value is below x with probability x.
    #[test]
    fn equal_distributions_differ_as_rarely_as_promised() {
        let mut random = fastrand::Rng::with_seed(1);
        let trials = 1_000;
        let alarms =
            (0..trials).filter(|_| mann_whitney(&normal(&mut random, 10), &normal(&mut random, 10)) <= 0.05).count();
        assert!((20..=70).contains(&alarms), "{alarms} of {trials}");
        let found = (0..100)
            .filter(|_| {
                let b: Vec<f64> = normal(&mut random, 10).iter().map(|value| value + 2.0).collect();
                mann_whitney(&normal(&mut random, 10), &b) <= 0.05
            })
            .count();
        assert!(found > 90, "two deviations apart: {found} of 100");
    }

    /// The example of Benjamini and Hochberg (1995), section 3.2: four of fifteen at 5 %.
    #[test]
    fn discoveries_are_those_of_the_published_example() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let found = false_discoveries(&p, 0.05);
        assert_eq!(found.iter().filter(|found| **found).count(), 4);
        assert!(found[..4].iter().all(|found| *found));
        assert!(false_discoveries(&[], 0.05).is_empty());
    }

    proptest! {
        #[test]
        fn a_p_value_is_a_probability_and_symmetric(
            a in prop::collection::vec(0..20_u8, 1..20), b in prop::collection::vec(0..20_u8, 1..80)
        ) {
            let [a, b] = [a, b].map(|sample| sample.into_iter().map(f64::from).collect::<Vec<_>>());
            let p = mann_whitney(&a, &b);
            prop_assert!((0.0..=1.0).contains(&p), "{}", p);
            prop_assert!((p - mann_whitney(&b, &a)).abs() < 1e-9);
        }
    }
}
