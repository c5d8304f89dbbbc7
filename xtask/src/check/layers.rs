//! Who may use whom, as ARCHITECTURE.md has it. A rule is a folder and the paths that must not be named in it.

use super::paths::{Named, named};
use super::sources::Source;

/// Modules without I/O and clock.
const PURE: [&str; 8] = ["wire", "flow", "name", "process", "report", "policy", "diff", "encode"];

/// What a module without I/O, clock and unsafe code cannot name.
const IO: [&str; 22] = [
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

/// Code for the kernel and for both sides has no operating system below it.
const KERNEL_SIDE: [&str; 3] = ["std", "libc", "nix"];

/// Everything wrong with this file's dependencies.
pub fn check(source: &Source) -> Vec<String> {
    let Some((folder, is_test)) = module(&source.path) else { return Vec::new() };
    if is_test {
        return Vec::new();
    }
    let wrong = |named: &Named| {
        let why = forbidden(folder, &named.path)?;
        Some(format!("{}:{}: `{}`: {why}", source.path, named.line, named.path))
    };
    named(&source.tokens).iter().filter_map(wrong).collect()
}

/// The crate or, in the library, the top-level module; and whether it is a file of tests (`mod tests;`).
fn module(path: &str) -> Option<(&str, bool)> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    let (krate, rest) = path.split_once("/src/")?;
    let module = rest.split('/').next()?.trim_end_matches(".rs");
    Some((if krate == "netwatch" { module } else { krate }, is_test))
}

fn forbidden(module: &str, path: &str) -> Option<String> {
    let named = |list: &[&str]| list.iter().any(|item| begins(path, item) || path.ends_with(&format!("::{item}")));
    let crate_module = path.strip_prefix("crate::").map(|rest| rest.split("::").next().unwrap_or(rest));
    let only = |allowed: &[&str]| crate_module.is_some_and(|used| used != module && !allowed.contains(&used));
    let used = crate_module.unwrap_or_default();
    match module {
        "netwatch-common" | "netwatch-ebpf" if named(&KERNEL_SIDE) => Some(format!("{module} is no_std")),
        "netwatch-common" if begins(path, "aya_ebpf") => Some("what is shared knows neither side".into()),
        "netwatch-common" | "netwatch-ebpf" | "tests" | "xtask" => None,
        _ if PURE.contains(&module) => pure(module, path, named(&IO), only(&PURE)),
        "probe" if only(&[&PURE[..], &["error", "faults"]].concat()) => Some("probe uses pure modules only".into()),
        "probe" => None,
        _ if begins(path, "aya") || begins(path, "aya_log") => Some("only probe uses aya".into()),
        _ if module != "record" && begins(path, "rusqlite") => Some("only record uses rusqlite".into()),
        _ if module != "export" && begins(path, "parquet") => Some("only export uses parquet".into()),
        "record" if only(&[&PURE[..], &["error", "rights", "sink", "target"]].concat()) => {
            Some("record uses pure modules, rights, target and sink only".into())
        }
        "export" if only(&[&PURE[..], &["error", "sink"]].concat()) => {
            Some("export uses pure modules and sink only".into())
        }
        "escape" if crate_module.is_some_and(|used| used != module) => Some("escape uses nothing of ours".into()),
        "error" if only(&["escape"]) => Some("error uses escape only".into()),
        "rights" if only(&["error", "target"]) => Some("rights uses target only".into()),
        "capture" if only(&[&PURE[..], &["error"]].concat()) => Some("capture uses pure modules only".into()),
        "replay" if only(&[&PURE[..], &["capture", "error", "netns", "probe"]].concat()) => {
            Some("replay uses capture, probe, netns and pure modules only".into())
        }
        "sink" | "tui" if only(&[&PURE[..], &["error", "escape"]].concat()) => {
            Some(format!("{module} uses pure modules only"))
        }
        "netns" | "dns" | "target" | "state" | "guardian" | "doctor"
            if ["cli", "sink", "run", "pipeline"].contains(&used) =>
        {
            Some(format!("{module} is below {used}"))
        }
        _ => None,
    }
}

fn pure(module: &str, path: &str, io: bool, other: bool) -> Option<String> {
    if io {
        return Some(format!("{module} is pure: no I/O, no clock, no aya"));
    }
    if path == "unsafe" {
        return Some(format!("{module} is pure: no unsafe code"));
    }
    other.then(|| format!("{module} is pure: it uses pure modules only"))
}

/// Whether `path` is `item` or something in it.
fn begins(path: &str, item: &str) -> bool {
    path.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(path: &str, code: &str) -> bool {
        let source = Source { path: path.into(), text: code.into(), tokens: code.parse().expect("code") };
        !check(&source).is_empty()
    }

    #[test]
    fn the_rules_hold() {
        let table = [
            ("netwatch/src/flow/key.rs", "use std::net::{IpAddr, TcpStream};", true),
            ("netwatch/src/flow/key.rs", "use std::net::IpAddr;", false),
            ("netwatch/src/flow/key.rs", "use crate::probe::Drain;", true),
            ("netwatch/src/flow/key.rs", "use crate::wire::Head; use super::Counters;", false),
            ("netwatch/src/flow/key.rs", "fn f() { unsafe { g() } }", true),
            ("netwatch/src/flow/key.rs", "fn now() { std::time::Instant::now(); }", true),
            ("netwatch/src/flow/tests.rs", "use std::fs;", false),
            ("netwatch/src/probe/load.rs", "use aya::Ebpf;", false),
            ("netwatch/src/probe/load.rs", "use crate::cli::Cli;", true),
            ("netwatch/src/netns/link.rs", "use aya::Ebpf;", true),
            ("netwatch/src/netns/link.rs", "use crate::cli::Cli;", true),
            ("netwatch/src/capture/mod.rs", "use crate::error::Error; use std::fs::File;", false),
            ("netwatch/src/capture/mod.rs", "use crate::probe::host::Host;", true),
            ("netwatch/src/replay/mod.rs", "use crate::{capture, flow, probe};", false),
            ("netwatch/src/replay/mod.rs", "use crate::cli::Cli;", true),
            ("netwatch/src/sink/json.rs", "use crate::report::Report; use std::fs::File;", false),
            ("netwatch/src/sink/json.rs", "use crate::{flow, probe};", true),
            ("netwatch/src/cli/run.rs", "use crate::{flow, run, sink};", false),
            ("netwatch/src/record/read.rs", "use rusqlite::Connection; use crate::{report, rights, target};", false),
            ("netwatch/src/record/read.rs", "use crate::run::Plan;", true),
            ("netwatch/src/cli/history.rs", "use rusqlite::Connection;", true),
            ("netwatch/src/export/flows.rs", "use crate::{report, sink};", false),
            ("netwatch/src/export/flows.rs", "use crate::record;", true),
            ("netwatch/src/sink/csv.rs", "use parquet::basic::Type;", true),
            ("netwatch-common/src/lib.rs", "use std::fmt;", true),
            ("netwatch-common/src/lib.rs", "use core::fmt;", false),
        ];
        for (path, code, wrong) in table {
            assert_eq!(is_wrong(path, code), wrong, "{path}: {code}");
        }
    }
}
