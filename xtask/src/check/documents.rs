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
    let unnamed = |name: &String| !text.contains(name.as_str());
    folders(sources).into_iter().filter(unnamed).map(|name| format!("ARCHITECTURE.md does not name `{name}`")).collect()
}

/// `netwatch-common/`, `tests/` …, and `flow/`, `probe/` … of the library.
fn folders(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let mut parts = source.path.split('/');
        let krate = parts.next().unwrap_or_default();
        names.insert(format!("{krate}/"));
        if let (Some("src"), Some(module), Some(_)) = (parts.next(), parts.next(), parts.next())
            && krate == "netwatch"
        {
            names.insert(format!("{module}/"));
        }
    }
    names
}
