//! What a consumer discards instead of waiting for its receiver, by reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The number of discarded records. The consumer adds to it, the session reads it for the report.
#[derive(Debug)]
pub struct Discards {
    /// What is discarded, and its receiver: "flow records for udp:198.51.100.9:4739".
    what: String,
    counts: Mutex<DiscardCounts>,
}

#[derive(Debug, Default)]
struct DiscardCounts {
    by_reason: BTreeMap<&'static str, u64>,
    /// Those that a note has reported.
    reported: u64,
}

impl Discards {
    /// Nothing was discarded so far.
    pub fn new(what: String) -> Self {
        Self { what, counts: Mutex::default() }
    }

    /// Adds discarded records.
    pub fn add(&self, reason: &'static str, records: u64) {
        if records == 0 {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.by_reason.entry(reason).or_default() += records;
    }

    /// A sentence about all discarded records, if there are some that no sentence has reported.
    pub fn report(&self) -> Option<String> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: u64 = counts.by_reason.values().sum();
        if sum == counts.reported {
            return None;
        }
        counts.reported = sum;
        let reasons: Vec<String> = counts.by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        Some(format!("{sum} {} were dropped: {}", self.what, reasons.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_all_reasons_and_comes_once() {
        let discards = Discards::new("records for udp:192.0.2.1:4739".to_owned());
        assert_eq!(discards.report(), None);
        discards.add("queue full", 3);
        discards.add("connection lost", 1);
        let expected = "4 records for udp:192.0.2.1:4739 were dropped: 1 connection lost, 3 queue full";
        assert_eq!(discards.report().as_deref(), Some(expected));
        assert_eq!(discards.report(), None);
        discards.add("queue full", 1);
        assert!(discards.report().is_some_and(|text| text.starts_with("5 records") && text.ends_with("4 queue full")));
    }
}
