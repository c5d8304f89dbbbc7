//! What failed, as users count it.

use std::collections::{BTreeMap, HashMap};

use super::attempts::{self, AttemptKey};
use super::{AttemptNames, Report};
use crate::process::{Attempt, AttemptCause, AttemptTarget, ProcessId};

/// A failure: an attempt on a remote or a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Target, cause and process; of a lookup, those of its first record type.
    pub attempt: &'a Attempt,
    /// The name that the program looked up; `None` if it used an address, or a local socket.
    pub name: Option<&'a str>,
    /// The record types of a lookup.
    pub kinds: Vec<&'a str>,
    /// Number of attempts, or of lookups.
    pub count: u64,
    /// Packets sent for them; of a lookup, its queries.
    pub packets: u64,
    /// Time of the first one, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Time of the last one, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

impl Report {
    /// The failures, by their first time. Queries for several record types of a name (A and AAAA)
    /// are one lookup, and attempts on one address for several names are apart. Left out are
    /// attempts on local sockets, because most programs try some that do not exist, and sockets
    /// that could not be created, because they have no remote.
    pub fn failures(&self) -> Vec<Failure<'_>> {
        self.count(self.attempts.iter().filter(|attempt| attempt.target.is_remote()))
    }

    /// All failed attempts, counted as [`Self::failures`] are, also those that are no failures.
    pub fn counted_attempts(&self) -> Vec<Failure<'_>> {
        self.count(self.attempts.iter())
    }

    fn count<'a>(&'a self, attempts: impl Iterator<Item = &'a Attempt>) -> Vec<Failure<'a>> {
        let mut attempts = attempts.peekable();
        if attempts.peek().is_none() {
            return Vec::new();
        }
        let (names, by_name) = (AttemptNames::of(self), AttemptsByName::of(self));
        let mut failures: Vec<Failure<'a>> = Vec::new();
        let mut lookups: BTreeMap<(&str, &AttemptCause, Option<ProcessId>), usize> = BTreeMap::new();
        for attempt in attempts {
            let AttemptTarget::Name(name, kind) = &attempt.target else {
                by_name.split(Failure::of(attempt, names.name(attempt)), &mut failures);
                continue;
            };
            let place = *lookups.entry((name, &attempt.cause, attempt.process)).or_insert(failures.len());
            match failures.get_mut(place) {
                // A lookup queries each type once.
                Some(failure) => {
                    failure.count = failure.count.max(attempt.count);
                    failure.packets = failure.packets.saturating_add(attempt.packets);
                    failure.last_ns = failure.last_ns.max(attempt.last_ns);
                    failure.kinds.push(kind);
                }
                None => failures.push(Failure { kinds: vec![kind], ..Failure::of(attempt, Some(name)) }),
            }
        }
        failures
    }
}

impl<'a> Failure<'a> {
    fn of(attempt: &'a Attempt, name: Option<&'a str>) -> Self {
        let Attempt { count, packets, first_ns, last_ns, .. } = *attempt;
        Self { attempt, name, kinds: Vec::new(), count, packets, first_ns, last_ns }
    }
}

/// The attempts that flows show, by the display names of the flows; `None` without one.
struct AttemptsByName<'a>(HashMap<AttemptKey, BTreeMap<Option<&'a str>, Attempt>>);

impl<'a> AttemptsByName<'a> {
    fn of(report: &'a Report) -> Self {
        let mut attempts: HashMap<AttemptKey, BTreeMap<Option<&'a str>, Attempt>> = HashMap::new();
        for known in report.flows.iter().filter(|known| attempts::has_failed(&known.flow)) {
            let name = known.display_name().map(|display| display.name.as_str());
            for attempt in attempts::of_flow(known) {
                let of_names = attempts.entry(attempts::key(&attempt)).or_default();
                match of_names.get_mut(&name) {
                    Some(sum) => attempts::add(sum, &attempt),
                    None => drop(of_names.insert(name, attempt)),
                }
            }
        }
        attempts.retain(|_, of_names| of_names.len() > 1);
        Self(attempts)
    }

    /// Adds a failure for each name of the attempts. What no flow shows stays with the first name.
    fn split(&self, whole: Failure<'a>, failures: &mut Vec<Failure<'a>>) {
        let of_names = self.0.get(&attempts::key(whole.attempt)).filter(|of_names| {
            // An attempt that another program has already split has fewer.
            of_names.values().map(|part| part.count).fold(0, u64::saturating_add) <= whole.count
        });
        let Some(of_names) = of_names else { return failures.push(whole) };
        let mut parts: Vec<(Option<&str>, &Attempt)> = of_names.iter().map(|(name, part)| (*name, part)).collect();
        parts.sort_by_key(|(_, part)| part.first_ns);
        let mut rest = (whole.count, whole.packets);
        let begin = failures.len();
        for (name, part) in parts {
            rest = (rest.0 - part.count, rest.1.saturating_sub(part.packets));
            let Attempt { count, packets, first_ns, last_ns, .. } = *part;
            failures.push(Failure { name, count, packets, first_ns, last_ns, ..whole.clone() });
        }
        failures[begin].count += rest.0;
        failures[begin].packets += rest.1;
    }
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
