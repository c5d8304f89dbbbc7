//! Builds the objects for the kernel, `netwatch/bpf/netwatch.o` (the classifier) and `process.o` (who uses which socket), and proves that
//! those checked in are what their source gives. With them checked in, installing netwatch needs neither LLVM nor rust-src nor bpf-linker. The same
//! bytes come out whatever the checkout's path, cargo's home or the machine.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
/// The objects that netwatch holds.
const OBJECTS: [&str; 2] = ["netwatch", "process"];

/// Where an object is checked in, from the top of the workspace.
fn place(name: &str) -> String {
    format!("netwatch/bpf/{name}.o")
}

/// Instruction set 3 (Linux 5.12) has 32-bit jumps and atomics. The linker must expand copies into loads and stores, and
/// those may be unaligned: the architectures that netwatch runs on allow it, and the verifier knows.
const FLAGS: [&str; 3] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds the objects and writes them to their places in the tree.
pub fn run(root: &Path) -> io::Result<()> {
    OBJECTS.iter().try_for_each(|name| write(root, name))
}

fn write(root: &Path, name: &str) -> io::Result<()> {
    let built = fresh(root, name)?;
    let (object, path) = (place(name), root.join(place(name)));
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    // An unchanged file keeps its time, so that nothing is compiled again.
    if fs::read(&path).is_ok_and(|old| old == built) {
        println!("{object}: unchanged, {} bytes", built.len());
        return Ok(());
    }
    fs::write(&path, &built)?;
    println!("{object}: written, {} bytes", built.len());
    Ok(())
}

/// Fails unless the checked-in objects equal a fresh build.
pub fn check(root: &Path) -> io::Result<()> {
    for name in OBJECTS {
        let object = place(name);
        if fs::read(root.join(&object))? != fresh(root, name)? {
            let wrong = format!("{object} is not what its source gives: run `cargo xtask build` and commit it");
            return Err(io::Error::other(wrong));
        }
        println!("{object}: equals a fresh build");
    }
    Ok(())
}

/// Builds the programs that the bench measures beside the classifier: where their object is.
pub fn reference(root: &Path) -> io::Result<PathBuf> {
    build(root, "reference")
}

/// Builds from source and returns the object's bytes.
fn fresh(root: &Path, name: &str) -> io::Result<Vec<u8>> {
    fs::read(build(root, name)?)
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
