//! Which address families the runs show of a name: an address that no run asked for is not listed,
//! and an IPv4-only host shows no IPv6 address.

use std::collections::{BTreeMap, BTreeSet};

use super::need::{Need, Pattern};
use super::text::comment;
use crate::flow::Direction;
use crate::report::Report;
use crate::wire::dns::RecordType;
use crate::wire::{Application, Name};

/// Maximum number of names in a sentence.
const MAX_LISTED: usize = 5;
/// Maximum length of a name, bytes.
const MAX_NAME_BYTES: usize = 80;

/// The record types of addresses that the runs queried, by name.
#[derive(Default)]
pub(super) struct AskedFamilies(BTreeMap<Name, BTreeSet<RecordType>>);

impl AskedFamilies {
    pub fn add(&mut self, report: &Report) {
        for lookup in &report.naming.lookups {
            let kind = lookup.question.kind;
            let is_ours = lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
            if is_ours && matches!(kind, RecordType::A | RecordType::AAAA) {
                self.0.entry(lookup.question.name.clone()).or_default().insert(kind);
            }
        }
    }

    /// A sentence without a full stop for each kind of gap.
    pub fn gaps<'a>(&self, needs: impl Iterator<Item = &'a Need>) -> Vec<String> {
        let mut names = [const { BTreeSet::new() }; 3];
        for need in needs.filter(|need| need.direction == Direction::Egress) {
            let Some(Pattern::Exact(name)) = &need.name else { continue };
            let lacks = |is_v4| need.family(is_v4).is_empty();
            let asked = |kind| self.0.get(name).is_some_and(|kinds| kinds.contains(&kind));
            let [only_v4, only_v6, unasked] = &mut names;
            match (asked(RecordType::A), asked(RecordType::AAAA)) {
                (true, false) if lacks(false) => only_v4.insert(name.as_str()),
                (false, true) if lacks(true) => only_v6.insert(name.as_str()),
                (false, false) => unasked.insert(name.as_str()),
                _ => continue,
            };
        }
        let [only_v4, only_v6, unasked] = names.map(|names| list(&names));
        let gap = |listed: Option<String>, before: &str, after: &str| Some(format!("{before} {}: {after}", listed?));
        [
            gap(only_v4, "only IPv4 addresses are known for", "the runs did not ask for IPv6 ones"),
            gap(only_v6, "only IPv6 addresses are known for", "the runs did not ask for IPv4 ones"),
            gap(unasked, "only used addresses are known for", "the runs show no DNS lookup of them"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// `a.example, b.example and 3 more`; `None` without any.
fn list(names: &BTreeSet<&str>) -> Option<String> {
    let listed = names.iter().take(MAX_LISTED).map(|name| comment(name, MAX_NAME_BYTES)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        _ if names.is_empty() => None,
        0 => Some(listed),
        more => Some(format!("{listed} and {more} more")),
    }
}
