//! Wording shared by the formats of a verdict. Plain text; each format escapes it.

use super::CheckedPolicy;
use crate::allow::{AllowRule, CheckedRun, EvidentName, Mismatch, Violation};
use crate::flow::Direction;
use crate::format::escape;
use crate::format::summary::units::plural;
use crate::format::words::with_plain_spaces;
use crate::name::NameSource;

/// `3 violations`.
pub(super) fn number(count: usize, one: &str, many: &str) -> String {
    with_plain_spaces(plural(count as u64, one, many))
}

/// `passed`, or what failed: `2 violations, 1 uncertainty`.
pub(in crate::format) fn verdict(checked: &CheckedPolicy<'_>) -> String {
    let (violations, uncertain) = (checked.verdict.violations.len(), checked.verdict.uncertain.len());
    let mut parts = Vec::new();
    if violations > 0 {
        parts.push(number(violations, "violation", "violations"));
    }
    if uncertain > 0 {
        let allowed = if checked.verdict.allows_uncertain { " (allowed)" } else { "" };
        parts.push(number(uncertain, "uncertainty", "uncertainties") + allowed);
    }
    if parts.is_empty() { "passed".to_owned() } else { parts.join(", ") }
}

/// `12 kinds of connections and 3 lookups checked against 4 rules`.
pub(in crate::format) fn extent(checked: &CheckedPolicy<'_>) -> String {
    format!(
        "{} and {} checked against {}",
        number(checked.verdict.checked, "kind of connection", "kinds of connections"),
        number(checked.verdict.lookups, "looked-up name", "looked-up names"),
        number(checked.list.rules.len(), "rule", "rules"),
    )
}

/// `run 3f2a (curl, git)`.
pub(super) fn run(run: &CheckedRun) -> String {
    match run.subjects.as_slice() {
        [] => format!("capture {}", run.id),
        programs => format!("run {} ({})", run.id, programs.join(", ")),
    }
}

/// `tcp/443 to app.example`, `tcp/8080 from 198.51.100.7`, `lookup of app.example`.
pub(in crate::format) fn title(violation: &Violation) -> String {
    match (violation.direction, violation.protocol.as_str()) {
        (_, "dns") => format!("lookup of {}", violation.remote),
        (Direction::Egress, _) => format!("{} to {}", violation.service, violation.remote),
        (Direction::Ingress, _) => format!("{} from {}", violation.service, violation.remote),
    }
}

/// `3 connections, every attempt failed`.
pub(in crate::format) fn count(violation: &Violation) -> String {
    let (one, many, failed) = match violation.protocol.as_str() {
        "dns" => ("query", "queries", "without an address in a response"),
        _ => ("connection", "connections", "every attempt failed"),
    };
    let count = with_plain_spaces(plural(violation.count, one, many));
    if violation.only_failed { format!("{count}, {failed}") } else { count }
}

/// `curl, git`; empty if no program is known.
pub(in crate::format) fn programs(violation: &Violation) -> String {
    violation.programs.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The addresses, at most so many.
pub(in crate::format) fn addresses(violation: &Violation, limit: usize) -> String {
    let listed: Vec<String> = violation.addresses.iter().take(limit).map(ToString::to_string).collect();
    let more = violation.addresses.len().saturating_sub(limit);
    if more > 0 { format!("{} and {more} more", listed.join(", ")) } else { listed.join(", ") }
}

/// How the name is known: `app.example (DNS response); app.example (TLS server name)`.
pub(super) fn evidence(violation: &Violation) -> String {
    let one = |known: &EvidentName| format!("{} ({})", known.name, source(known.source));
    violation.asked.iter().chain(&violation.claimed).map(one).collect::<Vec<_>>().join("; ")
}

fn source(source: NameSource) -> &'static str {
    match source {
        NameSource::Sni => "TLS server name",
        NameSource::Quic => "QUIC server name",
        NameSource::Http => "HTTP host",
        NameSource::Dns => "DNS response",
        NameSource::Hosts => "hosts file",
        other => other.name(),
    }
}

/// Why it is a violation, without a full stop.
pub(in crate::format) fn reason(violation: &Violation) -> String {
    let mismatches = violation.nearest.as_ref().map_or(&[][..], |nearest| &nearest.mismatches);
    match violation.claimed.first() {
        // Two names can share an address: a name that DNS gave it too is not contradicted.
        Some(claimed)
            if mismatches.contains(&Mismatch::Contradicted)
                && !violation.asked.iter().any(|asked| asked.name == claimed.name) =>
        {
            format!("the server name {} contradicts the DNS response", claimed.name)
        }
        Some(claimed) if violation.asked.is_empty() => format!("no DNS response gave {} this address", claimed.name),
        _ => "no rule allows it".to_owned(),
    }
}

/// `netwatch.toml:12 (tcp/443 *.example.org): the port differs`.
pub(in crate::format) fn nearest(checked: &CheckedPolicy<'_>, violation: &Violation) -> Option<String> {
    let nearest = violation.nearest.as_ref()?;
    let rule = checked.list.rules.get(nearest.rule)?;
    let differences: Vec<String> = nearest.mismatches.iter().map(|mismatch| difference(mismatch, violation)).collect();
    let renew = match nearest.mismatches.as_slice() {
        [Mismatch::Expired(_)] => "; a later date in until allows it",
        _ => "",
    };
    Some(format!("{}:{} ({rule}): {}{renew}", checked.file, rule.line, differences.join(", ")))
}

fn difference(mismatch: &Mismatch, violation: &Violation) -> String {
    let phrase = match mismatch {
        Mismatch::Expired(until) => return format!("it expired on {until}"),
        Mismatch::Contradicted => "the server name differs",
        Mismatch::NotAnswered => "the name is not proven",
        Mismatch::NoServerName => "the connection has no server name",
        Mismatch::Process if violation.programs.is_empty() => "the program is not known",
        Mismatch::Process => "the program differs, or is not proven",
        Mismatch::Port => "the port differs",
        Mismatch::Protocol => "the protocol differs",
        Mismatch::Direction => "the direction differs",
        Mismatch::OtherNameInDomain | Mismatch::Name => "the name differs",
        Mismatch::Address => "the address differs",
    };
    phrase.to_owned()
}

/// The line of the policy that a violation concerns most.
pub(super) fn line(checked: &CheckedPolicy<'_>, violation: &Violation) -> usize {
    let rule = violation.nearest.as_ref().and_then(|nearest| checked.list.rules.get(nearest.rule));
    rule.map_or(1, |rule| rule.line.max(1))
}

/// A violation in one sentence without a full stop, with its program, address and nearest rule.
/// Already escaped, so that it is one line also beside others.
pub(super) fn sentence(checked: &CheckedPolicy<'_>, violation: &Violation) -> String {
    let programs = programs(violation);
    let by = if programs.is_empty() { String::new() } else { format!(" by {programs}") };
    let addresses = addresses(violation, 3);
    let is_shown = addresses.is_empty() || addresses == violation.remote;
    let at = if is_shown { String::new() } else { format!(" ({addresses})") };
    let nearest = nearest(checked, violation).map(|nearest| format!("; nearest rule {nearest}")).unwrap_or_default();
    escape(&format!("{}{at}{by}: {}{nearest}", title(violation), reason(violation))).into_owned()
}

/// ` (until 2026-01-31)`; empty for a rule that does not expire.
pub(super) fn until(rule: &AllowRule) -> String {
    rule.until.map(|until| format!(" (until {until})")).unwrap_or_default()
}
