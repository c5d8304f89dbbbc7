//! ARCHITECTURE.md names everything at the top level: crates, and the library's modules.

use std::collections::BTreeSet;
use std::fs;

use super::sources::Source;
use crate::command::root;

/// What is not named.
pub fn check(sources: &[Source]) -> Vec<String> {
    let text = match fs::read_to_string(root().join("ARCHITECTURE.md")) {
        Ok(text) => text,
        Err(error) => return vec![format!("cannot read ARCHITECTURE.md: {error}")],
    };
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c)).collect();
    let unnamed = |name: &String| !words.contains(name.as_str());
    folders(sources).into_iter().filter(unnamed).map(|name| format!("ARCHITECTURE.md does not name `{name}`")).collect()
}

/// `netwatch-common`, `tests` …, and `flow`, `probe` … of the library.
fn folders(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let mut parts = source.path.split('/');
        let krate = parts.next().unwrap_or_default();
        names.insert(krate.to_owned());
        if let (Some("src"), Some(module), Some(_)) = (parts.next(), parts.next(), parts.next())
            && krate == "netwatch"
        {
            names.insert(module.to_owned());
        }
    }
    names
}
