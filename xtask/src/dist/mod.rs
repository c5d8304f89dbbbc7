//! Builds what a release consists of: a static program in a tarball and a Debian package, both with
//! man pages and completions, an SBOM, and checksums. The same sources give the same bytes.

mod archive;
mod libpcap;
mod licenses;
mod musl;
mod reproduce;
mod sbom;
mod stage;
mod tools;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::Result;
use crate::command::{self, output, root, target_dir};

/// The target that the packages are for.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Name of the Debian package: `netwatch` is a program in Debian's package netdiag, and the name of
/// another crate.
const DEBIAN_NAME: &str = "netwatch-flow";
/// The file with the checksums of the others.
const SUMS: &str = "SHA256SUMS";

#[derive(Args)]
pub struct DistArguments {
    /// Also build in another directory, and compare every file
    #[arg(long)]
    reproduce: bool,
    /// Also install, run and purge the Debian package in a fresh Debian
    #[arg(long)]
    verify: bool,
}

/// A copy of the sources, and where its build goes.
struct DistPlace {
    source: PathBuf,
    target: PathBuf,
    /// Seconds since 1970, instead of the time of the build, in every file that contains one.
    epoch: String,
}

/// Builds the files in `target/dist`, and lists them.
pub fn run(arguments: &DistArguments) -> Result {
    check_sources()?;
    tools::install(arguments.verify)?;
    let epoch = output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]))?;
    let place = DistPlace { source: root().into(), target: target_dir(), epoch: epoch.trim().into() };
    let files = build(&place)?;
    if arguments.reproduce {
        reproduce::run(&place)?;
    }
    if arguments.verify {
        verify::run(&place)?;
    }
    for file in files {
        println!("{}", file.display());
    }
    Ok(())
}

/// A tag of the sources has to name the version that is built. Changes that are not committed are
/// only reported, because a release begins with an attempt.
fn check_sources() -> Result {
    let git = |arguments: &[&str]| output(Command::new("git").current_dir(root()).args(arguments));
    wrong_tag(&git(&["tag", "--points-at", "HEAD", "--list", "v*"])?, version()).map_or(Ok(()), Err)?;
    if !git(&["status", "--porcelain"])?.trim().is_empty() {
        eprintln!("xtask: the sources have changes that are not committed: this is no release");
    }
    Ok(())
}

/// What is wrong with the tags of the commit, one on each line; nothing without a tag.
fn wrong_tag(tags: &str, version: &str) -> Option<String> {
    let expected = format!("v{version}");
    let is_wrong = !tags.trim().is_empty() && tags.lines().all(|tag| tag.trim() != expected);
    is_wrong.then(|| format!("the version is {version}, and the commit is tagged {}", tags.trim().replace('\n', ", ")))
}

/// Builds every file of a release from the sources in a place.
fn build(place: &DistPlace) -> Result<Vec<PathBuf>> {
    let libpcap = libpcap::build(place)?;
    let binary = musl::build(place, &libpcap)?;
    let out = place.out();
    recreate(&out)?;
    stage::fill(place, &binary, &libpcap)?;
    let files = [archive::tarball(place)?, archive::debian_package(place)?, sbom::write(place, &libpcap)?];
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = output(Command::new("sha256sum").current_dir(&out).args(names))?;
    write(&out.join(SUMS), sums)?;
    Ok(files.into_iter().chain([out.join(SUMS)]).collect())
}

impl DistPlace {
    /// The folder of the files of a release.
    fn out(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// Where the compiler puts the program, and the files that belong beside it. cargo-deb looks
    /// for `target/release/…` of its manifest here.
    fn release(&self) -> PathBuf {
        self.target.join(TARGET).join("release")
    }

    /// The folder that becomes the tarball.
    fn stage(&self) -> PathBuf {
        self.release().join("dist")
    }

    /// A program that runs in the sources of this place.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.source).env("SOURCE_DATE_EPOCH", &self.epoch);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// The cargo of this task, in the sources of this place.
    fn cargo(&self) -> Command {
        self.command(command::cargo().get_program())
    }
}

/// The version of netwatch.
fn version() -> &'static str {
    // All crates of the workspace have the same.
    env!("CARGO_PKG_VERSION")
}

/// Makes an empty folder.
fn recreate(folder: &Path) -> Result {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Result {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to).map(drop).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_the_version() {
        assert_eq!(wrong_tag("", "0.1.0"), None);
        assert_eq!(wrong_tag("v0.1.0\n", "0.1.0"), None);
        assert_eq!(wrong_tag("v0.1.0-rc1\nv0.1.0\n", "0.1.0"), None);
        let error = wrong_tag("v0.2.0\n", "0.1.0");
        assert_eq!(error.as_deref(), Some("the version is 0.1.0, and the commit is tagged v0.2.0"));
    }
}
