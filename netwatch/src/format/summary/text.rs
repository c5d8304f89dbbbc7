//! Breaking and quoting of plain text. Widths are counted in characters.

use crate::format::escape;

/// Columns that a text takes.
pub(in crate::format) fn width(text: &str) -> usize {
    text.chars().count()
}

/// A space at which [`wrap`] does not break: between a number and its unit.
pub(super) const NO_BREAK: char = '\u{a0}';

/// Keeps a text on one line if it fits on one.
pub(super) fn together(text: &str) -> String {
    text.chars().map(|c| if c == ' ' { NO_BREAK } else { c }).collect()
}

/// Breaks at newlines and at spaces, into lines of at most `limit` characters; a longer word is
/// broken at the limit.
pub(super) fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        lines.push(String::new());
        paragraph.split(' ').filter(|word| !word.is_empty()).for_each(|word| place(word, limit, &mut lines));
    }
    lines.iter().map(|line| line.replace(NO_BREAK, " ")).collect()
}

fn place(word: &str, limit: usize, lines: &mut Vec<String>) {
    let Some(last) = lines.last_mut() else { return };
    let used = width(last);
    let gap = usize::from(used > 0);
    if used + gap + width(word) <= limit {
        last.push_str(&" ".repeat(gap));
        last.push_str(word);
        return;
    }
    if width(word) > limit && word.contains(NO_BREAK) {
        // Breaks between number and unit rather than inside a number.
        return word.split(NO_BREAK).for_each(|part| place(part, limit, lines));
    }
    let chars: Vec<char> = word.chars().collect();
    let pieces = chars.chunks(limit).map(|piece| piece.iter().collect::<String>());
    if used == 0 {
        lines.pop();
    }
    lines.extend(pieces);
}

/// At most `limit` characters, the last one an ellipsis if the text was cut.
pub(in crate::format) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// A command as it could be typed into a shell, escaped for the terminal.
pub(in crate::format) fn command(arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
    escape(&quoted.join(" ")).into_owned()
}

fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_breaks_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("2001:db8::1:2:3", 8), ["2001:db8", "::1:2:3"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("one\ntwo 3\u{a0}four", 7), ["one", "two", "3 four"]);
        assert_eq!(wrap("12,345\u{a0}bytes", 7), ["12,345", "bytes"]);
    }

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        let arguments = ["sh", "-c", "echo 'a b'", "", "\x1b[2J"].map(str::to_owned);
        assert_eq!(command(&arguments), r"sh -c 'echo '\''a b'\''' '' '\u{1b}[2J'");
    }

    #[test]
    fn cuts_with_an_ellipsis() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
