//! Finds the netwatch program under test.

use std::path::{Path, PathBuf};

/// The program `NETWATCH_BIN` (set by `cargo xtask test`), or the newest one in the target
/// directory of this workspace.
pub fn binary() -> PathBuf {
    find("NETWATCH_BIN", &["release/netwatch", "debug/netwatch"])
        .expect("no netwatch program: run `cargo xtask test`, or set NETWATCH_BIN")
}

/// The program built with the feature `faults`, which injects faults into the set-up:
/// `NETWATCH_FAULTS_BIN`, or the one that `cargo xtask test` built.
pub fn faulty_binary() -> Option<PathBuf> {
    find("NETWATCH_FAULTS_BIN", &["release/netwatch-faults"])
}

fn find(variable: &str, candidates: &[&str]) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let target = target_dir();
    let age = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    candidates.iter().map(|name| target.join(name)).filter(|path| path.exists()).max_by_key(age)
}

fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
