//! Comments outside Rust and Markdown: SQL, scripts, manifests and settings of CI.

use std::fs;

use super::prose::MAX_COLUMNS;
use super::sources::{FOLDERS, collect};
use crate::Result;
use crate::command::root;

/// Files that are in no folder of sources.
const SINGLE_FILES: [&str; 14] = [
    ".ci/run",
    ".github/action/check.sh",
    ".github/action/install.sh",
    ".github/workflows/ci.yml",
    ".github/workflows/release.yml",
    "Cargo.toml",
    "action.yml",
    "deny.toml",
    "docs/gitlab.yml",
    "netwatch-common/Cargo.toml",
    "netwatch-ebpf/Cargo.toml",
    "netwatch/Cargo.toml",
    "tests/Cargo.toml",
    "xtask/Cargo.toml",
];
/// Languages whose comments fill lines of their own.
const EXTENSIONS: [&str; 4] = ["js", "sh", "sql", "toml"];

/// Comment lines that are too long.
pub fn long_comments() -> Result<Vec<String>> {
    let mut paths = SINGLE_FILES.map(String::from).to_vec();
    for folder in FOLDERS {
        collect(&root().join(folder), &EXTENSIONS, &mut paths)?;
    }
    // Snapshots are output of netwatch, which may be wider.
    paths.retain(|path| !path.contains("/snapshots/"));
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(root().join(&path)).map_err(|error| format!("cannot read {path}: {error}"))?;
        found.extend(long_lines(&path, &text));
    }
    Ok(found)
}

fn long_lines(path: &str, text: &str) -> Vec<String> {
    let is_comment = |line: &str| ["#", "//", "--"].iter().any(|mark| line.trim_start().starts_with(mark));
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line, line.chars().count()));
    lines
        .filter(|(_, line, columns)| is_comment(line) && *columns > MAX_COLUMNS)
        .map(|(number, _, columns)| format!("{path}:{number}: {columns} columns; at most {MAX_COLUMNS}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_long_comments_and_no_long_code() {
        let long = "x".repeat(MAX_COLUMNS);
        let text = format!("# short\n# {long}\n{long}{long}\n  -- {long}\n// {long}\n");
        assert_eq!(long_lines("f", &text).len(), 3);
    }
}
