//! `--status`: a few numbers of the run while it lasts, as a line on the terminal or as lines of
//! JSON for logs.

use std::time::Duration;

use crate::consumer::{Consumer, StreamEnd};
use crate::error::Result;
use crate::flow::{PerDirection, nanoseconds};
use crate::format::status::StatusNumbers;
use crate::session::{Event, EventKinds, SessionStatus};
use crate::settings::{SessionSettings, StatusStyle};
use crate::terminal::{StatusLine, print_with_writer};

/// Shows numbers of the run.
pub(in crate::commands) struct Status {
    output: StatusOutput,
    /// What the rates refer to.
    before: StatusNumbers,
}

enum StatusOutput {
    Line(StatusLine),
    Json(JsonLines),
    /// The command has ended.
    Ended,
}

impl Status {
    /// `None` if nothing is shown.
    pub(in crate::commands) fn start(settings: &SessionSettings) -> Option<Self> {
        let output = match settings.status {
            StatusStyle::Line if !settings.quiet => StatusOutput::Line(StatusLine::start()?),
            StatusStyle::Line | StatusStyle::Off => return None,
            StatusStyle::Json(interval) => StatusOutput::Json(JsonLines::new(interval)),
        };
        Some(Self { output, before: StatusNumbers::default() })
    }

    fn show(&mut self, status: &SessionStatus) {
        let SessionStatus { time_ns, duration_ns, flows, failures, totals, lost, .. } = *status;
        let numbers = StatusNumbers { time_ns, duration_ns, flows, failures, totals, lost };
        let rates = numbers.rates_since(&self.before);
        match &mut self.output {
            StatusOutput::Line(line) => line.set(numbers.text(rates)),
            StatusOutput::Json(lines) => {
                if !lines.is_due(duration_ns) {
                    return;
                }
                print_json(numbers, rates);
            }
            StatusOutput::Ended => return,
        }
        self.before = numbers;
    }
}

fn print_json(numbers: StatusNumbers, rates: PerDirection<u64>) {
    print_with_writer(move |out| numbers.write_json(rates, out));
}

impl Consumer for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::STATUS.with(EventKinds::SESSION)
    }

    fn is_essential(&self) -> bool {
        false
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::Status(status) => self.show(&status),
                Event::Finished(_) => self.output = StatusOutput::Ended,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        self.output = StatusOutput::Ended;
        Ok(())
    }
}

/// When a line of JSON is printed.
#[derive(Debug)]
struct JsonLines {
    interval_ns: u64,
    next_ns: u64,
}

impl JsonLines {
    fn new(interval: Duration) -> Self {
        let interval_ns = nanoseconds(interval).max(1);
        Self { interval_ns, next_ns: interval_ns }
    }

    /// Whether a line is due at this duration of the run. The counters are read about once a
    /// second, a little later each time; lines keep to the multiples of the interval.
    fn is_due(&mut self, duration_ns: u64) -> bool {
        let is_due = duration_ns >= self.next_ns;
        if is_due {
            self.next_ns = (duration_ns / self.interval_ns + 1).saturating_mul(self.interval_ns);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_keep_to_the_interval() {
        const MS: u64 = 1_000_000;
        let mut lines = JsonLines::new(Duration::from_secs(3));
        let due = (1..=12).filter(|second| lines.is_due(second * 1_010 * MS)).collect::<Vec<_>>();
        assert_eq!(due, [3, 6, 9, 12]);
        // A drain that took long skips lines instead of printing several at once.
        assert!(lines.is_due(31_000 * MS) && !lines.is_due(32_000 * MS) && lines.is_due(33_000 * MS));
    }
}
