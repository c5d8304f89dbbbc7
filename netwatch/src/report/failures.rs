//! What failed, as users count it.

use std::collections::BTreeMap;

use super::Report;
use crate::process::{Attempt, AttemptCause, AttemptTarget, ProcessId};

/// A failure: an attempt on a remote or a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The attempt; of a lookup, that for its first record type.
    pub attempt: &'a Attempt,
    /// The record types of a lookup.
    pub kinds: Vec<&'a str>,
    /// Number of attempts, or of lookups.
    pub count: u64,
    /// Packets sent for them; of a lookup, its queries.
    pub packets: u64,
}

impl Report {
    /// The failures, by their first time. Queries for several record types of a name (A and AAAA)
    /// are one lookup. Left out are attempts on local sockets, because most programs try some that
    /// do not exist, and sockets that could not be created, because they have no remote.
    pub fn failures(&self) -> Vec<Failure<'_>> {
        of_attempts(self.attempts.iter().filter(|attempt| attempt.target.is_remote()))
    }

    /// All failed attempts, counted as [`Self::failures`] are, also those that are no failures.
    pub fn counted_attempts(&self) -> Vec<Failure<'_>> {
        of_attempts(self.attempts.iter())
    }
}

fn of_attempts<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Vec<Failure<'a>> {
    let mut failures: Vec<Failure<'_>> = Vec::new();
    let mut lookups: BTreeMap<(&str, &AttemptCause, Option<ProcessId>), usize> = BTreeMap::new();
    for attempt in attempts {
        let next = failures.len();
        let place = match &attempt.target {
            AttemptTarget::LocalSocket(_) | AttemptTarget::Address(_) => next,
            AttemptTarget::Name(name, _) => *lookups.entry((name, &attempt.cause, attempt.process)).or_insert(next),
        };
        let kind = if let AttemptTarget::Name(_, kind) = &attempt.target { Some(kind.as_str()) } else { None };
        match failures.get_mut(place) {
            // A lookup queries each type once.
            Some(failure) => {
                failure.count = failure.count.max(attempt.count);
                failure.packets = failure.packets.saturating_add(attempt.packets);
                failure.kinds.extend(kind);
            }
            None => failures.push(Failure {
                attempt,
                kinds: kind.into_iter().collect(),
                count: attempt.count,
                packets: attempt.packets,
            }),
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str, kind: &str, code: &str, count: u64) -> Attempt {
        Attempt {
            first_ns: 1,
            last_ns: 1,
            count,
            packets: count,
            target: AttemptTarget::Name(name.to_owned(), kind.to_owned()),
            protocol: None,
            cause: AttemptCause::Dns(code.to_owned()),
            process: Some(ProcessId(0)),
        }
    }

    #[test]
    fn queries_for_two_record_types_are_one_lookup() {
        let attempts = [
            lookup("old.example", "A", "nxdomain", 1),
            lookup("new.example", "A", "nxdomain", 3),
            lookup("old.example", "AAAA", "nxdomain", 1),
            lookup("new.example", "AAAA", "nxdomain", 2),
            lookup("new.example", "A", "timeout", 1),
            Attempt { target: AttemptTarget::LocalSocket("/run/x".into()), ..lookup("", "", "", 5) },
            Attempt { target: AttemptTarget::Address(([0, 0, 0, 0], 0).into()), ..lookup("", "", "", 5) },
        ];
        let report = Report { attempts: attempts.into(), ..Report::empty() };
        assert_eq!(report.counted_attempts().len(), 5);
        let failures = report.failures();
        assert_eq!((failures[0].kinds.as_slice(), failures[0].packets), (&["A", "AAAA"][..], 2));
        let counts: Vec<(String, u64)> =
            failures.iter().map(|failure| (failure.attempt.cause.word(), failure.count)).collect();
        assert_eq!(counts, [("NXDOMAIN".to_owned(), 1), ("NXDOMAIN".to_owned(), 3), ("timeout".to_owned(), 1)]);
    }
}
