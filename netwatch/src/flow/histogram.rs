//! Distributions of times that can be merged: logarithmic bins as in HDR histograms, of which only
//! those with a value are kept. A series holds thousands of them, and most contain a few values:
//! an array with every bin, as the crate hdrhistogram has it, would take a hundred times the
//! memory.

/// Each power of two has `1 << BITS` bins, so a bin is at most 1/32 of its values wide.
const BITS: u32 = 5;
const BINS_PER_POWER: u64 = 1 << BITS;

/// One more than the last bin, which ends with `u64::MAX`.
const BINS: u16 = (64 - BITS as u16 + 1) << BITS;

/// Larger values count as this one: 36 years.
const MAX_VALUE: u64 = 1 << 60;

/// A distribution of times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeHistogram {
    /// The bins with values, in ascending order, and the number of values in each.
    bins: Vec<(u16, u32)>,
    /// The largest value.
    max: u64,
    /// The sum of the values, at most `u64::MAX`.
    sum: u64,
}

impl TimeHistogram {
    /// Adds a value so many times.
    pub fn add(&mut self, value: u64, count: u64) {
        if count == 0 {
            return;
        }
        let value = value.min(MAX_VALUE);
        self.add_to_bin(bin_of(value), u32::try_from(count).unwrap_or(u32::MAX));
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value.saturating_mul(count));
    }

    fn add_to_bin(&mut self, bin: u16, count: u32) {
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(place) => self.bins[place].1 = self.bins[place].1.saturating_add(count),
            Err(place) => self.bins.insert(place, (bin, count)),
        }
    }

    /// Adds the values of another one.
    pub fn merge(&mut self, other: &Self) {
        other.bins.iter().for_each(|(bin, count)| self.add_to_bin(*bin, *count));
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The largest value; 0 without any.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The sum of the values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The bins with values, in ascending order, and the number of values in each.
    pub fn bins(&self) -> &[(u16, u32)] {
        &self.bins
    }

    /// The value that a part of the values do not exceed, such as 99 of 100: at most 1/32 above
    /// the value itself. `None` without values.
    pub fn quantile(&self, part: u64, whole: u64) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(part)).div_ceil(u128::from(whole).max(1)).max(1);
        let mut below = 0_u128;
        let reached = self.bins.iter().find(|(_, count)| {
            below += u128::from(*count);
            below >= rank
        });
        let (bin, _) = reached.or(self.bins.last())?;
        Some(last_of(*bin).min(self.max))
    }

    /// Restores one from its parts; `None` if no histogram has them.
    pub fn of_parts(bins: Vec<(u16, u32)>, max: u64, sum: u64) -> Option<Self> {
        let is_ascending = bins.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let has_values = bins.iter().all(|(bin, count)| *bin < BINS && *count > 0);
        let is_largest = bins.last().map_or(max == 0, |(bin, _)| bin_of(max) == *bin);
        (is_ascending && has_values && is_largest).then_some(Self { bins, max, sum })
    }
}

fn bin_of(value: u64) -> u16 {
    let power = value.max(1).ilog2();
    let Some(shift) = power.checked_sub(BITS) else { return value as u16 };
    let part = (value >> shift) & (BINS_PER_POWER - 1);
    (((shift + 1) << BITS) as u64 + part) as u16
}

/// The largest value of a bin.
fn last_of(bin: u16) -> u64 {
    let (power, part) = (u32::from(bin) >> BITS, u64::from(bin) & (BINS_PER_POWER - 1));
    let Some(shift) = power.checked_sub(1) else { return part };
    ((BINS_PER_POWER + part) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> TimeHistogram {
        let mut histogram = TimeHistogram::default();
        values.iter().for_each(|value| histogram.add(*value, 1));
        histogram
    }

    #[test]
    fn bins_cover_all_values_without_gaps() {
        assert_eq!((bin_of(0), bin_of(31), bin_of(32), bin_of(u64::MAX)), (0, 31, 32, BINS - 1));
        for bin in 0..BINS - 1 {
            let last = last_of(bin);
            assert_eq!((bin_of(last), bin_of(last + 1)), (bin, bin + 1), "{last}");
        }
        assert_eq!(last_of(BINS - 1), u64::MAX);
    }

    proptest! {
        #[test]
        fn percentiles_are_near_the_nearest_rank(mut values in prop::collection::vec(0..u64::MAX >> 8, 1..300), percent in 0..=100_u64) {
            let found = of(&values).quantile(percent, 100).expect("values");
            values.sort_unstable();
            let rank = (values.len() as u64 * percent).div_ceil(100).max(1) as usize;
            let exact = values[rank - 1];
            prop_assert!(found >= exact && found - exact <= exact / 32, "{found} of {exact}");
        }

        #[test]
        fn merging_is_the_same_as_adding_all(first in prop::collection::vec(any::<u64>(), 0..50), second in prop::collection::vec(any::<u64>(), 0..50)) {
            let mut merged = of(&first);
            merged.merge(&of(&second));
            let all = of(&[first, second].concat());
            prop_assert_eq!(TimeHistogram::of_parts(all.bins.clone(), all.max, all.sum), Some(all.clone()));
            prop_assert_eq!(merged, all);
        }
    }

    #[test]
    fn an_empty_one_has_no_percentile_and_parts_are_checked() {
        assert_eq!(TimeHistogram::default().quantile(99, 100), None);
        for (bins, max) in
            [(vec![(3, 1), (2, 1)], 2), (vec![(BINS, 1)], 0), (vec![(3, 0)], 3), (vec![(3, 1)], 4), (vec![], 1)]
        {
            assert_eq!(TimeHistogram::of_parts(bins, max, 0), None);
        }
    }
}
