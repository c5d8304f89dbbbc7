//! The programs that only `cargo xtask dist` needs. Fast when nothing is missing.

use std::process::Command;

use super::TARGET;
use crate::Result;
use crate::command::{self, cargo, output};
use crate::setup;

/// Programs of crates, with their versions.
const CRATES: [(&str, &str, &[&str]); 2] = [
    // liblzma is not needed to pack with the program xz.
    ("cargo-deb", "3.8.0", &["--no-default-features"]),
    ("cargo-cyclonedx", "0.5.9", &[]),
];

/// Debian packages; those from bison on build libpcap.
const PACKAGES: [(&str, &str); 7] = [
    ("musl-tools", "musl-gcc"),
    ("xz-utils", "xz"),
    ("dpkg", "dpkg-deb"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("make", "make"),
    ("dpkg-dev", "dpkg-source"),
];

/// Installs what is missing. A fresh Debian is only needed to verify the package.
pub fn install(verify: bool) -> Result {
    setup::install(&PACKAGES)?;
    if verify {
        setup::install(&[("debootstrap", "debootstrap")])?;
    }
    let targets = output(Command::new("rustup").current_dir(command::root()).args(["target", "list", "--installed"]))?;
    if !targets.lines().any(|target| target == TARGET) {
        command::run(Command::new("rustup").current_dir(command::root()).args(["target", "add", TARGET]))?;
    }
    CRATES.into_iter().try_for_each(|(name, version, flags)| install_crate(name, version, flags))
}

fn install_crate(name: &str, version: &str, flags: &[&str]) -> Result {
    let installed = output(cargo().args(["install", "--list"]))?;
    if installed.lines().any(|line| line.starts_with(&format!("{name} v{version}"))) {
        return Ok(());
    }
    let mut install = cargo();
    // Outside the workspace, so that neither its target directory nor its flags apply.
    install.args(["install", name, "--locked", "--version", version]).args(flags);
    command::run(install.env_remove("CARGO_TARGET_DIR").current_dir("/"))
}
