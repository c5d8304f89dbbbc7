//! Builds a release a second time, from a copy of the sources in another directory, and compares
//! every file.

use std::path::Path;
use std::process::Stdio;

use super::stage::entries;
use super::{DistPlace, SUMS, build, recreate};
use crate::Result;
use crate::command::run as run_command;

/// Fails unless every file of the second build equals that of the first.
pub fn run(first: &DistPlace) -> Result {
    let folder = std::env::temp_dir().join(format!("netwatch-dist-{}", std::process::id()));
    let source = folder.join("a/longer/path/to/the/sources");
    copy_sources(first, &source)?;
    let second = DistPlace { source, target: folder.join("target"), epoch: first.epoch.clone() };
    // The bill of materials is made from the files that git lists.
    run_command(second.command("git").args(["init", "--quiet"]))?;
    run_command(second.command("git").args(["add", "--all", "--force"]))?;
    let compared = build(&second).and_then(|_| compare(&first.out(), &second.out()));
    if compared.is_ok() {
        // Different files are kept, for diffoscope(1).
        let _ = std::fs::remove_dir_all(folder);
    }
    compared
}

/// Copies the files of the repository, as they are now.
pub fn copy_sources(place: &DistPlace, to: &Path) -> Result {
    recreate(to)?;
    let failed = |error: std::io::Error| format!("cannot copy the sources: {error}");
    let mut list = place.command("git");
    let mut list = list.args(["ls-files", "-z"]).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut pack = place.command("tar");
    pack.args(["--create", "--null", "--files-from=-"]).stdin(list.stdout.take().expect("a pipe"));
    let mut pack = pack.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut unpack = place.command("tar");
    unpack.arg("--extract").arg("--directory").arg(to).stdin(pack.stdout.take().expect("a pipe"));
    let unpacked = unpack.status().map_err(failed)?;
    let is_complete = [list.wait(), pack.wait()].into_iter().all(|status| status.is_ok_and(|status| status.success()));
    if unpacked.success() && is_complete { Ok(()) } else { Err("cannot copy the sources: git or tar failed".into()) }
}

fn compare(first: &Path, second: &Path) -> Result {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut different = Vec::new();
    let files = entries(first)?;
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        if read(file)? != read(&second.join(name))? {
            different.push(name.to_string_lossy().into_owned());
        }
    }
    if !files.iter().any(|file| file.ends_with(SUMS)) {
        return Err("the first build has no checksums".into());
    }
    if !different.is_empty() {
        return Err(format!("{} differ from a build in {}", different.join(", "), second.display()));
    }
    println!("reproducible: {} files equal those of a build in another directory", files.len());
    Ok(())
}
