//! The distribution of a sample: extremes, quartiles and outliers.

/// Distance of the fences from the quartiles, in interquartile ranges (Tukey, Exploratory Data
/// Analysis, 1977), as box plots and criterion have it.
const FENCE: f64 = 1.5;

/// Extremes and quartiles of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// Number of values.
    pub count: usize,
    /// The smallest value.
    pub min: f64,
    /// A quarter of the values is below.
    pub lower_quartile: f64,
    /// Half of the values is below.
    pub median: f64,
    /// Three quarters of the values are below.
    pub upper_quartile: f64,
    /// The largest value.
    pub max: f64,
}

impl Distribution {
    /// The distribution of finite values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let [lower_quartile, median, upper_quartile] = [0.25, 0.5, 0.75].map(|part| quantile(&sorted, part));
        Some(Self { count: sorted.len(), min, lower_quartile, median, upper_quartile, max })
    }

    /// The interquartile range.
    pub fn spread(&self) -> f64 {
        self.upper_quartile - self.lower_quartile
    }

    /// Values outside these are outliers.
    pub fn fences(&self) -> (f64, f64) {
        let distance = FENCE * self.spread();
        (self.lower_quartile - distance, self.upper_quartile + distance)
    }

    /// Whether the value is far from the others. Four values or fewer have no outliers: there are
    /// no others to be far from.
    pub fn is_outlier(&self, value: f64) -> bool {
        let (low, high) = self.fences();
        self.count > 4 && !(low..=high).contains(&value)
    }
}

/// The quantile of sorted values, interpolated linearly between neighbors: type 7 of Hyndman and
/// Fan (1996), the default of R and NumPy.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The median; reorders the values, of which there is at least one.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let (count, middle) = (values.len(), values.len() / 2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match below.iter().copied().max_by(f64::total_cmp) {
        Some(lower) if count.is_multiple_of(2) => f64::midpoint(lower, *upper),
        _ => *upper,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values are those of `quantile(x)` in R 4.3.
    #[test]
    fn quartiles_are_those_of_r() {
        let known: [(&[f64], [f64; 5]); 4] = [
            (&[7.0], [7.0, 7.0, 7.0, 7.0, 7.0]),
            (&[4.0, 1.0], [1.0, 1.75, 2.5, 3.25, 4.0]),
            (&[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]),
            (&[10.0, 2.0, 38.0, 23.0, 38.0, 23.0, 21.0], [2.0, 15.5, 23.0, 30.5, 38.0]),
        ];
        for (values, expected) in known {
            let found = Distribution::of(values).expect("values");
            let Distribution { min, lower_quartile, median, upper_quartile, max, .. } = found;
            assert_eq!([min, lower_quartile, median, upper_quartile, max], expected, "{values:?}");
        }
        assert_eq!(Distribution::of(&[]), None);
    }

    #[test]
    fn a_value_far_from_the_others_is_an_outlier() {
        let values = [10.0, 11.0, 12.0, 13.0, 14.0, 40.0];
        let found = Distribution::of(&values).expect("values");
        let outliers: Vec<f64> = values.into_iter().filter(|value| found.is_outlier(*value)).collect();
        assert_eq!(outliers, [40.0]);
        let constant = Distribution::of(&[3.0; 10]).expect("values");
        assert!(!constant.is_outlier(3.0) && constant.is_outlier(4.0));
        let few = Distribution::of(&[1.0, 1.0, 1.0, 99.0]).expect("values");
        assert!(!few.is_outlier(99.0));
    }

    proptest! {
        #[test]
        fn quartiles_are_in_order_and_the_medians_agree(mut values in prop::collection::vec(-1e9..1e9_f64, 1..60)) {
            let found = Distribution::of(&values).expect("values");
            let Distribution { min, lower_quartile, median, upper_quartile, max, .. } = found;
            prop_assert!(min <= lower_quartile && lower_quartile <= median);
            prop_assert!(median <= upper_quartile && upper_quartile <= max);
            let selected = super::median(&mut values);
            prop_assert!((selected - median).abs() <= 1e-6, "{} {}", selected, median);
        }
    }
}
