//! Every Rust file of the workspace, read and parsed once.

use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;

use crate::Result;
use crate::command::root;

/// One file.
pub struct SourceFile {
    /// Path from the top of the repository, with `/`.
    pub path: String,
    /// The text of the file.
    pub text: String,
    /// The tokens of the file: no comments.
    pub tokens: TokenStream,
    /// The same as a syntax tree.
    pub syntax: syn::File,
    /// Whether the file is compiled for tests only.
    pub is_test: bool,
}

/// Where sources are.
pub const FOLDERS: [&str; 10] = [
    "netwatch/src",
    "netwatch/tests",
    "netwatch/benches",
    "netwatch-common/src",
    "netwatch-common/tests",
    "netwatch-ebpf/src",
    "tests/src",
    "tests/tests",
    "tests/fuzz",
    "xtask/src",
];

impl SourceFile {
    /// Parses the text of a file.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot parse {path}: {error}");
        let tokens: TokenStream = text.parse().map_err(|error| failed(&error))?;
        let syntax = syn::parse2(tokens.clone()).map_err(|error| failed(&error))?;
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tokens, syntax, is_test })
    }
}

/// All of them, sorted by path.
pub fn all() -> Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &["rs"], &mut paths)?;
    }
    paths.sort();
    let mut sources = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let test_modules: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        source.is_test |= test_modules.iter().any(|module| is_in(&source.path, module));
    }
    Ok(sources)
}

fn read(path: &str) -> Result<SourceFile> {
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
    SourceFile::parse(path, &text)
}

/// Adds the files with one of these extensions, also those in subfolders.
pub fn collect(folder: &Path, extensions: &[&str], paths: &mut Vec<String>) -> Result {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, extensions, paths)?;
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            let relative = path.strip_prefix(root()).expect("the folder is in the repository");
            paths.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The modules that a file declares for tests only (`#[cfg(test)] mod testing;`), as paths without
/// `.rs`.
fn test_modules(source: &SourceFile) -> Vec<String> {
    let without_extension = source.path.trim_end_matches(".rs");
    let (folder, name) = without_extension.rsplit_once('/').unwrap_or(("", without_extension));
    let folder = if ["mod", "lib", "main"].contains(&name) { folder } else { without_extension };
    let declared = source.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_for_tests(&module.attrs) => Some(&module.ident),
        _ => None,
    });
    declared.map(|name| format!("{folder}/{name}")).collect()
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |list: &syn::MetaList| list.path.is_ident("cfg") && list.tokens.to_string() == "test";
    attributes.iter().any(|attribute| attribute.meta.require_list().is_ok_and(is_test))
}

/// Whether a file is the module, or below it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_modules_declared_for_tests() {
        let code = "#[cfg(test)] pub(crate) mod testing; mod other; #[cfg(test)] mod tests { fn f() {} }";
        let declared = |path| test_modules(&SourceFile::parse(path, code).expect("code"));
        assert_eq!(declared("netwatch/src/wire/mod.rs"), ["netwatch/src/wire/testing"]);
        assert_eq!(declared("netwatch/src/wire.rs"), ["netwatch/src/wire/testing"]);
        assert!(is_in("netwatch/src/wire/testing.rs", "netwatch/src/wire/testing"));
        assert!(is_in("netwatch/src/wire/testing/tls.rs", "netwatch/src/wire/testing"));
        assert!(!is_in("netwatch/src/wire/testings.rs", "netwatch/src/wire/testing"));
    }
}
