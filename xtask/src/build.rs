//! Builds the classifier's object for the kernel, `netwatch/bpf/netwatch.o`, and proves that the one checked in is what its
//! source gives. With the object checked in, installing netwatch needs neither LLVM nor rust-src nor bpf-linker. The same
//! bytes come out whatever the checkout's path, cargo's home or the machine.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
/// Where the object is checked in, from the top of the workspace.
const OBJECT: &str = "netwatch/bpf/netwatch.o";

/// Instruction set 3 (Linux 5.12) has 32-bit jumps and atomics. The linker must expand copies into loads and stores, and
/// those may be unaligned: the architectures that netwatch runs on allow it, and the verifier knows.
const FLAGS: [&str; 3] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds the object and writes it to its place in the tree.
pub fn run(root: &Path) -> io::Result<()> {
    let built = fresh(root)?;
    let place = root.join(OBJECT);
    fs::create_dir_all(place.parent().unwrap_or(root))?;
    // An unchanged file keeps its time, so that nothing is compiled again.
    if fs::read(&place).is_ok_and(|old| old == built) {
        println!("{OBJECT}: unchanged, {} bytes", built.len());
        return Ok(());
    }
    fs::write(&place, &built)?;
    println!("{OBJECT}: written, {} bytes", built.len());
    Ok(())
}

/// Fails unless the checked-in object equals a fresh build.
pub fn check(root: &Path) -> io::Result<()> {
    let checked_in = fs::read(root.join(OBJECT))?;
    if checked_in == fresh(root)? {
        println!("{OBJECT}: equals a fresh build");
        return Ok(());
    }
    Err(io::Error::other(format!("{OBJECT} is not what its source gives: run `cargo xtask build` and commit it")))
}

/// Builds the programs that the bench measures beside the classifier: where their object is.
pub fn reference(root: &Path) -> io::Result<PathBuf> {
    build(root, "reference")
}

/// Builds from source and returns the object's bytes.
fn fresh(root: &Path) -> io::Result<Vec<u8>> {
    fs::read(build(root, "netwatch")?)
}

/// Builds one of the crate's objects: where it is.
fn build(root: &Path, name: &str) -> io::Result<PathBuf> {
    let target_dir = root.join("target/bpf");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--release", "--package", "netwatch-ebpf", "--bin", name])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .args(["--config", "profile.release.codegen-units=1", "--config", "profile.release.lto=false"])
        // The pinned toolchain is a stable one; `core` for this target has to be built, which only nightlies allow freely.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(root)?.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    let status = cargo.status()?;
    if !status.success() {
        return Err(io::Error::other(
            "the classifier does not build; `cargo xtask setup` installs rust-src and bpf-linker",
        ));
    }
    Ok(target_dir.join(TARGET).join("release").join(name))
}

/// [`FLAGS`], and names for the paths that differ between machines.
fn rust_flags(root: &Path) -> io::Result<Vec<String>> {
    let remap = |path: &Path, name: &str| format!("--remap-path-prefix={}={name}", path.display());
    let paths =
        [remap(&fs::canonicalize(root)?, "netwatch"), remap(&cargo_home()?, "cargo"), remap(&sysroot()?, "rust")];
    Ok(FLAGS.map(str::to_owned).into_iter().chain(paths).collect())
}

fn cargo_home() -> io::Result<PathBuf> {
    let from_home = || env::home_dir().map(|home| home.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(from_home).ok_or_else(|| io::Error::other("no home directory"))
}

fn sysroot() -> io::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
