//! Median and range of several measurements, and the comparison of a value with its goal.

/// The median.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        // The mean of the two middle values of an even number.
        count if count.is_multiple_of(2) => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        count => sorted[count / 2],
    }
}

/// The smallest value.
pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The largest value.
pub fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Combines two lists element by element.
pub fn pairs(one: &[f64], other: &[f64], combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| combine(*one, *other)).collect()
}

/// `value` as text with its unit, and whether it is at most the goal.
pub fn at_most(value: f64, goal: f64, unit: &str) -> String {
    let verdict = if value <= goal { "met" } else { "missed" };
    format!("{value:.1} {unit} (goal: at most {goal} {unit}: {verdict})")
}
