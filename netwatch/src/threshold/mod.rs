//! Thresholds of a run, as in k6: `failed > 0`, `p99(connect) > 50ms`, `open > 500 for 5m`.
//! docs/thresholds.md is the manual.

mod evaluate;
mod live;
mod open;
mod over_time;
mod parse;
mod quantity;
mod samples;

pub use evaluate::{Crossing, ThresholdState};
pub use live::{LiveNumbers, LiveThresholds, OpenKnowledge};
pub use parse::ThresholdError;
pub use quantity::ThresholdUnit;

use quantity::Quantity;

/// A condition under which a run fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// As it was written.
    text: String,
    quantity: Quantity,
    comparison: ThresholdComparison,
    limit: f64,
    /// How long the condition has to hold without a pause, nanoseconds.
    hold_ns: Option<u64>,
}

/// How a quantity is compared with the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThresholdComparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Unequal,
}

impl ThresholdComparison {
    /// Longer signs first, so that each is found whole.
    const ALL: [(&'static str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Equal => value == limit,
            Self::Unequal => value != limit,
        }
    }

    /// Whether it holds for a value of which only the range is known; `None` if that depends on the
    /// value.
    fn holds_in(self, (least, most): (f64, f64), limit: f64) -> Option<bool> {
        let can_be_equal = least < most && least <= limit && limit <= most;
        match self {
            Self::Equal | Self::Unequal if can_be_equal => None,
            _ => Some(self.holds(least, limit)).filter(|holds| *holds == self.holds(most, limit)),
        }
    }

    /// Whether further observations could only make it true, and not false again.
    fn is_lower_limit(self) -> bool {
        matches!(self, Self::Above | Self::AtLeast)
    }
}

impl Threshold {
    fn holds(&self, number: u64) -> bool {
        self.comparison.holds(number as f64, self.limit)
    }

    /// The condition as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A threshold is its text.
impl Eq for Threshold {}
