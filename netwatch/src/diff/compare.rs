//! Both sides, subject by subject.

use std::collections::BTreeSet;

use super::Options;
use super::book::Book;
use super::picture::{Numbers, Picture, Unit, knows_processes};
use super::range::Range;
use super::subject::{Kind, Subject};
use crate::report::Report;

/// In what way something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// No old run had it, a new one has.
    Appeared,
    /// An old run had it, no new one has.
    Vanished,
    /// Both have it, and its numbers are further apart than the threshold.
    Changed,
}

impl How {
    /// Every way, in the order of reports.
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

/// A number of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// `sent_bytes` and `received_bytes` on the wire, `connections`, `times`.
    pub name: &'static str,
    /// Over the old runs that had it.
    pub old: Option<Range>,
    /// Over the new runs that had it.
    pub new: Option<Range>,
    /// This is what changed.
    pub is_changed: bool,
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In what way.
    pub how: How,
    /// What.
    pub subject: Subject,
    /// Its numbers.
    pub measures: Vec<Measure>,
}

/// A run of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The run's id, or the capture's name.
    pub from: String,
    /// Program and arguments; empty for a capture.
    pub command: Vec<String>,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// What it does not know, a sentence each.
    pub gaps: Vec<String>,
}

/// All that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The old runs.
    pub old: Vec<Side>,
    /// The new ones.
    pub new: Vec<Side>,
    /// By kind, then appeared, vanished, changed, then by subject.
    pub changes: Vec<Change>,
    /// How many subjects of each kind were compared.
    pub compared: Vec<(Kind, usize)>,
    /// What was not compared, and why, a sentence each.
    pub notes: Vec<String>,
    /// What counted as a difference.
    pub options: Options,
}

impl Difference {
    /// Whether there is none.
    pub fn is_same(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares the old runs with the new ones; several on one side are taken together.
pub fn compare(old: &[&Report], new: &[&Report], options: &Options) -> Difference {
    let book = Book::of(old.iter().chain(new).copied());
    let (before, after) = (Picture::of(old, &book), Picture::of(new, &book));
    let mut options = options.clone();
    let mut notes = Vec::new();
    if options.only.contains(&Kind::Processes) && !(knows_processes(old) && knows_processes(new)) {
        notes.push("processes are not compared: not all of these runs know theirs".to_owned());
    }
    if !notes.is_empty() {
        options.only.retain(|kind| *kind != Kind::Processes);
    }
    let subjects: BTreeSet<&Subject> = before.0.keys().chain(after.0.keys()).collect();
    let wanted = |subject: &&&Subject| options.only.contains(&subject.kind());
    let change = |subject: &&Subject| change(subject, before.0.get(subject), after.0.get(subject), &options);
    let mut changes: Vec<Change> = subjects.iter().filter(wanted).filter_map(change).collect();
    changes.sort_by_key(|change| (change.subject.kind(), change.how));
    let count = |kind: &Kind| (*kind, subjects.iter().filter(|subject| subject.kind() == *kind).count());
    let compared = Kind::ALL.iter().filter(|kind| options.only.contains(kind)).map(count).collect();
    Difference { old: sides(old), new: sides(new), changes, compared, notes, options }
}

fn change(
    subject: &Subject,
    old: Option<&Numbers<Range>>,
    new: Option<&Numbers<Range>>,
    options: &Options,
) -> Option<Change> {
    let measures = measures(old, new, options);
    let how = match (old, new) {
        (None, _) => How::Appeared,
        (_, None) => How::Vanished,
        _ if measures.iter().any(|measure| measure.is_changed) => How::Changed,
        _ => return None,
    };
    options.hows.contains(&how).then(|| Change { how, subject: subject.clone(), measures })
}

fn measures(old: Option<&Numbers<Range>>, new: Option<&Numbers<Range>>, options: &Options) -> Vec<Measure> {
    let units = [
        (Unit::Sent, "sent_bytes", options.min_bytes),
        (Unit::Received, "received_bytes", options.min_bytes),
        (Unit::Connections, "connections", options.min_count),
        (Unit::Times, "times", options.min_count),
    ];
    let measure = |(unit, name, least): (Unit, &'static str, u64)| {
        let of = |side: Option<&Numbers<Range>>| side.and_then(|numbers| numbers.get(&unit)).copied();
        let (old, new) = (of(old), of(new));
        let is_changed = old.zip(new).is_some_and(|(old, new)| old.differs(new, options.factor, least));
        (old.is_some() || new.is_some()).then_some(Measure { name, old, new, is_changed })
    };
    units.into_iter().filter_map(measure).collect()
}

fn sides(reports: &[&Report]) -> Vec<Side> {
    let side = |report: &&Report| match &report.replay {
        Some(replay) => {
            Side { from: replay.file.clone(), command: Vec::new(), started_ns: replay.started_ns, gaps: report.gaps() }
        }
        None => Side {
            from: report.run.id.clone(),
            command: report.run.command.clone(),
            started_ns: report.run.started_ns,
            gaps: report.gaps(),
        },
    };
    reports.iter().map(side).collect()
}
