//! Where an expression is wrong. libpcap reports the text that it does not accept, or only that the
//! syntax is wrong. Its parser reads a word only after it has accepted the one before. So the
//! beginning of the expression up to each word is compiled, followed by a word that is an error of
//! its own when it is read: another error means that the parser did not get so far.

/// A word that is an error of its own when it is read.
const UNREADABLE: &str = " 1::2::3";
/// libpcap's error about it.
const UNREADABLE_ERROR: &str = "bogus ethernet address";
const SYNTAX_ERROR: &str = "syntax error";

/// The column of the word that an error is about, from 1. `error` returns the error of an
/// expression, if it has one.
pub(super) fn of_error(expression: &str, message: &str, error: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let byte = match quoted(message) {
        Some(word) => find_word(expression, word)?,
        None if message.contains(SYNTAX_ERROR) => syntax_error(expression, error)?,
        None => return None,
    };
    Some(expression[..byte].chars().count() + 1)
}

/// The part of the expression in a message, as in `unknown host 'x'` and `illegal port number 70000
/// > 65535`.
fn quoted(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once('\'') {
        return rest.split('\'').next();
    }
    let mut words = message.split(' ').skip_while(|word| !matches!(*word, "number" | "address"));
    words.next();
    words.next()
}

/// The first place of the text that is not within a longer word.
fn find_word(expression: &str, text: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric();
    expression.match_indices(text).map(|(at, _)| at).find(|&at| {
        let before = expression[..at].chars().next_back();
        let after = expression[at + text.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The start of the first word that the parser does not accept; the end of the expression if more
/// has to follow.
fn syntax_error(expression: &str, error: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let is_accepted =
        |text: &str| error(&format!("{text}{UNREADABLE}")).is_some_and(|it| it.contains(UNREADABLE_ERROR));
    // Older versions of libpcap may read that word in another way.
    is_accepted("").then_some(())?;
    let wrong = words(expression).into_iter().find(|(_, end)| !is_accepted(&expression[..*end]));
    Some(wrong.map_or(expression.trim_end().len(), |(start, _)| start))
}

/// Start and end of each word: a name, a number or an address, or one other character.
fn words(expression: &str) -> Vec<(usize, usize)> {
    let is_part = |c: char| c.is_alphanumeric() || "._-:\\".contains(c);
    let mut words: Vec<(usize, usize)> = Vec::new();
    let mut is_in_word = false;
    for (at, c) in expression.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        let end = at + c.len_utf8();
        match words.last_mut() {
            Some(word) if is_part(c) && is_in_word && word.1 == at => word.1 = end,
            _ => words.push((at, end)),
        }
        is_in_word = is_part(c);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_names_numbers_and_single_signs() {
        let text = "tcp[13]&0x2!=0 and not host a-b.c";
        let found: Vec<_> = words(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(found, ["tcp", "[", "13", "]", "&", "0x2", "!", "=", "0", "and", "not", "host", "a-b.c"]);
    }

    #[test]
    fn the_text_in_a_message_is_found_as_a_whole_word() {
        let none = |_: &str| None;
        assert_eq!(of_error("port fool or port foo", "unknown port 'foo'", none), Some(19));
        assert_eq!(of_error("é or port 70000", "illegal port number 70000 > 65535", none), Some(11));
        assert_eq!(of_error("port x", "unknown port 'y'", none), None);
        assert_eq!(of_error("ip[0] / 0 = 1", "division by zero", none), None);
        assert_eq!(of_error("tcp tcp", "syntax error", none), None, "a library without an error of the lexer");
    }
}
