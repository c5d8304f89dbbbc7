//! A few numbers of a run in progress: as a line of text for a terminal, and as a line of JSON for
//! logs. docs/live.md documents both.

use std::io::{self, Write};

use serde_json::json;

use super::json::escaped::line;
use super::rfc3339;
use super::summary::units::{bytes, count, duration, plural};
use crate::flow::{Counters, FlowActivity, PerDirection};

/// The version of the JSON lines.
const SCHEMA: u32 = 1;

const SECOND_NS: u64 = 1_000_000_000;

/// Numbers of a run in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusNumbers {
    /// The time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The duration of the run so far, nanoseconds.
    pub duration_ns: u64,
    /// Numbers of connections.
    pub flows: FlowActivity,
    /// Failed attempts and lookups, as the summary counts them.
    pub failures: u64,
    /// What the command sent and received so far.
    pub totals: PerDirection<Counters>,
    /// Lost observations.
    pub lost: u64,
}

impl StatusNumbers {
    /// Bytes per second on the wire since `before`, by direction.
    pub fn rates_since(&self, before: &Self) -> PerDirection<u64> {
        let passed_ns = self.duration_ns.saturating_sub(before.duration_ns).max(1);
        self.totals.zip(before.totals, |now, then| {
            let bytes = u128::from(now.wire_bytes.saturating_sub(then.wire_bytes));
            u64::try_from(bytes * u128::from(SECOND_NS) / u128::from(passed_ns)).unwrap_or(u64::MAX)
        })
    }

    /// The line for a terminal, without a newline. `rates` are bytes per second.
    pub fn text(&self, rates: PerDirection<u64>) -> String {
        let FlowActivity { opened, open, .. } = self.flows;
        // Whole seconds, so that the width of the line stays the same.
        let seconds = self.duration_ns / SECOND_NS;
        let elapsed = if seconds < 60 { format!("{seconds} s") } else { duration(seconds * SECOND_NS) };
        format!(
            "{elapsed}, {} of {} connections open, ↑ {}/s ↓ {}/s, {}, {} lost",
            count(open),
            count(opened),
            bytes(rates.egress),
            bytes(rates.ingress),
            plural(self.failures, "failure", "failures"),
            count(self.lost)
        )
    }

    /// Writes the line of JSON. `rates` are bytes per second since the line before.
    pub fn write_json(&self, rates: PerDirection<u64>, out: &mut dyn Write) -> io::Result<()> {
        let way = |counters: &Counters, rate: u64| json!({ "packets": counters.packets, "wire_bytes": counters.wire_bytes, "wire_bytes_per_second": rate });
        let status = json!({
            "schema": SCHEMA,
            "event": "status",
            "time": rfc3339(self.time_ns),
            "duration_ns": self.duration_ns,
            "connections": { "opened": self.flows.opened, "open": self.flows.open, "failed": self.flows.failed },
            "egress": way(&self.totals.egress, rates.egress),
            "ingress": way(&self.totals.ingress, rates.ingress),
            "failures": self.failures,
            "lost": self.lost,
        });
        line(&status, out)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> [StatusNumbers; 2] {
        let counters = |packets, wire_bytes| Counters { skbs: packets, packets, bytes: wire_bytes, wire_bytes };
        let before = StatusNumbers { time_ns: 10 * SECOND_NS, duration_ns: 83 * SECOND_NS, ..Default::default() };
        let totals = PerDirection { egress: counters(40, 5_000), ingress: counters(2_000, 3_000_000) };
        let flows = FlowActivity { opened: 1_234, open: 12, failed: 2, failed_for_good: 1 };
        let now =
            StatusNumbers { time_ns: 12 * SECOND_NS, duration_ns: 85_250_000_000, flows, failures: 3, totals, lost: 0 };
        [before, now]
    }

    #[test]
    fn the_line_has_rates_both_ways() {
        let [before, now] = numbers();
        let text = now.text(now.rates_since(&before)).replace('\u{a0}', " ");
        assert_eq!(text, "1 min 25 s, 12 of 1,234 connections open, ↑ 2.22 kB/s ↓ 1.33 MB/s, 3 failures, 0 lost");
    }

    #[test]
    fn the_json_line_has_exact_numbers() {
        let [before, now] = numbers();
        let mut out = Vec::new();
        now.write_json(now.rates_since(&before), &mut out).expect("written");
        let text = String::from_utf8(out).expect("UTF-8");
        let expected = concat!(
            r#"{"connections":{"failed":2,"open":12,"opened":1234},"duration_ns":85250000000,"#,
            r#""egress":{"packets":40,"wire_bytes":5000,"wire_bytes_per_second":2222},"event":"status","failures":3,"#,
            r#""ingress":{"packets":2000,"wire_bytes":3000000,"wire_bytes_per_second":1333333},"lost":0,"#,
            r#""schema":1,"time":"1970-01-01T00:00:12.000000000Z"}"#,
            "\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn no_time_between_two_states_is_no_division_by_zero() {
        let [_, now] = numbers();
        assert_eq!(now.rates_since(&now), PerDirection { egress: 0, ingress: 0 });
    }
}
