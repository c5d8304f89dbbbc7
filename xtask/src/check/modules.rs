//! The modules of netwatch, what each may use, and which are pure. Data only; `layers.rs` checks
//! the sources against it, and `documents.rs` compares it with the tables of ARCHITECTURE.md.

/// A crate and its top-level modules. `lib.rs` and `main.rs` may use all of them.
pub struct Crate {
    /// As ARCHITECTURE.md names it.
    pub name: &'static str,
    /// The folder of its sources, from the top of the repository.
    pub folder: &'static str,
    /// Lowest first.
    pub modules: &'static [Module],
}

/// A top-level module: a file or a folder.
pub struct Module {
    /// Without `.rs`.
    pub name: &'static str,
    /// What it may contain.
    pub purity: Purity,
    /// The other modules of the crate, parts of them (`host::link`), and crates of the workspace,
    /// that it may use.
    pub uses: &'static [&'static str],
}

/// What a module may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purity {
    /// No I/O, no clock, no unsafe code.
    Pure,
    /// No I/O and no clock, but unsafe code: the rules of accounting work on raw memory.
    Unsafe,
    /// Anything. The two others may not use such a module.
    Effectful,
}

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Module {
    Module { name, purity: Purity::Pure, uses }
}

const fn unsafe_pure(name: &'static str, uses: &'static [&'static str]) -> Module {
    Module { name, purity: Purity::Unsafe, uses }
}

const fn effectful(name: &'static str, uses: &'static [&'static str]) -> Module {
    Module { name, purity: Purity::Effectful, uses }
}

/// The shared crate: pure by definition, and usable everywhere.
pub const SHARED: &str = "netwatch_common";

/// Every crate that has an entry for each module.
pub const CRATES: [Crate; 4] = [
    Crate { name: "netwatch", folder: "netwatch/src", modules: NETWATCH },
    Crate { name: "netwatch-common", folder: "netwatch-common/src", modules: COMMON },
    Crate { name: "netwatch-ebpf", folder: "netwatch-ebpf/src", modules: CLASSIFIER },
    Crate { name: "process", folder: "netwatch-ebpf/src/bin/process", modules: PROCESS },
];

const NETWATCH: &[Module] = &[
    pure("escape", &[]),
    pure("statistics", &[]),
    pure("flow", &[SHARED]),
    pure("filter", &[SHARED]),
    pure("manual", &[]),
    pure("wire", &[]),
    pure("name", &["flow", "wire", SHARED]),
    pure("process", &["flow"]),
    pure("report", &["flow", "name", "process", "wire"]),
    pure("threshold", &["flow", "process", "report"]),
    pure("soak", &["flow", "report", "statistics"]),
    pure("benchmark", &["flow", "name", "report", "statistics", "wire"]),
    pure("diff", &["flow", "name", "process", "report", "wire"]),
    pure("allow", &["escape", "flow", "name", "process", "report", "wire"]),
    pure(
        "format",
        &[
            "allow",
            "benchmark",
            "diff",
            "escape",
            "flow",
            "name",
            "process",
            "report",
            "soak",
            "statistics",
            "threshold",
            "wire",
        ],
    ),
    pure("import", &["flow", "format", "name", "process", "report", "wire"]),
    pure("policy", &["flow", "format", "name", "process", "report", "wire"]),
    pure("session", &["flow", "name", "process", "report", "wire"]),
    pure("dashboard", &["escape", "flow", "format", "name", "process", "report", "session", "wire"]),
    effectful("exit", &[]),
    effectful("error", &["escape"]),
    effectful("faults", &["error", "exit"]),
    effectful("pidfd", &[]),
    effectful("proc", &["error"]),
    effectful("readiness", &["error"]),
    effectful("seccomp", &[]),
    effectful("confine", &["error", "seccomp"]),
    effectful("capture", &["error", "escape", "filter", SHARED]),
    effectful("meter", &["error", "faults", "filter", "flow", "name", "proc", "process", "session", SHARED]),
    effectful("dns", &["error", "wire"]),
    effectful("undo", &["error", "pidfd", "proc"]),
    effectful("host", &["error", "pidfd", "proc", "undo", "wire"]),
    effectful("target", &["error", "exit", "pidfd", "proc", "seccomp", "undo"]),
    effectful("loopback", &["error", "flow", "host", "report"]),
    effectful(
        "guardian",
        &[
            "error",
            "exit",
            "faults",
            "filter::FilterProgram",
            "flow::PerDirection",
            "host::cgroup",
            "host::firewall",
            "host::link",
            "meter::KernelMeterConfig",
            "meter::MemorySource",
            "meter::PacketTap",
            "meter::TapConfig",
            "meter::segments",
            "pidfd",
            "proc",
            "readiness",
            "target::boundary",
            "target::command",
            "target::environment",
            "target::mounts",
            "target::user",
            "undo",
        ],
    ),
    effectful("output_policy", &["error", "host", "meter"]),
    effectful("rights", &["error", "target"]),
    effectful("record", &["error", "flow", "format", "name", "process", "report", "rights", "target", "wire"]),
    effectful(
        "consumer",
        &["error", "flow", "format", "name", "process", "record", "report", "rights", "session", "wire"],
    ),
    effectful(
        "packets",
        &[
            "capture", "error", "escape", "filter", "flow", "meter", "process", "report", "rights", "session", "wire",
            SHARED,
        ],
    ),
    effectful("export", &["error", "flow", "format", "process", "report"]),
    effectful(
        "replay",
        &[
            "capture", "error", "filter", "flow", "host", "meter", "name", "process", "report", "session", "wire",
            SHARED,
        ],
    ),
    effectful("doctor", &["dns", "error", "host", "meter", "output_policy", "target", "wire"]),
    effectful("settings", &["consumer", "diff", "error", "export", "format", "packets", "policy", "threshold"]),
    effectful("terminal", &["error", "format", "report", "rights", "settings"]),
    effectful(
        "commands",
        &[
            "allow",
            "benchmark",
            "capture",
            "confine",
            "consumer",
            "dashboard",
            "diff",
            "dns",
            "doctor",
            "error",
            "escape",
            "exit",
            "export",
            "faults",
            "filter",
            "flow",
            "format",
            "guardian",
            "host",
            "import",
            "loopback",
            "manual",
            "meter",
            "name",
            "output_policy",
            "packets",
            "pidfd",
            "policy",
            "proc",
            "process",
            "readiness",
            "record",
            "replay",
            "report",
            "rights",
            "seccomp",
            "session",
            "settings",
            "soak",
            "statistics",
            "target",
            "terminal",
            "threshold",
            "undo",
            "wire",
            SHARED,
        ],
    ),
    effectful(
        "cli",
        &[
            "consumer",
            "diff",
            "error",
            "exit",
            "export",
            "format",
            "manual",
            "meter",
            "packets",
            "policy",
            "settings",
            "terminal",
            "threshold",
        ],
    ),
];

const COMMON: &[Module] = &[
    pure("tcp", &[]),
    unsafe_pure("access", &["tcp"]),
    pure("address", &[]),
    pure("config", &[]),
    pure("stage", &[]),
    pure("stat", &[]),
    unsafe_pure("flow", &["address", "tcp"]),
    unsafe_pure("hash", &["flow"]),
    pure("capture", &["flow"]),
    pure("process", &["address"]),
    pure("remainder", &["flow"]),
    pure("sample", &["flow"]),
    pure("table", &["flow"]),
    unsafe_pure("parse", &["address", "flow", "remainder", "tcp"]),
    pure("fragment", &["address", "flow", "parse"]),
    pure("observation", &["flow", "fragment", "parse"]),
    unsafe_pure("handshake", &["access", "flow", "observation", "tcp"]),
    unsafe_pure("account", &["access", "config", "flow", "handshake", "observation", "parse", "sample", "tcp"]),
    unsafe_pure("round_trip", &["access", "account", "flow", "observation", "parse", "tcp"]),
    unsafe_pure("front", &["access", "account", "flow", "hash", "observation", "parse", "round_trip", "tcp"]),
    effectful("pod", &["config", "flow", "fragment", "table"]),
];

const CLASSIFIER: &[Module] = &[
    effectful("atomic", &[]),
    effectful("scratch", &[]),
    effectful("variant", &[]),
    effectful("skb", &["variant"]),
    effectful("maps", &["scratch"]),
    effectful("settings", &["maps"]),
    effectful("preemption", &["atomic", "maps", "scratch", "settings"]),
    effectful("stat", &["atomic", "maps"]),
    effectful("fragment", &["maps"]),
    effectful("front", &["atomic", "maps", "preemption", "settings", "skb"]),
    effectful("sample", &["maps", "settings", "stat", "variant"]),
    effectful("table", &["atomic", "front", "maps", "settings", "stat"]),
    effectful("flush", &["atomic", "maps", "table"]),
    effectful(
        "long_path",
        &[
            "atomic",
            "fragment",
            "front",
            "maps",
            "preemption",
            "sample",
            "scratch",
            "settings",
            "skb",
            "stat",
            "table",
            "variant",
        ],
    ),
    effectful("epoch", &["front", "long_path", "maps", "preemption", "scratch", "settings", "stat", "table"]),
    effectful("middle_path", &["atomic", "front", "long_path", "maps", "scratch", "skb", "table"]),
];

const PROCESS: &[Module] = &[
    effectful("maps", &[]),
    effectful("task", &["maps"]),
    effectful("call", &["maps", "task"]),
    effectful("exec", &["maps", "task"]),
    effectful("socket", &["exec", "maps", "task"]),
    effectful("local_socket", &["maps", "task"]),
];

/// Other crates that only some modules of the library may use.
pub const LIBRARIES: [(&[&str], &[&str]); 6] = [
    (&["aya", "aya_log", "aya_obj"], &["meter"]),
    (&["clap", "clap_complete"], &["cli"]),
    (&["rusqlite"], &["consumer", "record"]),
    (&["opentelemetry_proto", "prost", "rustls", "ureq"], &["consumer"]),
    (&["parquet"], &["export"]),
    (&["ratatui"], &["commands", "dashboard"]),
];

/// Crate, module and used module: uses that the table forbids and that are still there. An entry
/// that is no longer needed fails, so the list only shrinks.
pub const KNOWN_VIOLATIONS: &[(&str, &str, &str)] = &[];
