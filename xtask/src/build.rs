//! Builds the eBPF objects `netwatch/bpf/netwatch.o` (the classifier), `cgroup.o` (the classifier
//! for cgroups), `process.o` (the programs that follow processes and sockets), `capture.o` (those
//! that copy packets) and `egress.o` (the one that sees probes of the output policy), verifies that
//! the checked-in ones match their sources, and builds the programs that tests, bench and demo run.
//!
//! The objects are checked in so that installing netwatch needs neither LLVM nor rust-src nor
//! bpf-linker. A build gives the same bytes in every checkout, home directory and machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{cargo, output, root, run, target_dir};

const TARGET: &str = "bpfel-unknown-none";
/// The objects that netwatch contains.
const OBJECTS: [&str; 5] = ["netwatch", "cgroup", "process", "capture", "egress"];

/// Instruction set 3 (Linux 5.12) has 32-bit jumps and atomics. The linker must expand copies into
/// loads and stores, which may be unaligned: the architectures that netwatch runs on and the
/// verifier permit it.
const FLAGS: [&str; 3] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds the eBPF objects and writes them into the tree.
pub fn objects() -> Result {
    OBJECTS.iter().try_for_each(|name| write_object(name))
}

/// Fails unless the checked-in eBPF objects equal a fresh build.
pub fn check_objects() -> Result {
    for name in OBJECTS {
        let object = checked_in(name);
        if read(&root().join(&object))? != read(&object_from_source(name)?)? {
            return Err(format!("{object} does not match its source: run `cargo xtask build` and commit it"));
        }
        println!("{object}: equals a fresh build");
    }
    Ok(())
}

/// Builds the programs that the bench measures beside the classifier. Returns the path of their
/// object.
pub fn reference_object() -> Result<PathBuf> {
    object_from_source("reference")
}

/// Builds netwatch for release. Returns its path.
pub fn netwatch() -> Result<PathBuf> {
    release_build(&[])?;
    Ok(target_dir().join("release/netwatch"))
}

/// Builds a program of the crate of tests for release. Returns its path.
pub fn test_program(name: &str) -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "netwatch-tests", "--bin", name]))?;
    Ok(target_dir().join("release").join(name))
}

/// Lets the harness of the tests run a netwatch that is built for release, unless NETWATCH_BIN
/// names another one. This process must have no other thread yet.
pub fn netwatch_for_tests() -> Result {
    if env::var_os("NETWATCH_BIN").is_none() {
        let netwatch = netwatch()?;
        // SAFETY: this process has no other thread yet.
        unsafe { env::set_var("NETWATCH_BIN", netwatch) };
    }
    Ok(())
}

/// Builds the netwatch with injected failures. Returns its path. It shares the target directory
/// with [`netwatch`], which has to be called afterwards, so that only one crate is compiled twice.
pub fn faulty_netwatch() -> Result<PathBuf> {
    release_build(&["--features", "faults"])?;
    let (from, to) = (target_dir().join("release/netwatch"), target_dir().join("release/netwatch-faults"));
    fs::copy(&from, &to).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

fn release_build(more: &[&str]) -> Result {
    run(cargo().args(["build", "--release", "--package", "netwatch", "--bin", "netwatch"]).args(more))
}

/// Where an object is checked in, from the top of the repository.
fn checked_in(name: &str) -> String {
    format!("netwatch/bpf/{name}.o")
}

fn write_object(name: &str) -> Result {
    let built = read(&object_from_source(name)?)?;
    let (object, path) = (checked_in(name), root().join(checked_in(name)));
    // An unchanged file keeps its modification time, so that nothing is compiled again.
    if fs::read(&path).is_ok_and(|old| old == built) {
        println!("{object}: unchanged, {} bytes", built.len());
        return Ok(());
    }
    fs::write(&path, &built).map_err(|error| format!("cannot write {object}: {error}"))?;
    println!("{object}: written, {} bytes", built.len());
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Builds one of the eBPF crate's objects. Returns its path.
fn object_from_source(name: &str) -> Result<PathBuf> {
    let target_dir = root().join("target/bpf");
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--locked", "--release", "--package", "netwatch-ebpf", "--bin", name])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .args(["--config", "profile.release.codegen-units=1", "--config", "profile.release.lto=false"])
        // The pinned toolchain is stable; only nightly toolchains build `core` without this
        // variable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    let status = build.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err(
            "cannot build the eBPF objects\nhint: `cargo xtask setup` installs rust-src and bpf-linker".to_owned()
        );
    }
    Ok(target_dir.join(TARGET).join("release").join(name))
}

/// [`FLAGS`], and fixed names for the paths that differ between machines.
fn rust_flags() -> Result<Vec<String>> {
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    let repository =
        fs::canonicalize(root()).map_err(|error| format!("cannot resolve {}: {error}", root().display()))?;
    let paths = [remap(&repository, "netwatch"), remap(&cargo_home()?, "cargo"), remap(&sysroot()?, "rust")];
    Ok(FLAGS.map(str::to_owned).into_iter().chain(paths).collect())
}

/// The folder of the pinned toolchain.
pub fn sysroot() -> Result<PathBuf> {
    let path = output(Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim()))
}

/// The folder with the sources of crates.
pub fn cargo_home() -> Result<PathBuf> {
    let from_home = || env::home_dir().map(|home| home.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(from_home).ok_or_else(|| "no home directory".to_owned())
}
