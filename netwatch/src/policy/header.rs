//! The header of the rules: their origin, their use, and their limits.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::need::{Need, PeerUse, shown};
use super::require::failures;
use super::rows::Row;
use super::text::{comment, wrap};
use super::{AddressFamily, Requirements, RuleOptions};
use crate::format::rfc3339;
use crate::report::counted;

/// Maximum length of a line of a header, bytes.
const MAX_LINE_BYTES: usize = 110;
/// The beginning of the line about addresses that were not used.
const UNUSED: &str = "Also allowed, because";
/// Maximum number of addresses in this line.
const MAX_UNUSED_ADDRESSES: usize = 40;
/// Maximum number of names in the line about names without an address.
const MAX_UNRESOLVED_NAMES: usize = 20;
/// Maximum length of a name or path in a header, bytes.
const MAX_NAME_BYTES: usize = 80;

/// Sentences for the header of a format. `usage` describes how to load and remove the rules,
/// `limits` what the format cannot express.
pub(super) fn lines(
    requirements: &Requirements,
    options: &RuleOptions,
    usage: &[&str],
    limits: &[&str],
) -> Vec<String> {
    let mut lines = vec![title(requirements), sources(requirements)];
    lines.push("Covers only traffic that succeeded in these runs. Exercise every feature before relying on it.".into());
    if let Some(rules) = &options.generalize {
        lines.push(format!(
            "Generalized: two or more addresses of one name, or three or more addresses without a name or of a wildcard, became the smallest \
            prefix that covers them, not wider than /{} (IPv6 /{}); {} or more names with the same parent became a wildcard, never directly below a \
            public suffix; three or more ports of one peer from 32768 on became that range.",
            rules.v4, rules.v6, rules.names
        ));
    }
    lines.extend(usage.iter().map(|&text| text.to_owned()));
    lines.extend(limits.iter().map(|text| format!("Not expressible in this format: {text}.")));
    lines.extend(unused(requirements, options));
    lines.extend(unresolved(requirements));
    lines.extend(requirements.left_out.iter().map(|text| format!("Left out on purpose: {text}.")));
    lines.extend(requirements.gaps.iter().map(|text| format!("Incomplete: {text}.")));
    lines
}

/// The lines about addresses that DNS listed and that the runs did not use, or not for the service.
fn unused(requirements: &Requirements, options: &RuleOptions) -> Vec<String> {
    let is_v4 = options.family.map(|family| family == AddressFamily::V4);
    let is_written = |net: &&IpNet| is_v4.is_none_or(|is_v4| net.addr().is_ipv4() == is_v4);
    // --with-failed opens what was attempted, even if DNS does not list it.
    let needs = || requirements.needs.iter();
    let of_need = |need: &Need, peer: &IpNet| match need.use_of(peer) {
        PeerUse::Listed => true,
        PeerUse::Attempted => !options.with_failed,
        PeerUse::Used => false,
    };
    let is_used = |peer: &IpNet| needs().any(|need| need.peers.contains(peer) && need.use_of(peer) == PeerUse::Used);
    let (mut never, mut elsewhere) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for need in needs() {
        for peer in need.peers.iter().filter(is_written).filter(|peer| of_need(need, peer)) {
            match is_used(peer) {
                true => drop(elsewhere.entry(shown(peer)).or_default().insert(need.service.to_string())),
                false => drop(never.insert(shown(peer))),
            }
        }
    }
    let services = |services: BTreeSet<String>| services.into_iter().collect::<Vec<_>>().join(", ");
    let elsewhere = elsewhere.into_iter().map(|(peer, of)| format!("{peer} ({})", services(of))).collect();
    let line = |reason, addresses: BTreeSet<String>| {
        let more = match addresses.len().saturating_sub(MAX_UNUSED_ADDRESSES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed = addresses.iter().take(MAX_UNUSED_ADDRESSES).map(String::as_str).collect::<Vec<_>>().join(", ");
        let text = format!(
            "{UNUSED} DNS lists these addresses for the same names, although the runs {reason}: {listed}{more}."
        );
        (!addresses.is_empty()).then_some(text)
    };
    let lines = [line("did not use them", never), line("used them only for other services", elsewhere)];
    lines.into_iter().flatten().collect()
}

/// The line about names without an address.
fn unresolved(requirements: &Requirements) -> Option<String> {
    let names = &requirements.unresolved;
    let listed = names.iter().take(MAX_UNRESOLVED_NAMES).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(MAX_UNRESOLVED_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| format!("Not listed, because DNS returned no address for these names: {listed}{more}."))
}

/// The title of a table.
pub(super) fn table_title(requirements: &Requirements) -> String {
    match requirements.subjects().as_slice() {
        [] => "Required network access".to_owned(),
        programs => format!("Network access required by {}", list(programs)),
    }
}

/// `a`, `a and b`, `a, b and 3 others`.
fn list(programs: &[&str]) -> String {
    let safe = |program: &&str| comment(program, MAX_NAME_BYTES);
    match programs {
        [one] => safe(one),
        [one, other] => format!("{} and {}", safe(one), safe(other)),
        [one, other, third] => format!("{}, {} and {}", safe(one), safe(other), safe(third)),
        [one, other, rest @ ..] => {
            format!("{}, {} and {}", safe(one), safe(other), counted(rest.len() as u64, "other"))
        }
        [] => String::new(),
    }
}

/// The notes below a table, as sentences.
pub(super) fn table_notes(requirements: &Requirements, options: &RuleOptions, rows: &[Row]) -> Vec<String> {
    let mut notes = Vec::new();
    let has = |mark: &str| rows.iter().any(|row| row.addresses.iter().any(|address| row.mark(address).contains(mark)));
    if has("not used") {
        notes.push(
            "\"not used\": DNS lists the address for the name, but no connection of these runs used it for this service. Allow \
            it too: the next connection may use any of them."
                .to_owned(),
        );
    }
    if has("attempted") {
        notes.push(
            "\"attempted\": every attempt to reach this address failed in these runs, and another address worked. Allow it too, \
            unless it is known to be dead: it may be the preferred one elsewhere."
                .to_owned(),
        );
    }
    if rows.iter().any(|row| row.addresses.iter().any(|address| address.seen.is_none())) {
        notes.push("The addresses of your DNS resolvers are those of --resolver; the runs used other ones.".to_owned());
    }
    if rows.iter().any(|row| row.purpose.is_guess) {
        notes.push("\"?\": guessed from the port, because no packet showed the protocol.".to_owned());
    }
    if requirements.needs.iter().any(|need| need.name.is_some()) {
        notes.push("The addresses of names change: prefer rules by name where your firewall supports them.".to_owned());
    }
    let from_header = lines(requirements, options, &[], &[]);
    notes.extend(from_header.into_iter().skip(1).filter(|line| !line.starts_with(UNUSED)));
    notes
}

fn title(requirements: &Requirements) -> String {
    match requirements.subject() {
        "" => "Firewall requirements (generated by netwatch)".to_owned(),
        program => format!("Firewall requirements of {} (generated by netwatch)", comment(program, MAX_NAME_BYTES)),
    }
}

fn sources(requirements: &Requirements) -> String {
    let one = |source: &super::SourceRun| {
        // To the second.
        let time = rfc3339(source.started_ns).chars().take(19).collect::<String>() + "Z";
        let what = if source.programs.is_empty() { "capture" } else { "run" };
        format!("{what} {} of {time}", comment(&source.id, MAX_NAME_BYTES))
    };
    format!("Source: {}.", requirements.sources.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// The lines, each after `mark`, wrapped at spaces.
pub(super) fn commented(lines: &[String], mark: &str) -> String {
    wrapped(lines, mark, MAX_LINE_BYTES)
}

/// As [`commented`], with lines of this width.
pub(super) fn wrapped(lines: &[String], mark: &str, width: usize) -> String {
    let mut text = String::new();
    for line in lines {
        let mut current = mark.to_owned();
        // A longer word, which is a name, is broken behind its dots.
        let longest = width.saturating_sub(mark.len() + 3).max(1);
        for word in line.split(' ').flat_map(|word| wrap(word, longest)) {
            if current.len() > mark.len() && current.len() + 1 + word.len() > width {
                text += current.trim_end();
                text.push('\n');
                current = format!("{mark}  ");
            }
            current.push(' ');
            current += &word;
        }
        text += current.trim_end();
        text.push('\n');
    }
    text
}

/// The purpose of a rule: the name of its peer, at most `limit` bytes. Empty without a name.
pub(super) fn purpose(need: &Need, limit: usize) -> String {
    match &need.name {
        Some(name) => comment(&name.to_string(), limit),
        None => String::new(),
    }
}

/// `udp/67 out (255.255.255.255)`.
pub(super) fn peers(need: &Need) -> String {
    let name = need.name.as_ref().map(|name| comment(&name.to_string(), 200) + " ").unwrap_or_default();
    format!("{} {} {name}({})", need.service, need.direction.of_flow(), addresses(need))
}

/// `tcp/443 out app.example: 2 refused (curl)`, for the list of failed attempts.
pub(super) fn failed(need: &Need) -> String {
    let peer = match &need.name {
        Some(name) => comment(&name.to_string(), MAX_NAME_BYTES),
        None => addresses(need),
    };
    failed_of(need, &peer)
}

/// As [`failed`], with the addresses also of a name: for formats that write no rule with them.
pub(super) fn failed_with_addresses(need: &Need) -> String {
    let peer = match &need.name {
        Some(name) => format!("{} ({})", comment(&name.to_string(), MAX_NAME_BYTES), addresses(need)),
        None => addresses(need),
    };
    failed_of(need, &peer)
}

fn failed_of(need: &Need, peer: &str) -> String {
    let by = in_brackets(need.programs.iter().map(String::as_str));
    format!("{} {} {peer}: {}{by}", need.service, need.direction.of_flow(), failures(&need.failed))
}

fn addresses(need: &Need) -> String {
    need.peers.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// ` (curl, wget)`; empty without any.
pub(super) fn in_brackets<'a>(programs: impl IntoIterator<Item = &'a str>) -> String {
    let programs: Vec<String> = programs.into_iter().map(|program| comment(program, MAX_NAME_BYTES)).collect();
    if programs.is_empty() { String::new() } else { format!(" ({})", programs.join(", ")) }
}

/// Stands for the table of what is required if it is empty.
pub(super) const NOTHING_REQUIRED: &str = "No network access is required.";
/// Precedes the table of what was only attempted.
pub(super) const ATTEMPTED: &str =
    "Attempted only. Every attempt failed in these runs, so they do not show whether it is required:";
/// Precedes the rules of failed attempts, which are comments.
pub(super) const FAILED_ATTEMPTS: &str = "Failed attempts, not opened:";
/// The limit of formats that support addresses only.
pub(super) const NAMES_LIMIT: &str = "names; generate the rules again when the addresses of a name change";
