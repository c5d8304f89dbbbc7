//! The range of a number over several runs.

/// The minimum and maximum of a number over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueRange {
    /// The minimum.
    pub min: u64,
    /// The maximum.
    pub max: u64,
}

impl From<u64> for ValueRange {
    fn from(value: u64) -> Self {
        Self { min: value, max: value }
    }
}

impl ValueRange {
    /// The range that covers both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// Whether every value of `new` is more than `factor` times and at least `least` more than
    /// every value of this range, or the reverse. Ranges that overlap do not differ.
    pub fn differs(self, new: Self, factor: f64, least: u64) -> bool {
        let is_far = |low: u64, high: u64| high.saturating_sub(low) >= least && high as f64 > low as f64 * factor;
        (self.max < new.min && is_far(self.max, new.min)) || (new.max < self.min && is_far(new.max, self.min))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(min: u64, max: u64) -> ValueRange {
        ValueRange { min, max }
    }

    #[test]
    fn a_difference_exceeds_both_the_factor_and_the_minimum() {
        let differs = |old: ValueRange, new: ValueRange| old.differs(new, 2.0, 100);
        assert!(!differs(100.into(), 200.into()), "exactly the factor");
        assert!(differs(100.into(), 201.into()));
        assert!(differs(201.into(), 100.into()), "in both directions");
        assert!(!differs(1.into(), 90.into()), "a large ratio of small numbers");
        assert!(differs(0.into(), 100.into()));
        assert!(!differs(1_000.into(), 1_900.into()));
    }

    #[test]
    fn ranges_that_overlap_do_not_differ() {
        let differs = |old: ValueRange, new: ValueRange| old.differs(new, 2.0, 100);
        assert!(!differs(range(100, 5_000), 9_000.into()));
        assert!(differs(range(100, 4_000), 9_000.into()));
        assert!(!differs(range(100, 9_000), range(8_000, 90_000)), "they overlap");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_range_differs_from_itself_and_differing_is_symmetric(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), factor in 1.0f64..10.0, least in 1u64..1000) {
            let (a, b) = (ValueRange::from(a.0).with(a.1.into()), ValueRange::from(b.0).with(b.1.into()));
            prop_assert!(!a.differs(a, factor, least));
            prop_assert_eq!(a.differs(b, factor, least), b.differs(a, factor, least));
        }
    }
}
