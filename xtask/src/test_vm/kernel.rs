//! A kernel to boot: its image and the modules that netwatch may need, from an unpacked package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::package::{self, KernelSeries};
use crate::Result;
use crate::command::{self, output};

/// The modules of a package that go into the virtual machine.
const MODULES: [&str; 5] = ["net/", "lib/", "crypto/", "drivers/net/veth.ko", "fs/overlayfs/"];

/// An unpacked kernel.
#[derive(Debug)]
pub struct VmKernel {
    /// Its `uname -r`.
    pub release: String,
    /// Its folder: `boot/vmlinuz-RELEASE`, and modules with their index below
    /// `lib/modules/RELEASE`.
    pub folder: PathBuf,
}

impl VmKernel {
    /// The newest of a series, downloaded and unpacked into `folder` unless it is there. `None` if
    /// there is no package.
    pub fn newest(series: &KernelSeries, folder: &Path) -> Result<Option<Self>> {
        let Some((name, package)) = package::newest(series, folder)? else { return Ok(None) };
        let place = folder.join(&name);
        if !place.exists() {
            unpack(&package, &place)?;
        }
        Ok(Some(Self { release: release(&place)?, folder: place }))
    }

    /// The image to boot.
    pub fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The files below `lib/modules`, with their paths in the virtual machine.
    pub fn modules(&self) -> Result<Vec<(String, PathBuf)>> {
        let modules = self.folder.join("lib/modules");
        let name = |path: &Path| Some(path.strip_prefix(&self.folder).ok()?.to_str()?.to_owned());
        Ok(files(&modules)?.into_iter().filter_map(|path| Some((name(&path)?, path))).collect())
    }
}

/// Unpacks next to the destination first: an interrupted copy must not look complete.
fn unpack(package: &Path, place: &Path) -> Result {
    let beside = PathBuf::from(format!("{}.new", place.display()));
    let failed = |error| format!("cannot unpack {}: {error}", package.display());
    let _none_there = fs::remove_dir_all(&beside);
    command::run(Command::new("dpkg-deb").arg("-x").args([package, &beside]))?;
    // Debian 13 and later.
    if beside.join("usr/lib/modules").exists() {
        fs::create_dir_all(beside.join("lib")).map_err(failed)?;
        fs::rename(beside.join("usr/lib/modules"), beside.join("lib/modules")).map_err(failed)?;
    }
    prepare_modules(&beside, &release(&beside)?)?;
    fs::rename(&beside, place).map_err(failed)
}

/// Removes unused modules, decompresses the others, which would be slow in the emulation, and
/// writes the index (`modules.dep`, `modules.alias`), which packages create during their
/// installation.
fn prepare_modules(folder: &Path, release: &str) -> Result {
    let kernel = folder.join("lib/modules").join(release).join("kernel");
    let wanted = |path: &Path| {
        let inside = path.strip_prefix(&kernel).ok().and_then(Path::to_str).unwrap_or_default();
        MODULES.iter().any(|wanted| inside.starts_with(wanted))
    };
    let (keep, others): (Vec<_>, Vec<_>) = files(&kernel)?.into_iter().partition(|path| wanted(path));
    for path in others {
        fs::remove_file(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    let packed: Vec<_> = keep.iter().filter(|path| path.extension().is_some_and(|end| end == "xz")).collect();
    if !packed.is_empty() {
        output(Command::new("busybox").arg("unxz").args(packed))?;
    }
    output(Command::new("busybox").args(["depmod", "-b"]).arg(folder).arg(release)).map(drop)
}

/// The name of the only folder below `lib/modules`.
fn release(folder: &Path) -> Result<String> {
    let modules = folder.join("lib/modules");
    let entry = fs::read_dir(&modules).ok().and_then(|mut entries| entries.next()?.ok());
    let name = entry.and_then(|entry| entry.file_name().into_string().ok());
    name.ok_or_else(|| format!("no kernel in {}: remove {} and try again", modules.display(), folder.display()))
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() => found.extend(files(&entry.path())?),
            kind if kind.is_file() => found.push(entry.path()),
            // The links `build` and `source`, which point outside.
            _ => {}
        }
    }
    Ok(found)
}
