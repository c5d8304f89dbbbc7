//! Names that the program looked up over DNS and that had no address in any run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::header::in_brackets;
use super::text::comment;
use crate::flow::Direction;
use crate::process::AttemptTarget;
use crate::report::Report;
use crate::wire::dns::{Rcode, RecordType};
use crate::wire::{Application, Name};

/// Maximum length of a name, bytes.
const MAX_NAME_BYTES: usize = 80;

/// A name that had no address in any run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnresolvedName {
    /// The name as it was asked for.
    pub name: String,
    /// What the responses were: `NXDOMAIN`, `no address`, `no response`, and
    /// `no response yet` in a run in progress.
    pub responses: BTreeSet<String>,
    /// The programs whose lookups of it failed, as far as they are known.
    pub programs: BTreeSet<String>,
}

/// `app.example (NXDOMAIN) (curl)`, escaped for comments.
impl fmt::Display for UnresolvedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let responses = self.responses.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let by = in_brackets(self.programs.iter().map(String::as_str));
        write!(f, "{} ({responses}){by}", comment(&self.name, MAX_NAME_BYTES))
    }
}

/// The names with their responses; `None` once one had an address.
#[derive(Default)]
pub(super) struct Unresolved {
    names: BTreeMap<Name, Option<BTreeSet<String>>>,
    /// The programs whose lookups of a name failed.
    programs: BTreeMap<String, BTreeSet<String>>,
}

impl Unresolved {
    pub fn add(&mut self, report: &Report) {
        for lookup in &report.naming.lookups {
            let is_of_address = matches!(lookup.question.kind, RecordType::A | RecordType::AAAA);
            if lookup.queried_by != Direction::Egress || lookup.application != Application::Dns || !is_of_address {
                continue;
            }
            let known = self.names.entry(lookup.question.name.clone()).or_insert_with(|| Some(BTreeSet::new()));
            if !lookup.addresses.is_empty() {
                *known = None;
            }
            let Some(responses) = known else { continue };
            let word =
                |rcode: &Rcode| if *rcode == Rcode::NOERROR { "no address".to_owned() } else { rcode.to_string() };
            responses.extend(lookup.outcomes.keys().map(word));
            if lookup.unanswered() > 0 {
                responses.insert("no response".to_owned());
            } else if lookup.outcomes.is_empty() {
                // A run in progress does not count queries that may still be answered.
                responses.insert("no response yet".to_owned());
            }
        }
        for attempt in &report.attempts {
            let process = attempt.process.and_then(|id| report.processes.get(id));
            if let (AttemptTarget::Name(name, _), Some(process)) = (&attempt.target, process) {
                self.programs.entry(name.clone()).or_default().insert(process.program().to_owned());
            }
        }
    }

    /// The names without an address, sorted.
    pub fn finish(self) -> Vec<UnresolvedName> {
        let unresolved = |(name, responses): (Name, Option<BTreeSet<String>>)| {
            let programs = self.programs.get(name.as_str()).cloned().unwrap_or_default();
            Some(UnresolvedName { name: name.to_string(), responses: responses?, programs })
        };
        self.names.into_iter().filter_map(unresolved).collect()
    }
}
