//! Rules that the sources do not keep everywhere yet: how often each may be broken. The numbers
//! only go down.

use super::help::long_helps;
use super::prose::{MarkdownFile, banned_words, long_lines};
use super::shape::small_files;
use super::sources::SourceFile;
use super::types::{duplicates, used_as_words};

/// A rule and everything that breaks it.
struct RatchetRule {
    name: &'static str,
    max: usize,
    found: Vec<String>,
}

/// What is broken more often than today. With `list`, prints every finding, also the permitted
/// ones.
pub fn check(sources: &[SourceFile], documents: &[MarkdownFile], list: bool) -> Vec<String> {
    let rules = [
        RatchetRule { name: "long lines of prose", max: 0, found: long_lines(sources, documents) },
        RatchetRule { name: "banned words", max: 0, found: banned_words(sources, documents) },
        RatchetRule { name: "long help texts", max: 0, found: long_helps(sources) },
        RatchetRule { name: "duplicate type names", max: 0, found: duplicates(sources) },
        RatchetRule { name: "type names as words", max: 0, found: used_as_words(sources) },
        RatchetRule { name: "small files", max: 0, found: small_files(sources) },
    ];
    if list {
        rules.iter().flat_map(|rule| &rule.found).for_each(|line| println!("{line}"));
    }
    rules.iter().flat_map(RatchetRule::verdict).collect()
}

impl RatchetRule {
    fn verdict(&self) -> Vec<String> {
        let Self { name, max, found } = self;
        let count = found.len();
        if count < *max {
            println!("{name}: {count}, permitted {max}: lower it in xtask/src/check/ratchet.rs");
        }
        if count <= *max {
            return Vec::new();
        }
        if *max == 0 {
            return found.clone();
        }
        vec![format!("{name}: {count}, permitted {max}: `cargo xtask check --list` names them")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fails_when_it_is_broken_more_often_than_permitted() {
        let verdict =
            |max, count| RatchetRule { name: "x", max, found: vec![String::from("a"); count] }.verdict().len();
        assert_eq!(verdict(2, 2), 0);
        assert_eq!(verdict(2, 3), 1);
        assert_eq!(verdict(0, 3), 3, "each is named where none is permitted");
    }
}
