//! Names that the program looked up over DNS and that had no address in any run.

use std::collections::{BTreeMap, BTreeSet};

use super::header::in_brackets;
use super::text::comment;
use crate::flow::Direction;
use crate::process::AttemptTarget;
use crate::report::Report;
use crate::wire::dns::{Rcode, RecordType};
use crate::wire::{Application, Name};

/// Maximum length of a name, bytes.
const MAX_NAME_BYTES: usize = 80;

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
            }
        }
        for attempt in &report.attempts {
            let process = attempt.process.and_then(|id| report.processes.get(id));
            if let (AttemptTarget::Name(name, _), Some(process)) = (&attempt.target, process) {
                self.programs.entry(name.clone()).or_default().insert(process.program().to_owned());
            }
        }
    }

    /// `app.example (NXDOMAIN) (curl)`.
    pub fn finish(self) -> Vec<String> {
        let line = |(name, responses): (Name, Option<BTreeSet<String>>)| {
            let responses: Vec<String> = responses?.into_iter().collect();
            let by = in_brackets(self.programs.get(name.as_str()).into_iter().flatten().map(String::as_str));
            Some(format!("{} ({}){by}", comment(name.as_str(), MAX_NAME_BYTES), responses.join(", ")))
        };
        self.names.into_iter().filter_map(line).collect()
    }
}
