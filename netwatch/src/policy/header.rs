//! What stands before the rules: how they were made, how they are used, and what they cannot say.

use super::need::Need;
use super::require::failure;
use super::text::comment;
use super::{Requirements, RuleOptions};
use crate::format::rfc3339;

/// Bytes of a line of a header before it is continued on the next.
const WIDTH: usize = 110;
/// Bytes of a word of the outside world in a header.
const WORD: usize = 80;

/// Sentences for the header of a format. `use_` says how to load and undo it, `cannot` what the format is unable to say.
pub(super) fn lines(requirements: &Requirements, options: &RuleOptions, use_: &[&str], cannot: &[&str]) -> Vec<String> {
    let mut lines = vec![title(requirements), made(requirements)];
    lines.push("Listed is what was used and worked, in these runs only: run everything that users will do before you trust it.".into());
    if let Some(rules) = &options.generalize {
        lines.push(format!(
            "Generalised: two or more addresses of one name, three of none or of a wildcard, into the smallest prefix that covers them, not \
            wider than /{} (IPv6 /{}); {} or more names with one parent into a wildcard, never below a public suffix; three or more ports of \
            one peer from 32768 on into that range.",
            rules.v4, rules.v6, rules.names
        ));
    }
    lines.extend(use_.iter().map(|&text| text.to_owned()));
    lines.extend(cannot.iter().map(|text| format!("Cannot be said here: {text}.")));
    lines.extend(requirements.left_out.iter().map(|text| format!("Left out: {text}.")));
    lines.extend(requirements.gaps.iter().map(|text| format!("Not complete: {text}.")));
    lines
}

fn title(requirements: &Requirements) -> String {
    match requirements.program() {
        "" => "What is needed of a firewall, by netwatch.".to_owned(),
        program => format!("What {} needs of a firewall, by netwatch.", comment(program, WORD)),
    }
}

fn made(requirements: &Requirements) -> String {
    let one = |made: &super::SourceRun| {
        // To the second.
        let time = rfc3339(made.started_ns).chars().take(19).collect::<String>() + "Z";
        let what = if made.program.is_empty() { "capture" } else { "run" };
        format!("{what} {} of {time}", comment(&made.from, WORD))
    };
    format!("SourceRun from {}.", requirements.made.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// The lines, each behind `mark`, broken at spaces.
pub(super) fn commented(lines: &[String], mark: &str) -> String {
    let mut text = String::new();
    for line in lines {
        let mut current = mark.to_owned();
        for word in line.split(' ') {
            if current.len() > mark.len() && current.len() + 1 + word.len() > WIDTH {
                text += current.trim_end();
                text.push('\n');
                current = format!("{mark}  ");
            }
            current.push(' ');
            current += word;
        }
        text += current.trim_end();
        text.push('\n');
    }
    text
}

/// What a rule is for: `app.example`, or how it failed, at most `limit` bytes.
pub(super) fn purpose(need: &Need, limit: usize) -> String {
    match &need.name {
        Some(name) => comment(&name.to_string(), limit),
        None => String::new(),
    }
}

/// `tcp/443 of app.example: 2 refused`, for the list of what never worked.
pub(super) fn failed(need: &Need) -> String {
    let peer = match &need.name {
        Some(name) => comment(&name.to_string(), WORD),
        None => need.peers.iter().map(super::need::shown).collect::<Vec<_>>().join(", "),
    };
    format!("{} {} {peer}: {}", need.service, need.direction.of_flow(), failure(&need.failed))
}

/// Before the rules of what never worked, where they are comments.
pub(super) const FAILED: &str = "Tried and never worked, so not opened:";
/// What is said of addresses, where names cannot be.
pub(super) const NAMES: &str = "names; they change their addresses, and then this has to be made again";
