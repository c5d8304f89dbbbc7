//! The facts about names below the endpoints: DNS, and the traffic without a name.

use super::line::Style;
use super::text::together;
use super::units::{count, duration, plural};
use crate::flow::Direction;
use crate::format::{escape, words};
use crate::name::Lookup;
use crate::report::{FlowShare, Naming, Report};

/// Names and addresses listed; further ones are counted.
const MAX_LISTED: usize = 3;

/// Key, style and value of each line; none without traffic that can have a name.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, Style, String)> {
    let naming = &report.naming;
    let mut facts = Vec::new();
    if !naming.lookups.is_empty() {
        facts.push(("dns", Style::Plain, dns(naming)));
    }
    if naming.flows.flows > 0 {
        facts.push(("without a name", Style::Plain, unnamed(naming) + &words::not_counting_folded(report)));
    }
    facts
}

/// Number of lost observations about names, if names are missing.
pub(super) fn lost(report: &Report) -> u64 {
    report.lost_names()
}

/// `1 of 4 flows; hidden: doh in 1 flow`, if flows have no name although programs use names: an
/// encrypted one, or none.
pub(super) fn hidden(report: &Report) -> Option<String> {
    let naming = &report.naming;
    let is_encrypted = !naming.hidden.is_empty() && naming.unnamed.flows > 0;
    is_encrypted.then(|| unnamed(naming) + &words::not_counting_folded(report))
}

/// `3 queries, 3 responses in 0.4 ms on average, 1 failed; unused: old.example; contacted without a
/// DNS lookup: …`.
fn dns(naming: &Naming) -> String {
    let own = || naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress);
    let sum = |of: fn(&Lookup) -> u64| own().map(of).sum::<u64>();
    let mut numbers = vec![plural(sum(|lookup| lookup.queries), "query", "queries")];
    numbers.push(plural(sum(|lookup| lookup.responses), "response", "responses") + &mean(own()));
    let failed = sum(Lookup::failed);
    if failed > 0 {
        numbers.push(together(&format!("{} failed", count(failed))));
    }
    let mut parts = vec![numbers.join(", ")];
    parts.extend(listed("unused", naming.unused.iter().map(|name| escape(name.as_str()).into_owned())));
    parts.extend(listed(
        "contacted without a DNS lookup",
        naming.contacted_without_lookup.iter().map(ToString::to_string),
    ));
    parts.join("; ")
}

/// The mean response time of all lookups.
fn mean<'a>(lookups: impl Iterator<Item = &'a Lookup>) -> String {
    let (sum_ns, measured) = lookups.fold((0, 0), |(sum_ns, measured), lookup| {
        (lookup.response_times.sum_ns + sum_ns, lookup.response_times.count + measured)
    });
    sum_ns
        .checked_div(measured)
        .map_or_else(String::new, |mean| together(&format!(" in {} on average", duration(mean))))
}

fn listed(title: &str, items: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let rest = items.len().saturating_sub(MAX_LISTED);
    let shown: Vec<String> = items.take(MAX_LISTED).collect();
    let more = if rest > 0 { format!(" and {} more", count(rest as u64)) } else { String::new() };
    (!shown.is_empty()).then(|| format!("{title}: {}{more}", shown.join(", ")))
}

/// `1 of 4 flows, 0.2 % of the bytes; hidden: doh in 1 flow`.
fn unnamed(naming: &Naming) -> String {
    let Naming { flows, unnamed, hidden, .. } = naming;
    let all = plural(flows.flows, "flow", "flows");
    let share = format!("{} of {all}, {} of their bytes", count(unnamed.flows), percent(*unnamed, *flows));
    let hidden: Vec<String> = hidden
        .iter()
        .map(|(reason, share)| {
            format!("{} in {}", reason.name().replace('_', " "), plural(share.flows, "flow", "flows"))
        })
        .collect();
    if hidden.is_empty() { share } else { format!("{share}; hidden: {}", hidden.join(", ")) }
}

/// Never 0 % of something, and never 100 % if something is missing.
fn percent(part: FlowShare, whole: FlowShare) -> String {
    let (part, whole) = (u128::from(part.wire_bytes), u128::from(whole.wire_bytes));
    match (part * 1000 + whole / 2).checked_div(whole) {
        None | Some(0) if part == 0 => together("0 %"),
        None | Some(0) => together("under 0.1 %"),
        Some(1000) if part < whole => together("over 99.9 %"),
        Some(thousandths) if thousandths % 10 == 0 => together(&format!("{} %", thousandths / 10)),
        Some(thousandths) => together(&format!("{}.{} %", thousandths / 10, thousandths % 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_round_to_nothing_or_all() {
        let share = |wire_bytes| FlowShare { flows: 1, wire_bytes };
        let known = [
            (0, 10, "0 %"),
            (1, 100_000, "under 0.1 %"),
            (1, 3, "33.3 %"),
            (3, 3, "100 %"),
            (99_999, 100_000, "over 99.9 %"),
            (0, 0, "0 %"),
        ];
        for (part, whole, text) in known {
            assert_eq!(percent(share(part), share(whole)).replace('\u{a0}', " "), text, "{part} of {whole}");
        }
    }
}
