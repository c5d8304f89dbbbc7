//! The folder of a release: program, man pages, completions, documents and licenses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::libpcap::BuiltLibPcap;
use super::{DistPlace, copy, licenses, recreate, write};
use crate::Result;
use crate::command::{output, run};

/// Documents at the top of the repository.
const DOCUMENTS: [&str; 5] = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"];
/// Shells, and the file names by which they find their completions.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "netwatch"), ("zsh", "_netwatch"), ("fish", "netwatch.fish")];

/// Fills the folder anew.
pub fn fill(place: &DistPlace, binary: &Path, libpcap: &BuiltLibPcap) -> Result {
    let stage = place.stage();
    recreate(&stage)?;
    copy(binary, &stage.join("netwatch"))?;
    for name in DOCUMENTS {
        copy(&place.source.join(name), &stage.join(name))?;
    }
    write(&stage.join("THIRD-PARTY-LICENSES.txt"), licenses::collect(place)? + &libpcap.license()?)?;
    for folder in ["docs", "docs/fleet"] {
        recreate(&stage.join(folder))?;
        for file in entries(&place.source.join(folder))?.iter().filter(|entry| entry.is_file()) {
            copy(file, &stage.join(folder).join(file.file_name().unwrap_or_default()))?;
        }
    }
    recreate(&stage.join("man"))?;
    for page in output(Command::new(binary).arg("man"))?.lines() {
        write(&stage.join("man").join(page), output(Command::new(binary).args(["man", page]))?)?;
    }
    let pages = entries(&stage.join("man"))?;
    run(Command::new("gzip").args(["--best", "--no-name"]).args(pages))?;
    for (shell, file) in COMPLETIONS {
        let folder = stage.join("completions").join(shell);
        recreate(&folder)?;
        write(&folder.join(file), output(Command::new(binary).args(["completions", shell]))?)?;
    }
    set_modes(&stage)
}

/// The files of a folder.
pub fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let entries: std::io::Result<Vec<_>> =
        fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    Ok(entries)
}

/// The modes of a release do not depend on the umask of the build.
fn set_modes(path: &Path) -> Result {
    let is_program = path.is_dir() || path.file_name().is_some_and(|name| name == "netwatch") && is_elf(path);
    let mode = fs::Permissions::from_mode(if is_program { 0o755 } else { 0o644 });
    fs::set_permissions(path, mode).map_err(|error| format!("cannot change {}: {error}", path.display()))?;
    if path.is_dir() { entries(path)?.iter().try_for_each(|entry| set_modes(entry)) } else { Ok(()) }
}

fn is_elf(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}
