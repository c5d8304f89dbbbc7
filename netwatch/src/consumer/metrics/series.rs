//! A bounded number of series, each with labels: those with most bytes, and one for all others.
//! Every sum only grows: a series that becomes one of the largest begins at zero, and one that is
//! replaced is added to the others.

use std::collections::HashMap;

use super::sums::SeriesSums;

/// The values of the labels of a series, in the order of the labels.
pub(super) type LabelValues = Box<[Box<str>]>;

/// Maximum number of series with labels.
pub(super) const MAX_SERIES: usize = 100;
/// Maximum number of other labels whose bytes are compared with the series; all start over when
/// there are more.
const MAX_CANDIDATES: usize = 4096;
/// A series is replaced by labels with so many times its bytes, so that series rarely change.
const REPLACING_RATIO: u64 = 2;

/// The series.
#[derive(Debug)]
pub(super) struct TopSeries {
    max: usize,
    series: HashMap<LabelValues, SeriesSums>,
    other: SeriesSums,
    /// Bytes of labels without a series of their own.
    candidates: HashMap<LabelValues, u64>,
    /// At most the bytes of the smallest series.
    smallest: u64,
}

impl Default for TopSeries {
    fn default() -> Self {
        Self::new(MAX_SERIES)
    }
}

impl TopSeries {
    fn new(max: usize) -> Self {
        Self { max, series: HashMap::new(), other: SeriesSums::default(), candidates: HashMap::new(), smallest: 0 }
    }

    /// Adds growth to the series with these labels.
    pub(super) fn add(&mut self, labels: LabelValues, growth: &SeriesSums) {
        if let Some(sums) = self.series.get_mut(&labels) {
            sums.add(growth);
        } else if self.series.len() < self.max {
            self.series.insert(labels, *growth);
        } else {
            self.other.add(growth);
            self.consider(labels, growth.wire_bytes());
        }
    }

    /// Whether some growth belongs to no series with labels.
    pub(super) fn has_other(&self) -> bool {
        self.other != SeriesSums::default()
    }

    /// The sums without labels of their own.
    pub(super) fn other(&self) -> &SeriesSums {
        &self.other
    }

    /// Every series with labels, sorted by them.
    pub(super) fn sorted(&self) -> Vec<(&LabelValues, &SeriesSums)> {
        let mut series: Vec<_> = self.series.iter().collect();
        series.sort_unstable_by_key(|(labels, _)| *labels);
        series
    }

    /// Replaces the smallest series by these labels if they have more bytes by far.
    fn consider(&mut self, labels: LabelValues, bytes: u64) {
        if self.candidates.len() >= MAX_CANDIDATES && !self.candidates.contains_key(&labels) {
            self.candidates.clear();
        }
        let sum = self.candidates.entry(labels.clone()).or_default();
        *sum = sum.saturating_add(bytes);
        let sum = *sum;
        if sum <= self.smallest.saturating_mul(REPLACING_RATIO) {
            return;
        }
        let smallest = self.series.iter().min_by_key(|(labels, sums)| (sums.wire_bytes(), *labels));
        let Some((replaced, bytes)) = smallest.map(|(labels, sums)| (labels.clone(), sums.wire_bytes())) else {
            return;
        };
        self.smallest = bytes;
        if sum > bytes.saturating_mul(REPLACING_RATIO) {
            let sums = self.series.remove(&replaced).unwrap_or_default();
            self.other.add(&sums);
            self.candidates.remove(&labels);
            self.series.insert(labels, SeriesSums::default());
            self.smallest = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::PerDirection;

    fn labels(name: &str) -> LabelValues {
        [name.into()].into()
    }

    fn growth(bytes: u64) -> SeriesSums {
        SeriesSums { wire_bytes: PerDirection { egress: bytes, ingress: 0 }, flows: 1, ..SeriesSums::default() }
    }

    fn total(top: &TopSeries) -> u64 {
        top.sorted().iter().map(|(_, sums)| sums.wire_bytes()).sum::<u64>() + top.other().wire_bytes()
    }

    #[test]
    fn the_first_labels_have_series_and_the_sum_stays_exact() {
        let mut top = TopSeries::new(2);
        for (name, bytes) in [("a", 10), ("b", 20), ("c", 5), ("a", 1)] {
            top.add(labels(name), &growth(bytes));
        }
        let names: Vec<_> =
            top.sorted().into_iter().map(|(labels, sums)| (labels[0].as_ref(), sums.wire_bytes())).collect();
        assert_eq!((names, top.other().wire_bytes()), (vec![("a", 11), ("b", 20)], 5));
    }

    #[test]
    fn a_larger_one_replaces_the_smallest_and_begins_at_zero() {
        let mut top = TopSeries::new(2);
        top.add(labels("a"), &growth(100));
        top.add(labels("small"), &growth(10));
        let mut others = 0;
        for _ in 0..5 {
            top.add(labels("large"), &growth(15));
            assert!(top.other().wire_bytes() >= others, "the others never decrease");
            others = top.other().wire_bytes();
        }
        let names: Vec<_> =
            top.sorted().into_iter().map(|(labels, sums)| (labels[0].as_ref(), sums.wire_bytes())).collect();
        // The second 15 bytes make 30, more than twice 10. What came later is its own.
        assert_eq!((names, others), (vec![("a", 100), ("large", 45)], 40));
        assert_eq!(total(&top), 185);
    }

    #[test]
    fn any_number_of_labels_needs_bounded_memory() {
        let mut top = TopSeries::new(3);
        for number in 0..20_000_u64 {
            top.add(labels(&number.to_string()), &growth(1));
        }
        assert_eq!((top.series.len(), total(&top)), (3, 20_000));
        assert!(top.candidates.len() <= MAX_CANDIDATES);
    }
}
