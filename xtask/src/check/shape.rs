//! Sizes of files and functions, and the first line of every module.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::sources::SourceFile;

/// Lines of the longest function, signature included. Most are under 25.
const FUNCTION_LINES: usize = 80;
/// Lines of the longest file.
const FILE_LINES: usize = 500;
/// Lines of the shortest file that needs no reason.
const SMALL_FILE_LINES: usize = 40;

/// Small files, and why each is a file of its own.
const SMALL_FILES: &[(&str, &str)] = &[
    ("netwatch/src/cli/top.rs", "one subcommand, one file"),
    ("netwatch/src/dashboard/rows/losses.rs", "one table, one file"),
    ("netwatch/src/guardian/terminal.rs", "what the guardian does to a terminal"),
    ("netwatch-common/src/pod.rs", "only compiled with the feature `user`"),
    ("netwatch-common/src/stage.rs", "the elements of one map, for both sides"),
    ("netwatch-common/src/stat.rs", "the elements of one map, for both sides"),
    ("netwatch-ebpf/src/bin/process/local_socket.rs", "the programs of one hook"),
    ("netwatch-ebpf/src/bin/reference/steer.rs", "the bench includes it too"),
    ("netwatch-ebpf/src/fragment.rs", "the access to one map"),
    ("netwatch-ebpf/src/stat.rs", "the access to one map"),
    ("netwatch/src/commands/export.rs", "one subcommand, one file"),
    ("netwatch/src/commands/ports.rs", "one subcommand, one file"),
    ("netwatch/src/export/csv.rs", "one format, one file"),
    ("netwatch/src/format/diff/markdown.rs", "one format, one file"),
    ("netwatch/src/policy/page.rs", "one format, one file"),
    ("netwatch/src/wire/proxy_header.rs", "one protocol, one file"),
    ("tests/fuzz/fuzz_targets/names.rs", "libFuzzer needs a program for each target"),
    ("tests/fuzz/fuzz_targets/records.rs", "libFuzzer needs a program for each target"),
    ("tests/fuzz/fuzz_targets/wire.rs", "libFuzzer needs a program for each target"),
    ("tests/src/random.rs", "tests and tasks use it"),
    ("tests/src/storm/parallel.rs", "one kind of storm, one file"),
    ("tests/src/netwatch_binary.rs", "finding the program, apart from running it"),
    ("xtask/src/bench/engine/micro/gate.rs", "an entry point of its own"),
    ("xtask/src/bench/engine/micro/size.rs", "measures something else than its neighbors"),
    ("xtask/src/bench/engine/stats.rs", "every part of the bench uses it"),
    ("xtask/src/dependencies.rs", "one task, one file"),
    ("xtask/src/dist/archive.rs", "packing, apart from what is packed"),
];

/// Everything wrong with the shape of this file.
pub fn check(source: &SourceFile) -> Vec<String> {
    let path = &source.path;
    let mut wrong = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        wrong.push(format!("{path}: {lines} lines; at most {FILE_LINES}: split it"));
    }
    if !source.is_test && !source.text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
        wrong.push(format!("{path}:1: the first line has to be the purpose of the module: `//! …`"));
    }
    LongFunctions { path, found: &mut wrong }.visit_file(&source.syntax);
    wrong
}

/// Files with so little in them that it belongs into a neighbor, unless a reason is listed; and
/// reasons that are no longer needed.
pub fn small_files(sources: &[SourceFile]) -> Vec<String> {
    let is_small = |source: &&SourceFile| {
        source.text.lines().count() < SMALL_FILE_LINES && !source.path.contains("/tests/") && !is_root(&source.path)
    };
    let small: Vec<&str> = sources.iter().filter(is_small).map(|source| source.path.as_str()).collect();
    let without_reason = small.iter().filter(|path| SMALL_FILES.iter().all(|(listed, _)| listed != *path));
    let not_needed = SMALL_FILES.iter().filter(|(listed, _)| !small.contains(listed));
    without_reason
        .map(|path| format!("{path}: under {SMALL_FILE_LINES} lines and without a reason: merge it"))
        .chain(not_needed.map(|(path, _)| format!("{path}: is not small any more, or gone: remove its reason")))
        .collect()
}

/// Whether a file is the root of a crate or of a folder, which cannot be merged.
fn is_root(path: &str) -> bool {
    ["/mod.rs", "/lib.rs", "/main.rs"].iter().any(|name| path.ends_with(name))
}

struct LongFunctions<'a> {
    path: &'a str,
    found: &'a mut Vec<String>,
}

impl LongFunctions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        let lines = end - start + 1;
        if lines > FUNCTION_LINES {
            let name = &signature.ident;
            let message = format!("{}:{start}: {name} has {lines} lines; at most {FUNCTION_LINES}", self.path);
            self.found.push(message);
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(text: &str) -> usize {
        check(&SourceFile::parse("x.rs", text).expect("code")).len()
    }

    #[test]
    fn long_functions_and_missing_first_lines_are_found() {
        let function = |lines: usize| format!("//! A test.\nfn f() {{\n{}}}\n", "g();\n".repeat(lines));
        assert_eq!(wrongs(&function(78)), 0);
        assert_eq!(wrongs(&function(79)), 1);
        assert_eq!(wrongs("fn f() {}\n"), 1);
        assert_eq!(wrongs(&format!("//! A test.\n{}", "\n".repeat(500))), 1);
    }
}
