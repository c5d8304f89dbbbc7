//! A verdict as commands of GitHub Actions: each becomes an annotation of the policy's file.

use super::{CheckedPolicy, words};
use crate::format::escape;

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let mut text = String::new();
    let mut command = |level: &str, line: usize, title: &str, message: &str| {
        let (file, title) = (property(checked.file), property(title));
        text += &format!("::{level} file={file},line={line},title={title}::{}\n", data(message));
    };
    for violation in &verdict.violations {
        let message = format!("{}\n\nTo allow it, add:\n{}", words::sentence(checked, violation), violation.add);
        command("error", words::line(checked, violation), &words::title(violation), &message);
    }
    let level = if verdict.allows_uncertain { "warning" } else { "error" };
    for uncertain in &verdict.uncertain {
        command(level, 1, "A lost observation could hide a violation", uncertain);
    }
    for rule in checked.rules(&verdict.expired) {
        command("warning", rule.line.max(1), "Expired rule", &rule.to_string());
    }
    for rule in checked.rules(&verdict.unused) {
        command("notice", rule.line.max(1), "Unused rule", &rule.to_string());
    }
    text
}

/// A message: line ends would end the command.
pub(in crate::format) fn data(message: &str) -> String {
    let lines: Vec<String> = message.trim_end().split('\n').map(|line| escape(line).into_owned()).collect();
    lines.join("\n").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property, which a colon or a comma would end.
fn property(value: &str) -> String {
    data(value).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_or_a_property() {
        assert_eq!(data("100 %\r\nb"), r"100 %25\r%0Ab");
        assert_eq!(property("a:b,c::error::x"), "a%3Ab%2Cc%3A%3Aerror%3A%3Ax");
    }
}
