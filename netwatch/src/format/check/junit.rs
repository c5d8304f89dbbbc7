//! A verdict as test results in the format of JUnit, which most CI systems display: each rule is a
//! test, each violation a failed one, each uncertainty an error.

use std::fmt::Write;

use super::{CheckedPolicy, words};
use crate::allow::AllowRule;
use crate::format::html::markup;
use crate::format::rfc3339;

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let cases = cases(checked);
    let number = |kind: &str| cases.iter().filter(|case| case.kind == Some(kind)).count();
    let seconds = checked.verdict.runs.iter().map(|run| run.duration_ns as f64).sum::<f64>() / 1e9;
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\"",
        cases.len(),
        number("failure"),
        number("error")
    );
    let started_ns = checked.verdict.runs.first().map_or(0, |run| run.started_ns);
    // The schema has no time zone, and no fractions of a second.
    let started: String = rfc3339(started_ns).chars().take("2026-01-01T00:00:00".len()).collect();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "<testsuites name=\"netwatch check\" {counts}>");
    let _ = writeln!(
        text,
        "  <testsuite name=\"{}\" {counts} skipped=\"{}\" timestamp=\"{started}\">",
        xml(checked.file),
        number("skipped")
    );
    cases.iter().for_each(|case| text += &case.element());
    text + "  </testsuite>\n</testsuites>\n"
}

/// One test. The kind is the element of the result, if the test did not pass.
struct JunitCase {
    class: &'static str,
    name: String,
    kind: Option<&'static str>,
    message: String,
    details: String,
}

impl JunitCase {
    fn element(&self) -> String {
        let start = format!("    <testcase classname=\"{}\" name=\"{}\" time=\"0\"", self.class, xml(&self.name));
        let Some(kind) = self.kind else { return start + "/>\n" };
        let message = format!("message=\"{}\"", xml(&self.message));
        let of_type = if kind == "skipped" { String::new() } else { format!(" type=\"{}\"", self.class) };
        let result = match self.details.is_empty() {
            true => format!("<{kind} {message}{of_type}/>"),
            false => format!("<{kind} {message}{of_type}>{}</{kind}>", lines(&self.details)),
        };
        format!("{start}>\n      {result}\n    </testcase>\n")
    }
}

fn cases(checked: &CheckedPolicy<'_>) -> Vec<JunitCase> {
    let verdict = checked.verdict;
    let violations = verdict.violations.iter().map(|violation| JunitCase {
        class: "violation",
        name: words::title(violation),
        kind: Some("failure"),
        message: words::sentence(checked, violation),
        details: format!("{}\n\nTo allow it, add:\n{}", words::sentence(checked, violation), violation.add),
    });
    let kind = if verdict.allows_uncertain { "skipped" } else { "error" };
    let uncertain = verdict.uncertain.iter().map(|text| JunitCase {
        class: "uncertainty",
        name: text.clone(),
        kind: Some(kind),
        message: "a lost observation could hide a violation".to_owned(),
        details: String::new(),
    });
    let rules = checked.list.rules.iter().enumerate().map(|(index, rule)| of_rule(checked, index, rule));
    violations.chain(uncertain).chain(rules).collect()
}

fn of_rule(checked: &CheckedPolicy<'_>, index: usize, rule: &AllowRule) -> JunitCase {
    let message = match (checked.verdict.expired.contains(&index), checked.verdict.unused.contains(&index)) {
        (true, _) => format!("the rule has expired{}", words::until(rule)),
        (_, true) => "nothing matched the rule".to_owned(),
        _ => String::new(),
    };
    JunitCase {
        class: "rule",
        name: format!("line {}: {rule}", rule.line),
        kind: (!message.is_empty()).then_some("skipped"),
        message,
        details: String::new(),
    }
}

fn lines(text: &str) -> String {
    text.trim_end().split('\n').map(xml).collect::<Vec<_>>().join("\n")
}

/// Text or an attribute. XML has no escape for two characters that are not in Unicode.
fn xml(text: &str) -> String {
    markup::text(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
