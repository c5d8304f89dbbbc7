//! Type names are unique in the workspace: one name, one concept. Comments contain them in
//! backticks only: elsewhere, a sentence has the word of the field.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::SourceFile;

/// Names that several types have on purpose, and why.
const SHARED_NAMES: &[(&str, &str)] = &[("Result", "the alias of a crate for its own error type")];

/// Names of types that stand for more than one, with each place.
pub fn duplicates(sources: &[SourceFile]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        for name in types(&source.syntax.items) {
            let place = format!("{}:{}", source.path, name.span().start().line);
            places.entry(name.to_string()).or_default().push(place);
        }
    }
    let is_shared = |name: &str| SHARED_NAMES.iter().any(|(shared, _)| *shared == name);
    let several = places.iter().filter(|(name, places)| places.len() > 1 && !is_shared(name));
    several.map(|(name, places)| format!("{} types are called `{name}`: {}", places.len(), places.join(", "))).collect()
}

/// Names that are also terms of a protocol.
const TERMS: [&str; 2] = ["ClientHello", "ServerHello"];

/// Comments in which the name of a type of several words (`NftHook`) stands like a word.
pub fn used_as_words(sources: &[SourceFile]) -> Vec<String> {
    let names: BTreeSet<String> = sources
        .iter()
        .flat_map(|source| types(&source.syntax.items))
        .map(ToString::to_string)
        .filter(|name| has_several_words(name) && !TERMS.contains(&name.as_str()))
        .collect();
    let mut found = Vec::new();
    for source in sources {
        let comments = source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (at, line) in comments {
            let prose = without_code(line);
            let words = prose.split(|c: char| !c.is_alphanumeric() && c != ':').map(|word| word.trim_matches(':'));
            let is_name =
                |word: &&str| names.contains(*word) || word.strip_suffix('s').is_some_and(|one| names.contains(one));
            found.extend(words.filter(is_name).map(|word| {
                format!(
                    "{}:{}: the type `{word}` as a word; write the word of the field, or backticks",
                    source.path,
                    at + 1
                )
            }));
        }
    }
    found
}

/// Whether a capital follows a small letter.
fn has_several_words(name: &str) -> bool {
    name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

/// A line of a comment without what stands in backticks, brackets or the target of a link.
fn without_code(line: &str) -> String {
    let mut prose = String::new();
    let mut end = None;
    for c in line.chars() {
        match end {
            Some(closing) if c == closing => end = None,
            Some(_) => continue,
            None if c == '`' => end = Some('`'),
            None if c == '[' => end = Some(']'),
            None if c == '(' && prose.ends_with(']') => end = Some(')'),
            None => {}
        }
        prose.push(c);
    }
    prose
}

/// The types that these items define, in modules of the same file too, except in tests.
fn types(items: &[syn::Item]) -> Vec<&syn::Ident> {
    let mut found = Vec::new();
    for item in items {
        match item {
            syn::Item::Struct(item) => found.push(&item.ident),
            syn::Item::Enum(item) => found.push(&item.ident),
            syn::Item::Union(item) => found.push(&item.ident),
            syn::Item::Trait(item) => found.push(&item.ident),
            syn::Item::Type(item) => found.push(&item.ident),
            syn::Item::Mod(module) if module.ident != "tests" => {
                found.extend(module.content.iter().flat_map(|(_, items)| types(items)));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_type_names_in_sentences() {
        let code = "/// NftHook and policy of a ClientHello, see `NftHook`, [`NftHook`](crate::NftHook).\n\
            struct NftHook;\n// Two NftHooks: Entry has one word.\nstruct Entry;\nstruct ClientHello;\n";
        let found = used_as_words(&[SourceFile::parse("a.rs", code).expect("code")]);
        let lines: Vec<&str> = found.iter().filter_map(|text| text.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "3"], "{found:?}");
    }

    #[test]
    fn finds_types_with_the_same_name() {
        let source = |path, code| SourceFile::parse(path, code).expect("code");
        let sources = [
            source("a.rs", "struct Entry; type Result = (); mod inner { enum Step {} }"),
            source("b.rs", "pub enum Entry {} type Result = (); trait Step {} mod tests { struct Other; }"),
            source("c/tests.rs", "struct Step; struct Entry;"),
        ];
        let found = duplicates(&sources);
        assert_eq!(found, ["2 types are called `Entry`: a.rs:1, b.rs:1", "2 types are called `Step`: a.rs:1, b.rs:1"]);
    }
}
