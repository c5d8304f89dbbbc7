//! The strip at the top: whether the data is complete, what failed, the verdict of a policy, and
//! what changed.

use super::Page;
use super::markup::text;
use crate::flow::{BalanceState, Direction};
use crate::format::check::words as checks;
use crate::format::summary::failed;
use crate::format::summary::units::{count, plural};
use crate::format::{diff as diffs, words};
use crate::report::Report;

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

/// One answer.
struct Answer {
    tone: Tone,
    title: String,
    text: String,
    /// The section with the details, if there is one.
    target: &'static str,
}

/// The strip.
pub(super) fn strip(page: &Page<'_>) -> String {
    let answers = [Some(complete(page.report)), Some(failures(page.report)), checked(page), changed(page)];
    let items: String = answers.into_iter().flatten().map(|answer| item(&answer)).collect();
    format!("<section class=\"strip\" aria-label=\"Verdict\"><ul>{items}</ul></section>\n")
}

fn item(Answer { tone, title, text: detail, target }: &Answer) -> String {
    let (class, sign) = match tone {
        Tone::Good => ("good", "✓"),
        Tone::Warn => ("warn", "!"),
        Tone::Bad => ("bad", "✗"),
        Tone::Plain => ("plain", "±"),
    };
    let (title, detail) = (text(title), text(detail));
    let title = if target.is_empty() { title.into_owned() } else { format!("<a href=\"#{target}\">{title}</a>") };
    format!(
        "<li class=\"{class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span><div><strong>{title}</strong><span>{detail}</span></div></li>"
    )
}

fn complete(report: &Report) -> Answer {
    let answer = |tone, title: &str, text: String| Answer { tone, title: title.into(), text, target: "diagnostics" };
    let gaps = report.gaps();
    match (report.balance.state, gaps.as_slice()) {
        (BalanceState::Open, _) => answer(Tone::Bad, "Counts differ", format!("Balance {}.", words::balance(report))),
        (_, [first, more @ ..]) => {
            let more = match more.len() {
                0 => String::new(),
                many => format!(" {}.", plural(many as u64, "more reason", "more reasons")),
            };
            answer(Tone::Warn, "Incomplete", words::with_plain_spaces(format!("{}.{more}", sentence(first))))
        }
        (BalanceState::Closed, []) => {
            let lost: u64 = words::losses(report).iter().map(|loss| loss.number).sum();
            let nothing = if lost == 0 { ", and nothing was lost" } else { "" };
            let dropped = match report.balance.dropped {
                0 => String::new(),
                many => format!(" The interface dropped {} on receive.", plural(many, "skb", "skbs")),
            };
            let text = words::with_plain_spaces(format!("Every packet was counted{nothing}.{dropped}"));
            answer(Tone::Good, "Complete", text)
        }
        _ => answer(Tone::Warn, "Not verified", format!("Balance {}.", words::balance(report))),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn failures(report: &Report) -> Answer {
    match failed::number(report) {
        0 => Answer {
            tone: Tone::Good,
            title: "No failures".into(),
            text: words::with_plain_spaces(no_failure(report)),
            target: "",
        },
        number => {
            let targets = super::failures::targets(report);
            Answer {
                tone: Tone::Bad,
                title: words::with_plain_spaces(plural(number, "failure", "failures")),
                text: words::with_plain_spaces(match targets.as_slice() {
                    [one] => one.clone(),
                    [one, other] => format!("{one} and {other}"),
                    [one, more @ ..] => format!("{one}; {} more", more.len()),
                    [] => String::new(),
                }),
                target: "failures",
            }
        }
    }
}

/// Attempts of remotes are no failures of the target, but the tables list them.
fn no_failure(report: &Report) -> String {
    let inbound: u64 = report
        .endpoints
        .iter()
        .filter(|known| known.endpoint.key.direction == Direction::Ingress)
        .map(|known| known.endpoint.failed.attempts())
        .sum();
    let own = "No connection that the target opened and no DNS query failed.";
    match inbound {
        0 => own.to_owned(),
        many => format!("{own} Of those that remotes opened, {} failed.", count(many)),
    }
}

fn checked(page: &Page<'_>) -> Option<Answer> {
    let checked = page.checked.as_ref()?;
    let fails = checked.verdict.fails();
    Some(Answer {
        tone: if fails { Tone::Bad } else { Tone::Good },
        title: format!("Policy: {}", checks::verdict(checked)),
        text: format!("{}.", checks::extent(checked)),
        target: "policy",
    })
}

fn changed(page: &Page<'_>) -> Option<Answer> {
    let comparison = page.baseline.as_ref()?.comparison;
    let old: Vec<String> = comparison.old.iter().map(|run| run.from.clone()).collect();
    let (title, text) = match comparison.is_same() {
        true => ("No changes".to_owned(), "No difference to".to_owned()),
        false => (diffs::verdict(comparison), "Compared with".to_owned()),
    };
    Some(Answer { tone: Tone::Plain, title, text: format!("{text} run {}.", old.join(", ")), target: "changes" })
}
