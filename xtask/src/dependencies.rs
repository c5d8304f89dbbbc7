//! Checks the dependencies: licenses, bans and sources by the policy in `deny.toml` (cargo-deny),
//! and dependencies that no code uses (cargo-shear). Neither needs a network once the crates are
//! downloaded. Advisories do need one, so they are not checked here: `cargo deny check advisories`.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::command::{self, is_installed, root};
use crate::setup::in_python_environment;

/// Runs both, and reports both failures.
pub fn run() -> Result {
    // Both read the crates of every platform; a build downloads only those of its own.
    command::run(command::cargo().args(["fetch", "--locked", "--quiet"]))?;
    let deny = ["--offline", "check", "licenses", "bans", "sources"];
    let steps = [check("cargo-deny", &deny), check("cargo-shear", &["--offline", "--locked", "--deny-warnings"])];
    let failures: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nxtask: ")) }
}

fn check(program: &str, arguments: &[&str]) -> Result {
    command::run(Command::new(find(program)?).current_dir(root()).args(arguments))
}

/// The program that `cargo xtask setup` installed, or another one on the PATH.
fn find(program: &str) -> Result<PathBuf> {
    let installed = in_python_environment(program);
    if installed.exists() {
        return Ok(installed);
    }
    if is_installed(program) {
        return Ok(program.into());
    }
    Err(format!("missing: {program}\nhint: run `cargo xtask setup`, or `cargo install --locked {program}`"))
}
