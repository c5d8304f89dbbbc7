//! Which module may use which, as `modules.rs` states it: no module without an entry, no use
//! outside its list, no I/O in a pure module, no cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::cycles;
use super::modules::{CRATES, Crate, KNOWN_VIOLATIONS, LIBRARIES, Module, Purity, SHARED};
use super::paths::{NamedPath, named_paths};
use super::sources::SourceFile;

/// What a module without I/O and clock cannot name.
const IMPURE: [&str; 22] = [
    "aya",
    "aya_log",
    "tokio",
    "nix",
    "libc",
    "rtnetlink",
    "netlink_sys",
    "netlink_packet_core",
    "netlink_packet_route",
    "std::fs",
    "std::env",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
];

/// Parts of those that only hold values and their names.
const VALUES: [&str; 2] = ["nix::errno::Errno", "nix::sys::signal::Signal"];

/// Code for the kernel and for both sides has no operating system below it.
const NOT_IN_KERNEL: [&str; 3] = ["std", "libc", "nix"];

/// One use of a module by another one.
struct Use {
    user: String,
    /// From the root of the crate: the module and what is used of it.
    used: String,
    /// `path:line`.
    at: String,
}

/// Everything wrong with the dependencies between modules.
pub fn check(sources: &[SourceFile]) -> Vec<String> {
    CRATES.iter().flat_map(|krate| check_crate(krate, sources, KNOWN_VIOLATIONS)).collect()
}

fn check_crate(krate: &Crate, sources: &[SourceFile], known: &[(&str, &str, &str)]) -> Vec<String> {
    let files: Vec<(&str, &SourceFile)> =
        sources.iter().filter_map(|source| Some((module(krate, &source.path)?, source))).collect();
    let present: BTreeSet<&str> = files.iter().map(|(module, _)| *module).collect();
    let mut wrong = check_entries(krate, &present);
    wrong.extend(check_table(krate));
    let mut uses = Vec::new();
    for (module, source) in files.iter().filter(|(_, source)| !source.is_test) {
        for named in named_paths(&source.tokens) {
            wrong.extend(forbidden_path(krate, module, source, &named));
            uses.extend(use_of(krate, &present, module, source, &named));
        }
    }
    let known: Vec<(&str, &str)> =
        known.iter().filter(|(name, ..)| *name == krate.name).map(|(_, user, used)| (*user, *used)).collect();
    wrong.extend(check_uses(krate, &uses, &known));
    wrong
}

/// The top-level module that a file belongs to. `None` for files of other crates, and for the roots
/// (`lib.rs`, `main.rs`), which may use every module.
fn module<'a>(krate: &Crate, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(krate.folder)?.strip_prefix('/')?;
    let name = rest.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main", "bin"].contains(&name)).then_some(name)
}

fn entry<'a>(krate: &'a Crate, name: &str) -> Option<&'a Module> {
    krate.modules.iter().find(|module| module.name == name)
}

/// Modules without an entry, and entries without a module.
fn check_entries(krate: &Crate, present: &BTreeSet<&str>) -> Vec<String> {
    let listed: BTreeSet<&str> = krate.modules.iter().map(|module| module.name).collect();
    let without_entry = present
        .difference(&listed)
        .map(|name| format!("{}/{name}: the module has no entry in xtask/src/check/modules.rs", krate.folder));
    let without_module = listed
        .difference(present)
        .map(|name| format!("xtask/src/check/modules.rs: {} has no module `{name}`", krate.name));
    without_entry.chain(without_module).collect()
}

/// The table by itself: every used module is listed above its user, so that it permits no cycle,
/// and pure modules use pure modules.
fn check_table(krate: &Crate) -> Vec<String> {
    let mut wrong = Vec::new();
    for (position, module) in krate.modules.iter().enumerate() {
        for used in module.uses.iter().filter(|used| **used != SHARED) {
            let lower = krate.modules[..position].iter().find(|lower| lower.name == top_level(used));
            let why = match lower {
                None => "is not listed above it",
                Some(lower) if module.purity != Purity::Effectful && lower.purity == Purity::Effectful => "is not pure",
                Some(_) => continue,
            };
            wrong.push(format!("xtask/src/check/modules.rs: {} may use {used}, which {why}", module.name));
        }
    }
    wrong
}

/// Paths outside the crate that this module cannot name.
fn forbidden_path(krate: &Crate, module: &str, source: &SourceFile, named: &NamedPath) -> Option<String> {
    let path = named.path.as_str();
    let names = |list: &[&str]| list.iter().any(|item| begins(path, item) || path.ends_with(&format!("::{item}")));
    let purity = entry(krate, module).map_or(Purity::Effectful, |module| module.purity);
    let is_value = VALUES.iter().any(|item| begins(path, item));
    let library = LIBRARIES.iter().find(|(names, _)| names.iter().any(|name| begins(path, name)));
    let is_netwatch = krate.name == "netwatch";
    let reason = match library {
        Some((_, allowed)) if is_netwatch && !allowed.contains(&module) => {
            format!("only {} may use it", allowed.join(", "))
        }
        _ if purity == Purity::Pure && path == "unsafe" => format!("{module} has no unsafe code"),
        _ if purity != Purity::Effectful && names(&IMPURE) && !is_value => {
            format!("{module} is pure: no I/O and no clock")
        }
        _ if !is_netwatch && names(&NOT_IN_KERNEL) => format!("{} has no standard library", krate.name),
        _ if krate.name == "netwatch-common" && begins(path, "aya_ebpf") => {
            "the shared crate depends on neither side".to_owned()
        }
        _ => return None,
    };
    Some(format!("{}:{}: `{path}`: {reason}", source.path, named.line))
}

/// The module that a path from the root of the crate begins with.
fn top_level(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// Whether `path` is `item` or something in it.
fn begins(path: &str, item: &str) -> bool {
    path.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The use of another module of the crate, or of the shared crate, that a path is.
fn use_of(
    krate: &Crate,
    present: &BTreeSet<&str>,
    module: &str,
    source: &SourceFile,
    named: &NamedPath,
) -> Option<Use> {
    let used = if krate.name == "netwatch" && begins(&named.path, SHARED) {
        SHARED
    } else {
        let used = from_root(krate, &source.path, &named.path)?;
        Some(used).filter(|used| present.contains(top_level(used)) && top_level(used) != module)?
    };
    let at = format!("{}:{}", source.path, named.line);
    Some(Use { user: module.to_owned(), used: used.to_owned(), at })
}

/// The rest of a path that begins at the root of the crate: after `crate`, or after as many `super`
/// as the file is deep.
fn from_root<'a>(krate: &Crate, file: &str, path: &'a str) -> Option<&'a str> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest);
    }
    let inside = file.strip_prefix(krate.folder)?.trim_start_matches('/').trim_end_matches(".rs");
    let depth = inside.split('/').filter(|part| *part != "mod").count();
    let mut rest = path;
    for _ in 0..depth {
        rest = rest.strip_prefix("super::")?;
    }
    Some(rest)
}

/// Uses that the table does not permit, known violations that are gone, and cycles in what is left.
fn check_uses(krate: &Crate, uses: &[Use], known: &[(&str, &str)]) -> Vec<String> {
    let permitted = |user: &str, used: &str| {
        entry(krate, user).is_none_or(|module| module.uses.iter().any(|item| begins(used, item)))
    };
    let mut wrong = Vec::new();
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for Use { user, used, at } in uses {
        let edge = (user.as_str(), top_level(used));
        let is_new = seen.insert((user.as_str(), used.as_str()));
        if !is_new || known.contains(&edge) {
            continue;
        }
        graph.entry(user).or_default().insert(edge.1);
        if !permitted(user, used) {
            wrong.push(format!("{at}: {user} may not use {used}"));
        }
    }
    wrong.extend(check_unused(krate, &seen));
    let is_seen = |edge: &(&str, &str)| seen.iter().any(|(user, used)| (*user, top_level(used)) == *edge);
    let gone = known.iter().filter(|edge| !is_seen(edge) || permitted(edge.0, edge.1));
    wrong.extend(gone.map(|(user, used)| {
        format!("xtask/src/check/modules.rs: {user} → {used} is no violation any more: remove it")
    }));
    wrong.extend(cycles(&graph).iter().map(|cycle| format!("{}: a cycle: {}", krate.folder, cycle.join(" → "))));
    wrong
}

/// Parts of modules (`host::link`) that are listed and not used. They are listed so that a module
/// reaches no more of another one than it needs.
fn check_unused(krate: &Crate, seen: &BTreeSet<(&str, &str)>) -> Vec<String> {
    let listed = krate.modules.iter().flat_map(|module| module.uses.iter().map(move |used| (module.name, *used)));
    listed
        .filter(|(_, part)| part.contains("::"))
        .filter(|(name, part)| !seen.iter().any(|(user, used)| user == name && begins(used, part)))
        .map(|(name, part)| format!("xtask/src/check/modules.rs: {name} does not use {part}: remove it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: &[Module] = &[
        Module { name: "flow", purity: Purity::Pure, uses: &[] },
        Module { name: "wire", purity: Purity::Pure, uses: &["flow"] },
        Module { name: "meter", purity: Purity::Effectful, uses: &["flow", SHARED] },
        Module { name: "cli", purity: Purity::Effectful, uses: &["meter"] },
    ];

    const NETWATCH: Crate = Crate { name: "netwatch", folder: "netwatch/src", modules: MODULES };

    /// The messages about files with this code, beside an empty file for each module of the table.
    fn check_files(files: &[(&str, &str)], known: &[(&str, &str, &str)]) -> Vec<String> {
        let empty = MODULES.iter().map(|module| (format!("netwatch/src/{}/mod.rs", module.name), ""));
        let given = files.iter().map(|(path, code)| (format!("netwatch/src/{path}"), *code));
        let sources: Vec<SourceFile> =
            empty.chain(given).map(|(path, code)| SourceFile::parse(&path, code).expect("code")).collect();
        check_crate(&NETWATCH, &sources, known)
    }

    #[test]
    fn permits_and_forbids_paths() {
        let table = [
            ("flow/key.rs", "use std::net::{IpAddr, TcpStream};", 1),
            ("flow/key.rs", "use std::net::IpAddr;", 0),
            ("flow/key.rs", "use nix::errno::Errno;", 0),
            ("flow/key.rs", "use nix::unistd::getpid;", 1),
            ("flow/key.rs", "use crate::meter::Drain;", 1),
            ("flow/key.rs", "use super::super::meter::Drain;", 1),
            ("flow/key.rs", "use super::Counters;", 0),
            ("flow/key.rs", "fn f() { unsafe { g() } }", 1),
            ("flow/key.rs", "fn now() { std::time::Instant::now(); }", 1),
            ("flow/tests.rs", "use std::fs;", 0),
            ("wire/tls.rs", "use crate::{flow::Key, wire::Head};", 0),
            ("meter/load.rs", "use aya::Ebpf; use netwatch_common::flow::FlowKey;", 0),
            ("wire/tls.rs", "use netwatch_common::flow::FlowKey;", 1),
            ("meter/load.rs", "use clap::Parser;", 1),
            ("cli/run.rs", "use clap::Parser;", 0),
            ("cli/run.rs", "use aya::Ebpf;", 1),
        ];
        for (path, code, expected) in table {
            let wrong = check_files(&[(path, code)], &[]);
            assert_eq!(wrong.len(), expected, "{path}: {code}: {wrong:?}");
        }
    }

    #[test]
    fn every_module_has_an_entry_and_every_entry_a_module() {
        assert_eq!(check_files(&[("tui/mod.rs", "")], &[]).len(), 1);
        assert_eq!(check_crate(&NETWATCH, &[], &[]).len(), MODULES.len());
    }

    #[test]
    fn finds_cycles_between_modules() {
        let wrong = check_files(&[("cli/run.rs", "use crate::meter;"), ("meter/load.rs", "use crate::cli;")], &[]);
        assert!(wrong.iter().any(|line| line.ends_with("a cycle: cli → meter → cli")), "{wrong:?}");
    }

    #[test]
    fn a_part_of_a_module_permits_that_part_and_has_to_be_used() {
        let modules = |uses| -> &'static [Module] {
            vec![
                Module { name: "host", purity: Purity::Effectful, uses: &[] },
                Module { name: "guardian", purity: Purity::Effectful, uses },
            ]
            .leak()
        };
        let wrong = |uses, code| {
            let krate = Crate { name: "netwatch", folder: "netwatch/src", modules: modules(uses) };
            let files = [("netwatch/src/host/mod.rs", ""), ("netwatch/src/guardian/mod.rs", code)];
            let sources = files.map(|(path, code)| SourceFile::parse(path, code).expect("code"));
            check_crate(&krate, &sources, &[])
        };
        assert_eq!(wrong(&["host::link"], "use crate::host::link::{self, Counters};"), [""; 0]);
        assert_eq!(wrong(&["host"], "use crate::host::nat;"), [""; 0]);
        assert_eq!(wrong(&["host::link"], "use crate::host::{link, nat};").len(), 1);
        assert_eq!(wrong(&["host::link", "host::nat"], "use crate::host::link;").len(), 1);
    }

    #[test]
    fn known_violations_pass_until_they_are_gone() {
        let known = [("netwatch", "flow", "meter")];
        assert_eq!(check_files(&[("flow/key.rs", "use crate::meter;")], &known), [""; 0]);
        assert_eq!(check_files(&[], &known).len(), 1);
    }

    #[test]
    fn a_table_lists_used_modules_first_and_keeps_pure_modules_pure() {
        let modules = vec![
            Module { name: "io", purity: Purity::Effectful, uses: &[] },
            Module { name: "flow", purity: Purity::Pure, uses: &["io", "wire"] },
            Module { name: "wire", purity: Purity::Pure, uses: &[] },
        ];
        assert_eq!(check_table(&Crate { name: "x", folder: "x/src", modules: modules.leak() }).len(), 2);
    }

    #[test]
    fn kernel_code_has_no_standard_library() {
        let modules = vec![Module { name: "flow", purity: Purity::Pure, uses: &[] }].leak();
        let krate = Crate { name: "netwatch-common", folder: "netwatch-common/src", modules };
        let wrong =
            |code| check_crate(&krate, &[SourceFile::parse("netwatch-common/src/flow.rs", code).expect("code")], &[]);
        assert_eq!(wrong("use std::fmt;").len(), 1);
        assert_eq!(wrong("use core::fmt;").len(), 0);
        assert_eq!(wrong("use aya_ebpf::helpers;").len(), 1);
    }
}
