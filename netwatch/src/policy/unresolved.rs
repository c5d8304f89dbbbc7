//! Names that the program looked up over DNS and that had no address in any run.

use std::collections::{BTreeMap, BTreeSet};

use super::text::comment;
use crate::flow::Direction;
use crate::report::Report;
use crate::wire::dns::{Rcode, RecordType};
use crate::wire::{Application, Name};

/// Maximum length of a name, bytes.
const MAX_NAME_BYTES: usize = 80;

/// The names with their responses; `None` once one had an address.
#[derive(Default)]
pub(super) struct Unresolved(BTreeMap<Name, Option<BTreeSet<String>>>);

impl Unresolved {
    pub fn add(&mut self, report: &Report) {
        for lookup in &report.naming.lookups {
            let is_of_address = matches!(lookup.question.kind, RecordType::A | RecordType::AAAA);
            if lookup.queried_by != Direction::Egress || lookup.application != Application::Dns || !is_of_address {
                continue;
            }
            let known = self.0.entry(lookup.question.name.clone()).or_insert_with(|| Some(BTreeSet::new()));
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
    }

    /// `app.example (NXDOMAIN)`.
    pub fn finish(self) -> Vec<String> {
        let line = |(name, responses): (Name, Option<BTreeSet<String>>)| {
            let responses: Vec<String> = responses?.into_iter().collect();
            Some(format!("{} ({})", comment(name.as_str(), MAX_NAME_BYTES), responses.join(", ")))
        };
        self.0.into_iter().filter_map(line).collect()
    }
}
