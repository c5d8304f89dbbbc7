//! Thresholds that a run crossed, as notes of the report and as annotations of GitHub Actions.

use super::check::github;
use super::summary::units::{bytes, count, duration};
use crate::report::Report;
use crate::threshold::{Crossing, ThresholdState, ThresholdUnit};

/// Why a run fails, without a full stop: `threshold p99(connect) > 50ms: it is 61.2 ms`. `None` if
/// it does not.
pub fn reason(crossing: &Crossing) -> Option<String> {
    let Crossing { text, state, .. } = crossing;
    match state {
        ThresholdState::Kept => None,
        ThresholdState::Crossed => {
            let after = crossing.after_ns.map(|after_ns| format!(", crossed after about {}", duration(after_ns)));
            Some(format!("threshold {text}: it is {}{}", value(crossing), after.unwrap_or_default()))
        }
        ThresholdState::Uncertain => {
            Some(format!("threshold {text}: it is {} as far as known, but flows were folded", value(crossing)))
        }
    }
}

/// Whether a run failed by [`reason`], which is one of its notes.
pub(super) fn fails(report: &Report) -> bool {
    report.notes.iter().any(|note| note.starts_with("threshold ") && note.contains(": it is "))
}

/// That a threshold was crossed while the run lasts: `threshold failed > 0: crossed after 5.2 s,
/// when it was 3`.
pub fn first_crossing(crossing: &Crossing, duration_ns: u64) -> Option<String> {
    let after = duration(duration_ns);
    crossing
        .fails()
        .then(|| format!("threshold {}: crossed after {after}, when it was {}", crossing.text, value(crossing)))
}

/// The reasons as commands of GitHub Actions.
pub fn annotations(reasons: &[String]) -> String {
    let line = |reason: &String| format!("::error title=netwatch::{}\n", github::data(reason));
    reasons.iter().map(line).collect()
}

fn value(crossing: &Crossing) -> String {
    let Some(value) = crossing.value else { return "unknown".to_owned() };
    let text = match crossing.unit {
        ThresholdUnit::Count => count(value as u64),
        ThresholdUnit::Bytes => bytes(value as u64),
        ThresholdUnit::Time => duration(value.round() as u64),
        ThresholdUnit::Ratio => format!("{:.2} %", 100.0 * value),
    };
    match crossing.held_ns {
        Some(held) => format!("{text} for {}", duration(held)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossing(state: ThresholdState, value: f64, unit: ThresholdUnit) -> Crossing {
        Crossing { text: "x > 1".into(), state, value: Some(value), unit, held_ns: None, after_ns: None }
    }

    #[test]
    fn a_reason_has_the_value_in_its_unit() {
        let crossed = |value, unit| reason(&crossing(ThresholdState::Crossed, value, unit)).expect("a reason");
        assert_eq!(crossed(61_234_567.0, ThresholdUnit::Time), "threshold x > 1: it is 61.2 ms");
        assert_eq!(crossed(0.0123, ThresholdUnit::Ratio), "threshold x > 1: it is 1.23 %");
        assert_eq!(crossed(1234.0, ThresholdUnit::Count), "threshold x > 1: it is 1,234");
        assert_eq!(reason(&crossing(ThresholdState::Kept, 0.0, ThresholdUnit::Count)), None);
        let held = Crossing {
            held_ns: Some(300_000_000_000),
            ..crossing(ThresholdState::Crossed, 501.0, ThresholdUnit::Count)
        };
        assert_eq!(reason(&held).expect("a reason"), "threshold x > 1: it is 501 for 5 min 00 s");
        assert_eq!(
            first_crossing(&held, 750_000_000_000).expect("a crossing"),
            "threshold x > 1: crossed after 12 min 30 s, when it was 501 for 5 min 00 s"
        );
        let timed = Crossing { after_ns: Some(450_000_000_000), ..held };
        assert_eq!(
            reason(&timed).expect("a reason"),
            "threshold x > 1: it is 501 for 5 min 00 s, crossed after about 7 min 30 s"
        );
        assert_eq!(annotations(&["100 %\nx".to_owned()]), "::error title=netwatch::100 %25%0Ax\n");
    }
}
