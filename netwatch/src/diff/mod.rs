//! The differences between runs: endpoints, ports, protocols, names, processes and failures that
//! appeared, vanished, or changed by more than a threshold. Plain data: [`crate::format::diff`]
//! writes it. docs/diff.md is the manual.

mod compare;
mod identity;
mod range;
mod subject;
mod totals;

pub use compare::{Change, ChangeKind, ComparedRun, Comparison, Measure, compare};
pub use range::ValueRange;
pub use subject::{ComparedPort, Subject, SubjectKind};

/// What counts as a difference.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffOptions {
    /// Minimum ratio for a change of a number to be reported, at least 1.
    pub factor: f64,
    /// Minimum difference in bytes on the wire.
    pub min_bytes: u64,
    /// Minimum difference in connections, DNS queries, processes or attempts.
    pub min_count: u64,
    /// The kinds of subjects to compare.
    pub kinds: Vec<SubjectKind>,
    /// The kinds of changes to report.
    pub changes: Vec<ChangeKind>,
}

impl Default for DiffOptions {
    fn default() -> Self {
        let (kinds, changes) = (SubjectKind::ALL.into(), ChangeKind::ALL.into());
        Self { factor: 2.0, min_bytes: 10_000, min_count: 10, kinds, changes }
    }
}
