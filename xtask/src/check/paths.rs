//! The paths that a file names (`std::fs::read`, `crate::flow::Table`), from its tokens alone. Code
//! under `#[cfg(test)]` is left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path and its line.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// Its parts joined by `::`. A single identifier is a path too.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
}

/// Every path; a group in a `use` gives one path for each of its members.
pub fn named_paths(tokens: &TokenStream) -> Vec<NamedPath> {
    let mut found = Vec::new();
    walk(&tokens.clone().into_iter().collect::<Vec<_>>(), "", &mut found);
    found
}

fn walk(tokens: &[TokenTree], prefix: &str, found: &mut Vec<NamedPath>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some(after) = after_test_code(tokens, at) {
            at = after;
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(_) => at = path(tokens, at, prefix, found),
            TokenTree::Group(group) => {
                walk(&group.stream().into_iter().collect::<Vec<_>>(), "", found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Reads one path that begins at an identifier. Returns the position after it.
fn path(tokens: &[TokenTree], mut at: usize, prefix: &str, found: &mut Vec<NamedPath>) -> usize {
    let line = tokens[at].span().start().line;
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => path += &ident.to_string(),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                walk(&group.stream().into_iter().collect::<Vec<_>>(), &path, found);
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !is_separator(tokens, at) {
            break;
        }
        path += "::";
        at += 2;
    }
    found.push(NamedPath { path: path.trim_end_matches("::").to_owned(), line });
    at
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

/// If `#[cfg(test)]` is here: the position after the item that it applies to.
fn after_test_code(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let TokenTree::Punct(hash) = &tokens[at] else { return None };
    let TokenTree::Group(attribute) = tokens.get(at + 1)? else { return None };
    let text = attribute.stream().to_string().replace(' ', "");
    if hash.as_char() != '#' || text != "cfg(test)" {
        return None;
    }
    let ends_item = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let length = tokens[at + 2..].iter().position(ends_item)?;
    Some(at + 2 + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        named_paths(&code.parse().expect("code")).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn finds_each_member_of_a_use_group() {
        assert_eq!(paths("use a::{b, c::{d, self}};"), ["use", "a::b", "a::c::d", "a::c::self"]);
    }

    #[test]
    fn finds_paths_in_code_types_and_macros() {
        let code = r#"fn f(x: std::net::IpAddr) { vec![std::fs::read("std::process::exit")?] }"#;
        let found = paths(code);
        assert!(found.contains(&"std::net::IpAddr".into()) && found.contains(&"std::fs::read".into()), "{found:?}");
        assert!(!found.iter().any(|path| path.contains("process")), "{found:?}");
    }

    #[test]
    fn leaves_test_code_out() {
        assert_eq!(paths("#[cfg(test)] mod tests { use std::fs; } use a::b;"), ["use", "a::b"]);
        assert_eq!(paths("#[cfg(test)] mod tests; use a::b;"), ["use", "a::b"]);
    }
}
