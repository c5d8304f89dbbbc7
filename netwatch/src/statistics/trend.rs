//! Whether values rise over time: the test of Mann and Kendall, which assumes no distribution and
//! no shape of the rise.

use super::rank::upper_tail;

/// The one-sided p-value of the test of Mann and Kendall: the probability that values without a
/// trend are in such an ascending order. Ties are corrected for. 1 with fewer than 4 values.
pub fn rising(values: &[f64]) -> f64 {
    const MIN_VALUES: usize = 4;
    if values.len() < MIN_VALUES {
        return 1.0;
    }
    let pairs =
        values.iter().enumerate().flat_map(|(place, later)| values[..place].iter().map(move |one| (one, later)));
    let score: f64 = pairs.map(|(one, later)| f64::from(later.total_cmp(one) as i8)).sum();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let weight = |count: usize| (count * (count - 1) * (2 * count + 5)) as f64;
    let ties: f64 = sorted.chunk_by(PartialEq::eq).map(|ties| weight(ties.len())).sum();
    let variance = (weight(values.len()) - ties) / 18.0;
    if variance <= 0.0 || score <= 0.0 {
        return 1.0;
    }
    upper_tail((score - 1.0) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::testing::normal;
    use super::*;

    #[test]
    fn only_a_rise_is_one() {
        let ascending: Vec<f64> = (0..20).map(f64::from).collect();
        let descending: Vec<f64> = ascending.iter().rev().copied().collect();
        assert!(rising(&ascending) < 1e-8);
        assert_eq!((rising(&descending), rising(&[5.0; 20]), rising(&ascending[..3])), (1.0, 1.0, 1.0));
    }

    #[test]
    fn chance_is_as_rare_as_the_p_value() {
        assert_eq!(rising(&[10.0, 15.0, 14.0, 20.0]), upper_tail(3.0 / (4.0 * 3.0 * 13.0 / 18.0_f64).sqrt()));
        let mut random = fastrand::Rng::with_seed(7);
        let below =
            |limit: f64, random: &mut fastrand::Rng| (0..2_000).filter(|_| rising(&normal(random, 24)) < limit).count();
        let found = below(0.05, &mut random);
        assert!((60..=140).contains(&found), "{found} of 2,000 at 5 %");
    }
}
