//! The only file system of the virtual machine: busybox, `ip`, bash and Python (which tests run),
//! netwatch, its unit tests, the libraries they need, and kernel modules.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::architecture::Architecture;
use super::kernel::VmKernel;
use super::newc::{Archive, ArchiveEntry};
use super::python::Python;
use super::userland::Userland;
use crate::Result;
use crate::command::{self, cargo, output};

/// The programs that run there.
#[derive(Debug)]
pub struct VmPrograms {
    netwatch: PathBuf,
    tests: PathBuf,
    userland: Userland,
}

impl VmPrograms {
    /// Builds netwatch and its unit tests, and strips them of debug information, which would be
    /// most of the file system.
    pub fn build(architecture: Architecture, folder: &Path) -> Result<Self> {
        let strip = |name: &str, program: PathBuf| {
            let stripped = folder.join(format!("{name}-{}", architecture.debian()));
            let mut strip = architecture.binutils("strip");
            command::run(strip.args(["--strip-debug", "-o"]).arg(&stripped).arg(program))?;
            Ok::<_, String>(stripped)
        };
        Ok(Self {
            netwatch: strip("netwatch", build(architecture, &["build", "--bin", "netwatch"])?)?,
            tests: strip("tests", build(architecture, &["test", "--lib", "--no-run"])?)?,
            userland: Userland::new(architecture, folder)?,
        })
    }
}

/// Builds a program of the crate `netwatch`. Returns the path that cargo reports.
fn build(architecture: Architecture, what: &[&str]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(what).args(["--package", "netwatch", "--message-format", "json-render-diagnostics"]);
    if architecture != Architecture::Amd64 {
        build.args(["--target", architecture.target()]);
        build.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    }
    build.stderr(std::process::Stdio::inherit());
    let messages = output(&mut build)?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    artifacts
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| format!("cargo {} reported no program", what.join(" ")))
}

/// Writes the file system for this kernel to `path`.
pub fn write(path: &Path, kernel: &VmKernel, programs: &VmPrograms) -> Result {
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        archive.add(folder, ArchiveEntry::Directory);
    }
    archive.add("init", ArchiveEntry::Script(include_str!("init.sh")));
    archive.add("bin/client", ArchiveEntry::Script(include_str!("client.sh")));
    archive.add("sbin/modprobe", ArchiveEntry::Script(include_str!("modprobe.sh")));
    let userland = &programs.userland;
    let [busybox, ip, bash] = ["busybox", "ip", "bash"].map(|program| userland.find(program));
    let (busybox, ip, bash, python) = (busybox?, ip?, bash?, Python::find(userland)?);
    let binaries = [
        ("bin/busybox", &busybox),
        ("sbin/ip", &ip),
        ("bin/bash", &bash),
        ("bin/netwatch", &programs.netwatch),
        ("bin/netwatch-tests", &programs.tests),
    ];
    for &(name, from) in &binaries {
        archive.add(name, ArchiveEntry::Copy { from: from.clone(), executable: true });
    }
    // Python finds its modules relative to its own path, also through a link.
    let mut copy = |from: &PathBuf, executable| {
        let entry = ArchiveEntry::Copy { from: from.clone(), executable };
        archive.add(&userland.inside(from).to_string_lossy(), entry);
    };
    copy(&python.interpreter, true);
    python.modules.iter().for_each(|module| copy(module, false));
    let binaries = binaries.iter().map(|(_, from)| *from).chain([&python.interpreter]).chain(python.libraries());
    userland.libraries(binaries).iter().for_each(|library| copy(library, true));
    archive.add("bin/python3", ArchiveEntry::Link(userland.inside(&python.interpreter)));
    for (name, from) in kernel.modules()? {
        archive.add(&name, ArchiveEntry::Copy { from, executable: false });
    }
    save(&archive, path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn save(archive: &Archive, path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    archive.write(&mut file)?;
    file.flush()
}
