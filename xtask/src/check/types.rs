//! Type names are unique in the workspace: one name, one concept.

use std::collections::BTreeMap;

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
