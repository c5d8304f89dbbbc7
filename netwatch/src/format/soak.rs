//! Findings of a soak as sentences, which become notes of the report.

use super::rfc3339;
use super::summary::units::{count, duration, plural};
use super::words::with_plain_spaces;
use crate::flow::{Direction, Remote};
use crate::soak::{IdlePeriod, MIN_SOAK_NS, ReconnectStorm, Rise, RisingQuantity, SoakFinding};

/// A finding, without a full stop: `soak alarm: connections do not close: …`.
pub fn sentence(finding: &SoakFinding) -> String {
    let text = match finding {
        SoakFinding::Leak(rise) => {
            let [before, after] = [rise.before, rise.after].map(|number| count(number as u64));
            format!(
                "connections do not close: at least {before} were open throughout a window of the first third of the \
                 run, {after} of the last{}",
                basis(rise)
            )
        }
        SoakFinding::Rising(quantity, rise) => rising(*quantity, rise),
        SoakFinding::Storm(ReconnectStorm { start_ns, length_ns, attempts, failed }) => format!(
            "reconnect storm at {}: {} in {}, of which {} failed",
            rfc3339(*start_ns),
            plural(*attempts, "attempt", "attempts"),
            duration(*length_ns),
            count(*failed)
        ),
        SoakFinding::DnsFailures { failed, responses } => {
            format!("DNS fails: {} of {} have an error", count(*failed), plural(*responses, "response", "responses"))
        }
        SoakFinding::LateEndpoint { key, after_ns } => {
            let remote = match key.remote {
                Remote::Address(address) => address.to_string(),
                Remote::Others => "another remote".to_owned(),
            };
            let direction = if key.direction == Direction::Egress { "to" } else { "from" };
            format!("first traffic {direction} {remote} {}/{} after {}", key.protocol, key.port, duration(*after_ns))
        }
        SoakFinding::Idle(IdlePeriod { start_ns, length_ns }) => {
            format!("no packet for {} from {} on", duration(*length_ns), rfc3339(*start_ns))
        }
        SoakFinding::TooShort { length_ns } => format!(
            "nothing was searched: the run lasted {}, and a soak test needs at least {}",
            duration(*length_ns),
            duration(MIN_SOAK_NS)
        ),
        SoakFinding::More { of, count: number } => format!("{} more {of}", count(*number)),
    };
    let kind = if finding.is_alarm() { "soak alarm" } else { "soak" };
    format!("{kind}: {}", with_plain_spaces(text))
}

fn rising(quantity: RisingQuantity, rise: &Rise) -> String {
    let text = |number: f64| match quantity {
        RisingQuantity::RoundTrip | RisingQuantity::Connect => duration(number as u64),
        RisingQuantity::Retransmits => format!("{:.2} %", number / 1e4),
        RisingQuantity::Failed => count(number as u64),
    };
    let name = match quantity {
        RisingQuantity::RoundTrip => "the median round trip rises",
        RisingQuantity::Connect => "the median time of TCP handshakes rises",
        RisingQuantity::Retransmits => "the part of TCP packets that are retransmitted rises",
        RisingQuantity::Failed => "failed attempts become more",
    };
    let [before, after] = [rise.before, rise.after].map(text);
    let per = if quantity == RisingQuantity::Failed { " per window" } else { "" };
    format!("{name}: {before}{per} in the first third of the run, {after} in the last{}", basis(rise))
}

/// What the two numbers are, and how certain the rise is: at most 99.99 %, because the model is not
/// more exact than that.
fn basis(rise: &Rise) -> String {
    format!(" (medians of the windows; confidence {:.2} %)", (100.0 * (1.0 - rise.chance)).min(99.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_have_numbers_and_units() {
        let rise = |before, after| Rise { before, after, chance: 1e-9 };
        let second = 1_000_000_000;
        let storm =
            ReconnectStorm { start_ns: 1_767_225_600 * second, length_ns: 30 * second, attempts: 1_200, failed: 7 };
        for (finding, text) in [
            (
                SoakFinding::Leak(rise(50.0, 1_300.0)),
                "soak alarm: connections do not close: at least 50 were open throughout a window of the first third of the run, 1,300 of the last (medians of the windows; confidence 99.99 %)",
            ),
            (
                SoakFinding::Rising(RisingQuantity::RoundTrip, rise(1e6, 2e6)),
                "soak alarm: the median round trip rises: 1.00 ms in the first third of the run, 2.00 ms in the last (medians of the windows; confidence 99.99 %)",
            ),
            (
                SoakFinding::Rising(RisingQuantity::Retransmits, rise(5_000.0, 20_000.0)),
                "soak alarm: the part of TCP packets that are retransmitted rises: 0.50 % in the first third of the run, 2.00 % in the last (medians of the windows; confidence 99.99 %)",
            ),
            (
                SoakFinding::Rising(RisingQuantity::Failed, rise(3.0, 40.0)),
                "soak alarm: failed attempts become more: 3 per window in the first third of the run, 40 in the last (medians of the windows; confidence 99.99 %)",
            ),
            (
                SoakFinding::Storm(storm),
                "soak alarm: reconnect storm at 2026-01-01T00:00:00.000000000Z: 1,200 attempts in 30.0 s, of which 7 failed",
            ),
            (
                SoakFinding::DnsFailures { failed: 12, responses: 100 },
                "soak alarm: DNS fails: 12 of 100 responses have an error",
            ),
            (
                SoakFinding::Idle(IdlePeriod { start_ns: 0, length_ns: 90 * second }),
                "soak: no packet for 1 min 30 s from 1970-01-01T00:00:00.000000000Z on",
            ),
            (
                SoakFinding::TooShort { length_ns: 300 * second },
                "soak: nothing was searched: the run lasted 5 min 00 s, and a soak test needs at least 10 min 00 s",
            ),
            (SoakFinding::More { of: "idle periods", count: 3 }, "soak: 3 more idle periods"),
        ] {
            assert_eq!(sentence(&finding), text);
        }
    }
}
