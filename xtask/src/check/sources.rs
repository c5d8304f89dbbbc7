//! Every Rust file of the workspace, parsed once.

use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;

use crate::Result;
use crate::command::root;

/// One file.
pub struct Source {
    /// Path from the top of the repository, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// Its tokens: no comments, and no code in strings.
    pub tokens: TokenStream,
}

/// Where sources are.
const FOLDERS: [&str; 7] = [
    "netwatch/src",
    "netwatch/tests",
    "netwatch-common/src",
    "netwatch-ebpf/src",
    "tests/src",
    "tests/tests",
    "xtask/src",
];

/// All of them, in the order of their paths.
pub fn all() -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut paths)?;
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &str) -> Result<Source> {
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
    let tokens = text.parse().map_err(|error| format!("cannot parse {path}: {error}"))?;
    Ok(Source { path: path.to_owned(), text, tokens })
}

fn collect(folder: &Path, paths: &mut Vec<String>) -> Result {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).expect("below the top");
            paths.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
