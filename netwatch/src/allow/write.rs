//! Writes rules as the text of a policy.

use std::fmt::Write;

use toml_edit::Value;

use super::learn::{LearnedRemote, LearnedRule, RemoteFacts};
use super::rule::{AllowedProtocol, NameEvidence, PortRange};
use super::verdict::checked_run;
use crate::escape::{escape, needs_escape};
use crate::flow::Direction;
use crate::report::Report;

/// A new policy with these rules.
pub fn policy(rules: &[LearnedRule], reports: &[&Report]) -> String {
    let mut text = format!("# Allow-list of the network access of {}.\n", programs(reports));
    text += &origin("Learned", reports);
    text += "# Review it, and give each rule a reason: why = \"…\".\n";
    if rules.is_empty() {
        text += "# These runs need no rule.\n";
    }
    for rule in rules {
        text += &format!("\n{}", of_rule(rule, true));
    }
    text
}

/// The lines to append to a policy with this text; empty without rules. The policy itself, with its
/// comments, is not changed.
pub fn addition(rules: &[LearnedRule], reports: &[&Report], old: &str) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let mut text = if old.is_empty() || old.ends_with('\n') { String::new() } else { "\n".to_owned() };
    text += &format!("\n{}", origin("Added", reports));
    for (index, rule) in rules.iter().enumerate() {
        text += if index == 0 { "" } else { "\n" };
        text += &of_rule(rule, true);
    }
    text
}

/// The rules without comments.
pub(super) fn rules(rules: &[LearnedRule]) -> String {
    rules.iter().map(|rule| of_rule(rule, false)).collect::<Vec<_>>().join("\n")
}

fn programs(reports: &[&Report]) -> String {
    let mut programs: Vec<String> = Vec::new();
    for program in reports.iter().flat_map(|report| checked_run(report).subjects) {
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    if programs.is_empty() { "a capture".to_owned() } else { comment(&programs.join(", ")) }
}

fn origin(how: &str, reports: &[&Report]) -> String {
    let ids: Vec<String> = reports.iter().map(|report| checked_run(report).id).collect();
    format!(
        "# {how} by netwatch learn from {} {}.\n",
        if ids.len() == 1 { "run" } else { "runs" },
        comment(&ids.join(", "))
    )
}

/// A text for a comment, which must not contain a line end.
fn comment(text: &str) -> String {
    escape(text).into_owned()
}

fn of_rule(learned: &LearnedRule, is_commented: bool) -> String {
    let rule = &learned.rule;
    let mut text = String::new();
    // Writing to a string cannot fail.
    if is_commented {
        let _ = writeln!(text, "# {}", title(learned));
    }
    text += "[[allow]]\n";
    for (key, is_address) in [("name", false), ("address", true)] {
        text += &remotes(key, is_address, learned, is_commented);
    }
    if !rule.ports.is_empty() {
        let _ = writeln!(text, "port = {}", ports(&rule.ports));
    }
    if let Some(protocol) = rule.protocol {
        let _ = writeln!(text, "protocol = {}", protocol_value(protocol));
    }
    if rule.direction == Direction::Ingress {
        text += "direction = \"in\"\n";
    }
    match rule.processes.as_slice() {
        [] => {}
        [one] => text += &format!("process = {}\n", quoted(one)),
        several => {
            let several: Vec<String> = several.iter().map(|program| quoted(program)).collect();
            text += &format!("process = [{}]\n", several.join(", "));
        }
    }
    if rule.evidence == NameEvidence::Dns {
        text += "evidence = \"dns\"";
        text += if is_commented { "  # a proxy: it receives the names of the hosts behind it\n" } else { "\n" };
    }
    text
}

fn title(learned: &LearnedRule) -> String {
    let rule = &learned.rule;
    match (rule.protocol, rule.direction) {
        (Some(AllowedProtocol::Lookup), _) => "Names that were only looked up".to_owned(),
        (Some(AllowedProtocol::Icmp), _) => "Ping".to_owned(),
        (_, Direction::Ingress) => format!("The program's own port: {}", service(learned)),
        (_, Direction::Egress) if rule.names.is_empty() => format!("{}, by address", service(learned)),
        (_, Direction::Egress) => service(learned),
    }
}

fn service(learned: &LearnedRule) -> String {
    let ports: Vec<String> = learned.rule.ports.iter().map(ToString::to_string).collect();
    let protocol = match learned.rule.protocol {
        Some(AllowedProtocol::Ip(protocol)) if protocol.name().is_none() => format!("protocol {protocol}"),
        Some(protocol) => protocol.to_string(),
        None => "any protocol".to_owned(),
    };
    if ports.is_empty() { protocol } else { format!("{protocol}/{}", ports.join(", ")) }
}

/// `name = "…"`, or a list with a line for each.
fn remotes(key: &str, is_address: bool, learned: &LearnedRule, is_commented: bool) -> String {
    let of_kind =
        |(remote, _): &(&LearnedRemote, &RemoteFacts)| matches!(remote, LearnedRemote::Address(_)) == is_address;
    let remotes: Vec<(String, String)> = learned
        .remotes
        .iter()
        .filter(of_kind)
        .map(|(remote, facts)| {
            let text = match remote {
                LearnedRemote::Name(pattern) => quoted(&pattern.to_string()),
                LearnedRemote::Address(address) => quoted(&address.to_string()),
            };
            (text, if is_commented { remark(facts) } else { String::new() })
        })
        .collect();
    let remark = |remark: &str| if remark.is_empty() { String::new() } else { format!("  # {remark}") };
    match remotes.as_slice() {
        [] => String::new(),
        [(one, about)] => format!("{key} = {one}{}\n", remark(about)),
        several => {
            let line = |(one, about): &(String, String)| format!("    {one},{}\n", remark(about));
            format!("{key} = [\n{}]\n", several.iter().map(line).collect::<String>())
        }
    }
}

/// The comment about a remote: the programs, and what is not proven.
fn remark(facts: &RemoteFacts) -> String {
    let mut parts = Vec::new();
    if !facts.programs.is_empty() {
        parts.push(facts.programs.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    if !facts.names.is_empty() {
        let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
        parts.push(format!("not proven to be {}", names.join(", ")));
    }
    if facts.only_failed {
        parts.push("every attempt failed".to_owned());
    }
    comment(&parts.join("; "))
}

/// A string on one line. Characters that a terminal interprets are written as escapes.
fn quoted(text: &str) -> String {
    if !text.contains(needs_escape) {
        return Value::from(text).to_string();
    }
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if needs_escape(c) => format!("\\U{:08X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn ports(ranges: &[PortRange]) -> String {
    let value =
        |range: &PortRange| if range.first == range.last { range.to_string() } else { quoted(&range.to_string()) };
    match ranges {
        [one] => value(one),
        several => format!("[{}]", several.iter().map(value).collect::<Vec<_>>().join(", ")),
    }
}

fn protocol_value(protocol: AllowedProtocol) -> String {
    match protocol {
        AllowedProtocol::Ip(protocol) if protocol.name().is_none() => protocol.to_string(),
        protocol => quoted(&protocol.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_on_one_line_and_keep_their_value() {
        for text in ["app.example", "a\"b\\c'", "a\n[[allow]]\nport = 1", "\u{1b}[2J\u{202e}\\\"\u{7f}''\u{feff}"] {
            let line = format!("a = {}", quoted(text));
            assert!(!line.contains(needs_escape), "{line}");
            let document = line.parse::<toml_edit::DocumentMut>().expect("TOML");
            assert_eq!(document["a"].as_str(), Some(text));
        }
    }
}
