//! The only file system of the virtual machine: busybox, `ip`, bash and Python (which tests run),
//! netwatch, its unit tests, the libraries they need, and kernel modules.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kernel::VmKernel;
use super::newc::{Archive, ArchiveEntry};
use super::python::Python;
use crate::Result;
use crate::command::{self, cargo, output};

/// The programs that are built here and run there.
#[derive(Debug)]
pub struct VmPrograms {
    netwatch: PathBuf,
    tests: PathBuf,
}

impl VmPrograms {
    /// Builds both, and strips the tests of debug information, which would be most of the file
    /// system.
    pub fn build(folder: &Path) -> Result<Self> {
        let tests = folder.join("netwatch-tests");
        command::run(Command::new("strip").args(["--strip-debug", "-o"]).arg(&tests).arg(unit_tests()?))?;
        Ok(Self { netwatch: crate::build::netwatch()?, tests })
    }
}

/// Builds the unit tests of the library. Returns the path that cargo reports.
fn unit_tests() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["test", "--package", "netwatch", "--lib", "--no-run", "--message-format", "json-render-diagnostics"]);
    build.stderr(std::process::Stdio::inherit());
    let messages = output(&mut build)?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    artifacts
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| "cargo test --no-run reported no program".to_owned())
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
    let (busybox, ip, bash, python) = (find("busybox")?, find("ip")?, find("bash")?, Python::find()?);
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
    archive.add(
        &python.interpreter.to_string_lossy(),
        ArchiveEntry::Copy { from: python.interpreter.clone(), executable: true },
    );
    archive.add("bin/python3", ArchiveEntry::Link(python.interpreter.clone()));
    for module in &python.modules {
        archive.add(&module.to_string_lossy(), ArchiveEntry::Copy { from: module.clone(), executable: false });
    }
    let binaries = binaries.iter().map(|(_, from)| *from).chain([&python.interpreter]).chain(python.libraries());
    for library in libraries(binaries)? {
        archive.add(&library.to_string_lossy(), ArchiveEntry::Copy { from: library.clone(), executable: true });
    }
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

/// The path of a program.
fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{program} is not installed"))
}

/// The shared libraries of these programs and the dynamic loader, so that the programs find the
/// libraries they were built with.
fn libraries<'a>(programs: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for program in programs {
        // ldd fails for static programs, which need no library.
        let printed = output(Command::new("ldd").arg(program)).unwrap_or_default();
        found.extend(printed.lines().filter_map(library));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Parses `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader, which has a path
/// only. The kernel's `linux-vdso.so.1` has no path.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_output_of_ldd() {
        let paths = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(paths("\tlinux-vdso.so.1 (0x00007f9fddd41000)"), None);
        assert_eq!(
            paths("\tlibc.so.6 => /lib/x86/libc.so.6 (0x00007f9fdc81e000)").as_deref(),
            Some("/lib/x86/libc.so.6")
        );
        assert_eq!(paths("\t/lib64/ld-linux-x86-64.so.2 (0x00007f9f)").as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    }
}
