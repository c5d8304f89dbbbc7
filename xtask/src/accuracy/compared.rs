//! One scenario: the numbers of netwatch beside the independent ones.

use std::fmt;

use netwatch_tests::report::{list, number, users};
use netwatch_tests::{FinishedRun, FrameCount, FrameCounts};
use serde_json::Value;

use super::scenarios::{IndependentCount, Scenario};
use crate::Result;

/// A row of the table.
pub struct ComparedRow {
    name: &'static str,
    how: &'static str,
    is_seen_expected: bool,
    /// Sent and received, as netwatch counted.
    counted: [FrameCount; 2],
    reference: [FrameCount; 2],
    flows: usize,
    /// Flows of a process that is proven by its socket.
    by_socket: usize,
}

impl ComparedRow {
    /// The header of the table, in Markdown.
    pub const HEADER: &str = "\
| scenario | how it sends | detected | packets sent, received | bytes sent, received | difference | process |
|---|---|---|---|---|---|---|";

    /// Takes the numbers of a scenario from the report and from the independent count.
    pub fn make(scenario: &Scenario, run: &FinishedRun, counts: &FrameCounts) -> Result<Self> {
        let report = run.report();
        let (flows, reference): (Vec<&Value>, _) = match scenario.reference {
            IndependentCount::Uplink { server, protocol, name } => {
                let is_part = |flow: &&Value| flow["remote"] == server.to_string() && flow["protocol"] == name;
                (list(report, "flows").iter().filter(is_part).collect(), counts.of(server, protocol))
            }
            IndependentCount::Loopback => {
                (list(report, "loopback.flows").iter().collect(), interface_counts(&run.stdout)?)
            }
        };
        let mut counted = ["egress", "ingress"].map(|direction| sum(&flows, direction, scenario.reference));
        if matches!(scenario.reference, IndependentCount::Loopback) {
            // The interface counts each packet once, in no direction.
            counted = [add(counted[0], counted[1]), FrameCount::default()];
        }
        let by_socket = flows.iter().filter(|flow| flow.get("processes").is_some() && is_by_socket(flow)).count();
        let (name, how, is_seen_expected) = (scenario.name, scenario.how, scenario.is_seen);
        Ok(Self { name, how, is_seen_expected, counted, reference, flows: flows.len(), by_socket })
    }

    /// Exact where the traffic has to be seen, and nothing where it cannot be.
    pub fn is_expected(&self) -> bool {
        let is_sent = self.reference[0].packets > 0;
        is_sent && if self.is_seen_expected { self.counted == self.reference } else { self.flows == 0 }
    }
}

impl fmt::Display for ComparedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair =
            |of: &[FrameCount; 2], value: fn(&FrameCount) -> i64| format!("{}, {}", value(&of[0]), value(&of[1]));
        let (packets, bytes) = (|count: &FrameCount| count.packets, |count: &FrameCount| count.bytes);
        let detected = if self.flows > 0 { "yes" } else { "no" };
        let difference = match (self.counted == self.reference, self.flows) {
            (_, 0) => "not counted".to_owned(),
            (true, _) => "0".to_owned(),
            _ => format!("packets {}; bytes {}", pair(&self.reference, packets), pair(&self.reference, bytes)),
        };
        let process = match (self.flows, self.by_socket) {
            (0, _) => "-".to_owned(),
            (flows, by_socket) if flows == by_socket => "by socket".to_owned(),
            (flows, by_socket) => format!("{by_socket} of {flows} by socket"),
        };
        let shown = if self.flows > 0 { &self.counted } else { &self.reference };
        let (packets, bytes) = (pair(shown, packets), pair(shown, bytes));
        write!(f, "| {} | {} | {detected} | {packets} | {bytes} | {difference} | {process} |", self.name, self.how)
    }
}

fn sum(flows: &[&Value], direction: &str, reference: IndependentCount) -> FrameCount {
    // `lo` counts buffers, and has no header.
    let is_loopback = matches!(reference, IndependentCount::Loopback);
    let of = |flow: &Value, key: &str| number(flow, &format!("{direction}.{key}"));
    let count = |flow: &&Value| {
        let skbs = of(flow, "skbs");
        if is_loopback {
            FrameCount { packets: skbs, bytes: of(flow, "bytes") - 14 * skbs }
        } else {
            FrameCount { packets: of(flow, "packets"), bytes: of(flow, "wire_bytes") }
        }
    };
    flows.iter().map(count).fold(FrameCount::default(), add)
}

fn add(a: FrameCount, b: FrameCount) -> FrameCount {
    FrameCount { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

fn is_by_socket(flow: &Value) -> bool {
    users(flow).first().is_some_and(|user| user.evidence == "socket")
}

/// The command printed the line of `lo` of /proc/net/dev at its start and at its end.
fn interface_counts(printed: &str) -> Result<[FrameCount; 2]> {
    let lines = printed.lines().filter_map(|line| line.trim().strip_prefix("lo:"));
    let counts: Vec<FrameCount> = lines
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<i64>().ok());
            Some(FrameCount { bytes: numbers.next()??, packets: numbers.next()?? })
        })
        .collect();
    let [start, end] = counts[..] else { return Err(format!("two lines of /proc/net/dev, got: {printed}")) };
    Ok([FrameCount { packets: end.packets - start.packets, bytes: end.bytes - start.bytes }, FrameCount::default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counters_of_an_interface() {
        let printed = "    lo:     100    2 0 0\nx\n    lo:     350    5 0 0\n";
        let counts = interface_counts(printed).expect("two lines");
        assert_eq!(counts, [FrameCount { packets: 3, bytes: 250 }, FrameCount::default()]);
        assert!(interface_counts("lo: 1 2").is_err());
    }

    #[test]
    fn a_row_is_expected_if_it_is_exact() {
        let count = FrameCount { packets: 1, bytes: 60 };
        let row = |counted, flows, is_seen_expected| ComparedRow {
            name: "x",
            how: "y",
            is_seen_expected,
            counted: [counted, count],
            reference: [count, count],
            flows,
            by_socket: 0,
        };
        assert!(row(count, 1, true).is_expected() && !row(count, 1, false).is_expected());
        assert!(!row(FrameCount { packets: 1, bytes: 61 }, 1, true).is_expected());
        assert!(row(FrameCount::default(), 0, false).is_expected());
        assert!(row(count, 1, true).to_string().ends_with("| 1, 1 | 60, 60 | 0 | 0 of 1 by socket |"));
    }
}
