//! ARCHITECTURE.md is short and names every crate, and its tables of modules equal `modules.rs`.
//! The minimum Rust version is stated, and every environment variable is documented.
//!
//! A table stands below a heading that names the folder of the crate. Its columns: module, purity,
//! purpose, the modules that it may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::modules::{CRATES, Crate, Module, Purity};
use super::sources::SourceFile;
use crate::command::root;

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Maximum number of lines of the document, which is an overview. Reasons belong in
/// docs/decisions.md.
const MAX_LINES: usize = 249;

/// Everything in which the document differs from the sources.
pub fn check(sources: &[SourceFile]) -> Vec<String> {
    match fs::read_to_string(root().join(DOCUMENT)) {
        Ok(text) => {
            let tables = CRATES.iter().flat_map(|krate| differences(&text, krate));
            too_long(&text).into_iter().chain(unnamed_crates(&text, sources)).chain(tables).collect()
        }
        Err(error) => vec![format!("cannot read {DOCUMENT}: {error}")],
    }
}

fn too_long(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{DOCUMENT} has {lines} lines, more than {MAX_LINES}"))
}

/// The minimum supported Rust version of Cargo.toml is the pinned toolchain, so every build
/// verifies it, and the README states it.
pub fn check_rust_version() -> Vec<String> {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    let Some(minimum) = value(&read("Cargo.toml"), "rust-version") else {
        return vec!["Cargo.toml: no rust-version".to_owned()];
    };
    let mut wrong = Vec::new();
    let pinned = value(&read("rust-toolchain.toml"), "channel").unwrap_or_default();
    if pinned != minimum && !pinned.starts_with(&format!("{minimum}.")) {
        wrong.push(format!("rust-toolchain.toml pins {pinned}, and Cargo.toml has rust-version {minimum}"));
    }
    if !read("README.md").contains(&format!("Rust {minimum}")) {
        wrong.push(format!("README.md does not state the minimum version, Rust {minimum}"));
    }
    wrong
}

/// The variables in the sources of the command line are those of the manual.
pub fn check_environment(sources: &[SourceFile]) -> Vec<String> {
    const MANUAL: &str = "docs/reference.md";
    let text = fs::read_to_string(root().join(MANUAL)).unwrap_or_default();
    let documented = variables(&text);
    let code = sources.iter().filter(|source| source.path.starts_with("netwatch/src/cli/"));
    let used: BTreeSet<&str> = code.flat_map(|source| variables(&source.text)).collect();
    let missing = used.difference(&documented).map(|name| format!("{MANUAL} does not document {name}"));
    // Read by the run itself, not by a flag, or set for the command.
    let extra = documented.difference(&used).filter(|name| !["NETWATCH_LOG", "NETWATCH_GATEWAY"].contains(*name));
    missing.chain(extra.map(|name| format!("{MANUAL}: no flag reads {name}"))).collect()
}

/// The names of variables (`NETWATCH_…`) in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    words.filter(|word| word.strip_prefix("NETWATCH_").is_some_and(|rest| !rest.is_empty())).collect()
}

/// Crates that the document does not name.
fn unnamed_crates(text: &str, sources: &[SourceFile]) -> impl Iterator<Item = String> {
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).collect();
    let crates: BTreeSet<&str> = sources.iter().filter_map(|source| source.path.split('/').next()).collect();
    crates
        .into_iter()
        .filter(move |name| !words.contains(name))
        .map(|name| format!("{DOCUMENT} does not name `{name}`"))
}

/// In which rows the document's table of one crate differs from `modules.rs`.
fn differences(text: &str, krate: &Crate) -> Vec<String> {
    let documented = rows(text, krate.folder);
    let listed: BTreeMap<&str, [String; 2]> =
        krate.modules.iter().map(|module| (module.name, cells(krate, module))).collect();
    let mut wrong = Vec::new();
    for (name, [pure, uses]) in &listed {
        if documented.get(name).is_none_or(|cells| cells[0] != pure || cells[1] != uses) {
            let folder = krate.folder;
            wrong
                .push(format!("{DOCUMENT}, `{folder}`: the row has to be: | `{name}` | {pure} | (purpose) | {uses} |"));
        }
    }
    let extra = documented.keys().filter(|name| !listed.contains_key(*name));
    wrong.extend(extra.map(|name| format!("{DOCUMENT}, `{}`: there is no module `{name}`", krate.folder)));
    wrong
}

/// What the document has to contain about a module, besides its purpose.
fn cells(krate: &Crate, module: &Module) -> [String; 2] {
    let above = krate.modules.iter().take_while(|other| other.name != module.name);
    let uses_all = module.uses.len() > 20 && above.into_iter().all(|other| module.uses.contains(&other.name));
    let uses = if uses_all { "every module above".to_owned() } else { used_modules(module.uses) };
    let purity = match module.purity {
        Purity::Pure => "pure",
        Purity::Unsafe => "pure, unsafe",
        Purity::Effectful => "",
    };
    [purity.to_owned(), uses]
}

/// `a`, `b` (`part`, `part`), …
fn used_modules(uses: &[&str]) -> String {
    let groups = uses.chunk_by(|one, next| one.split("::").next() == next.split("::").next());
    let group = |group: &[&str]| match group[0].split_once("::") {
        None => format!("`{}`", group[0]),
        Some((module, _)) => {
            let parts: Vec<String> = group.iter().map(|used| format!("`{}`", &used[module.len() + 2..])).collect();
            format!("`{module}` ({})", parts.join(", "))
        }
    };
    groups.map(group).collect::<Vec<String>>().join(", ")
}

/// The rows of the first table below the heading that names this folder: module → purity, uses.
fn rows<'a>(text: &'a str, folder: &str) -> BTreeMap<&'a str, [&'a str; 2]> {
    let is_heading = |line: &&str| line.starts_with('#') && line.contains(&format!("`{folder}`"));
    let below = text.lines().skip_while(|line| !is_heading(line)).skip(1);
    let table = below.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.filter_map(row).collect()
}

fn row(line: &str) -> Option<(&str, [&str; 2])> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, pure, _purpose, uses] = cells[..] else { return None };
    Some((name.strip_prefix('`')?.strip_suffix('`')?, [pure, uses]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "## `x/src`\n\n| module | pure | purpose | may use |\n|---|---|---|---|\n\
        | `low` | pure | data | |\n| `high` | | all else | `low` |\n\n## `y/src`\n";

    #[test]
    fn limits_the_length_of_the_document() {
        assert_eq!(too_long(&"line\n".repeat(MAX_LINES)), None);
        assert!(too_long(&"line\n".repeat(MAX_LINES + 1)).is_some());
    }

    #[test]
    fn compares_rows_with_the_table() {
        let low = Module { name: "low", purity: Purity::Pure, uses: &[] };
        let high = Module { name: "high", purity: Purity::Effectful, uses: &["low"] };
        let differences = |modules: Vec<Module>| {
            differences(TABLE, &Crate { name: "x", folder: "x/src", modules: modules.leak() }).len()
        };
        assert_eq!(differences(vec![low, high]), 0);
        assert_eq!(
            differences(vec![Module { name: "low", purity: Purity::Effectful, uses: &[] }]),
            2,
            "low is pure, high is extra"
        );
    }
}
