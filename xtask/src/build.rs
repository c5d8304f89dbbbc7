//! Building the eBPF object from source, and proving that the checked-in one is equal to it.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::command::{cargo, root, run as run_command, target_dir};

/// Where the object is that the binary embeds.
fn checked_in() -> PathBuf {
    root().join("netwatch/bpf/netwatch.o")
}

/// Builds the eBPF object into `netwatch/bpf/netwatch.o`.
pub fn run() -> Result {
    let built = compile()?;
    fs::create_dir_all(checked_in().parent().expect("it is in a directory")).map_err(|error| error.to_string())?;
    fs::copy(&built, checked_in()).map(drop).map_err(|error| format!("cannot copy {}: {error}", built.display()))
}

/// Proves that the checked-in object is what the sources give.
pub fn check() -> Result {
    let read = |path: PathBuf| fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    if read(compile()?)? == read(checked_in())? {
        return Ok(());
    }
    Err("netwatch/bpf/netwatch.o is not what its sources give: run `cargo xtask build` and commit it".into())
}

fn compile() -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "netwatch-ebpf",
        "--target",
        "bpfel-unknown-none",
        "-Zbuild-std=core",
    ]);
    build.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=--btf\x1f-Ctarget-cpu=v3");
    run_command(&mut build)?;
    Ok(target_dir().join("bpfel-unknown-none/release/netwatch"))
}
