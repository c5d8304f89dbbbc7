//! A measurement beside the goal it is held against.

/// `value` as text with its unit, and whether it is at most the goal.
pub fn at_most(value: f64, goal: f64, unit: &str) -> String {
    let verdict = if value <= goal { "met" } else { "missed" };
    format!("{value:.1} {unit} (goal: at most {goal} {unit}: {verdict})")
}
