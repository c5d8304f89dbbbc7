//! Building the programs that tests, bench and demo run.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::command::{cargo, run, target_dir};

/// Builds netwatch for release: its path.
pub fn netwatch() -> Result<PathBuf> {
    release_build(&[])?;
    Ok(target_dir().join("release/netwatch"))
}

/// Builds the netwatch whose set-up can be made to fail: its path. It shares the target directory, so only one crate is compiled twice;
/// [`netwatch`] has to be called after it.
pub fn faulty_netwatch() -> Result<PathBuf> {
    release_build(&["--features", "faults"])?;
    let (from, to) = (target_dir().join("release/netwatch"), target_dir().join("release/netwatch-faults"));
    fs::copy(&from, &to).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

fn release_build(more: &[&str]) -> Result {
    run(cargo().args(["build", "--release", "--package", "netwatch", "--bin", "netwatch"]).args(more))
}
