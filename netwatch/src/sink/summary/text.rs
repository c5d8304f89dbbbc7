//! Breaking and quoting of plain text. Widths are counted in characters.

use crate::sink::escape;

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks at blanks into lines of at most `width` characters; a longer word is broken where the line ends.
pub(super) fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        place(word, limit, &mut lines);
    }
    lines
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
    let chars: Vec<char> = word.chars().collect();
    let pieces = chars.chunks(limit).map(|piece| piece.iter().collect::<String>());
    if used == 0 {
        lines.pop();
    }
    lines.extend(pieces);
}

/// At most `width` characters, the last one an ellipsis if something was cut.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// A command as it could be typed into a shell, made harmless for the terminal.
pub(super) fn command(arguments: &[String]) -> String {
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
    fn wraps_at_blanks_and_breaks_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("2001:db8::1:2:3", 8), ["2001:db8", "::1:2:3"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn commands_can_be_typed_again() {
        let arguments = ["sh", "-c", "echo 'a b'", "", "\x1b[2J"].map(str::to_owned);
        assert_eq!(command(&arguments), r"sh -c 'echo '\''a b'\''' '' '\u{1b}[2J'");
    }

    #[test]
    fn cuts_with_an_ellipsis() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
