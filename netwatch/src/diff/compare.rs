//! Compares both sides, subject by subject.

use std::collections::BTreeSet;

use super::DiffOptions;
use super::identity::Identities;
use super::range::ValueRange;
use super::subject::{Subject, SubjectKind};
use super::totals::{MeasureKind, MeasureValues, SideTotals, have_processes};
use crate::report::Report;

/// How a subject changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A new run has it, no old run has it.
    Appeared,
    /// An old run has it, no new run has it.
    Vanished,
    /// Both sides have it, and its numbers differ by more than the threshold.
    Changed,
}

impl ChangeKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Appeared, Self::Vanished, Self::Changed];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Vanished => "vanished",
            Self::Changed => "changed",
        }
    }
}

/// A number that belongs to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// `sent_bytes` and `received_bytes` (on the wire), `connections`, or `times` (number of
    /// lookups, processes or attempts). [`crate::format::diff`] translates them into the keys of
    /// the report.
    pub name: &'static str,
    /// Over the old runs that have it.
    pub old: Option<ValueRange>,
    /// Over the new runs that have it.
    pub new: Option<ValueRange>,
    /// It changed by more than the threshold.
    pub is_changed: bool,
}

/// A subject that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How it changed.
    pub kind: ChangeKind,
    /// The subject.
    pub subject: Subject,
    /// The numbers of the subject.
    pub measures: Vec<Measure>,
    /// Of a failure, the programs that failed, as far as they are known.
    pub programs: BTreeSet<String>,
}

/// A run that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedRun {
    /// The run's id, or the name of the capture file.
    pub from: String,
    /// Program and arguments; empty for a capture.
    pub command: Vec<String>,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Blind spots of its report, as sentences.
    pub gaps: Vec<String>,
}

/// All differences between two sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The old runs.
    pub old: Vec<ComparedRun>,
    /// The new runs.
    pub new: Vec<ComparedRun>,
    /// Sorted by kind of subject, kind of change, and subject.
    pub changes: Vec<Change>,
    /// Number of subjects of each kind that were compared.
    pub compared: Vec<(SubjectKind, usize)>,
    /// What was not compared, and why, as sentences.
    pub notes: Vec<String>,
    /// What counts as a difference.
    pub options: DiffOptions,
}

impl Comparison {
    /// Whether there are no differences.
    pub fn is_same(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares the old runs with the new ones. Several runs on one side count as one, with ranges of
/// numbers.
pub fn compare(old: &[&Report], new: &[&Report], options: &DiffOptions) -> Comparison {
    let identities = Identities::of(old.iter().chain(new).copied());
    let (before, after) = (SideTotals::of(old, &identities), SideTotals::of(new, &identities));
    let mut options = options.clone();
    let mut notes = Vec::new();
    if options.kinds.contains(&SubjectKind::Processes) && !(have_processes(old) && have_processes(new)) {
        notes.push("processes are not compared: not all of these runs recorded them".to_owned());
    }
    if !notes.is_empty() {
        options.kinds.retain(|kind| *kind != SubjectKind::Processes);
    }
    let subjects: BTreeSet<&Subject> = before.subjects.keys().chain(after.subjects.keys()).collect();
    let wanted = |subject: &&&Subject| options.kinds.contains(&subject.kind());
    let change = |subject: &&Subject| {
        let change = change(subject, before.subjects.get(subject), after.subjects.get(subject), &options)?;
        let programs = [&before, &after].into_iter().filter_map(|side| side.programs.get(subject)).flatten();
        Some(Change { programs: programs.cloned().collect(), ..change })
    };
    let mut changes: Vec<Change> = subjects.iter().filter(wanted).filter_map(change).collect();
    changes.sort_by_key(|change| (change.subject.kind(), change.kind));
    let count = |kind: &SubjectKind| (*kind, subjects.iter().filter(|subject| subject.kind() == *kind).count());
    let compared = SubjectKind::ALL.iter().filter(|kind| options.kinds.contains(kind)).map(count).collect();
    Comparison { old: sides(old), new: sides(new), changes, compared, notes, options }
}

fn change(
    subject: &Subject,
    old: Option<&MeasureValues<ValueRange>>,
    new: Option<&MeasureValues<ValueRange>>,
    options: &DiffOptions,
) -> Option<Change> {
    let measures = measures(old, new, options);
    let kind = match (old, new) {
        (None, _) => ChangeKind::Appeared,
        (_, None) => ChangeKind::Vanished,
        _ if measures.iter().any(|measure| measure.is_changed) => ChangeKind::Changed,
        _ => return None,
    };
    let wanted = options.changes.contains(&kind);
    wanted.then(|| Change { kind, subject: subject.clone(), measures, programs: BTreeSet::new() })
}

fn measures(
    old: Option<&MeasureValues<ValueRange>>,
    new: Option<&MeasureValues<ValueRange>>,
    options: &DiffOptions,
) -> Vec<Measure> {
    let kinds = [
        (MeasureKind::Sent, "sent_bytes", options.min_bytes),
        (MeasureKind::Received, "received_bytes", options.min_bytes),
        (MeasureKind::Connections, "connections", options.min_count),
        (MeasureKind::Times, "times", options.min_count),
    ];
    let measure = |(kind, name, least): (MeasureKind, &'static str, u64)| {
        let of = |side: Option<&MeasureValues<ValueRange>>| side.and_then(|numbers| numbers.get(&kind)).copied();
        let (old, new) = (of(old), of(new));
        let is_changed = old.zip(new).is_some_and(|(old, new)| old.differs(new, options.factor, least));
        (old.is_some() || new.is_some()).then_some(Measure { name, old, new, is_changed })
    };
    kinds.into_iter().filter_map(measure).collect()
}

fn sides(reports: &[&Report]) -> Vec<ComparedRun> {
    let side = |report: &&Report| match &report.replay {
        Some(replay) => ComparedRun {
            from: replay.file.clone(),
            command: Vec::new(),
            started_ns: replay.started_ns,
            gaps: report.gaps(),
        },
        None => ComparedRun {
            from: report.run.id.clone(),
            command: report.run.command.clone(),
            started_ns: report.run.started_ns,
            gaps: report.gaps(),
        },
    };
    reports.iter().map(side).collect()
}
