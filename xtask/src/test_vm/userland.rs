//! Programs and libraries for a virtual machine: those of this machine, or Debian's of another
//! architecture, which run here one by one under user-mode emulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::architecture::Architecture;
use crate::Result;
use crate::command::output;

/// Debian packages with the programs that go into a virtual machine.
const PACKAGES: [&str; 5] = ["busybox-static", "iproute2", "bash", "python3", "libc6"];

/// The dynamic loader of arm64.
const LOADER: &str = "lib/ld-linux-aarch64.so.1";

/// Where programs and libraries come from.
#[derive(Debug)]
pub struct Userland {
    /// The folder with the unpacked packages of another architecture. `None` for this machine.
    root: Option<PathBuf>,
}

impl Userland {
    /// The programs of an architecture. Those of another one than this machine's are downloaded
    /// and unpacked below `folder`, unless they are there.
    pub fn new(architecture: Architecture, folder: &Path) -> Result<Self> {
        if architecture == Architecture::Amd64 {
            return Ok(Self { root: None });
        }
        let root = folder.join(format!("userland-{}", architecture.debian()));
        if !root.exists() {
            unpack(&Apt::new(architecture, folder)?, &root)?;
        }
        Ok(Self { root: Some(root) })
    }

    /// The path of a program.
    pub fn find(&self, program: &str) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = match &self.root {
            // `sbin/ip` is a link to an absolute path.
            Some(root) => ["bin", "usr/bin", "sbin", "usr/sbin"].map(|folder| root.join(folder)).into(),
            None => std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect(),
        };
        let mut paths = folders.iter().map(|folder| folder.join(program));
        paths.find(|path| path.is_file()).ok_or_else(|| format!("{program} is not installed"))
    }

    /// The command that runs a program on this machine.
    pub fn command(&self, program: &Path) -> Command {
        let Some(root) = &self.root else { return Command::new(program) };
        let mut command = Command::new("qemu-aarch64");
        command.arg("-L").arg(root).arg(program);
        command
    }

    /// The path in the virtual machine of a file here.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let relative = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        relative.map_or_else(|| path.to_owned(), |relative| Path::new("/").join(relative))
    }

    /// The file here that has this path in the virtual machine.
    fn outside(&self, path: PathBuf) -> PathBuf {
        match &self.root {
            Some(root) if !path.starts_with(root) => root.join(path.strip_prefix("/").unwrap_or(&path)),
            _ => path,
        }
    }

    /// The shared libraries of these programs and the dynamic loader, so that the programs find the
    /// libraries they were built with.
    pub fn libraries<'a>(&self, programs: impl Iterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for program in programs {
            let mut list = match &self.root {
                Some(root) => self.command(&root.join(LOADER)),
                None => Command::new("ldd"),
            };
            if self.root.is_some() {
                list.arg("--list");
            }
            // This fails for static programs, which need no library.
            let printed = output(list.arg(program)).unwrap_or_default();
            found.extend(printed.lines().filter_map(library).map(|path| self.outside(path)));
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Unpacks next to the destination first: an interrupted copy must not look complete.
fn unpack(apt: &Apt, root: &Path) -> Result {
    let beside = PathBuf::from(format!("{}.new", root.display()));
    let failed = |error| format!("cannot unpack packages into {}: {error}", root.display());
    let _none_there = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside).map_err(failed)?;
    apt.update()?;
    for package in apt.download_all(&PACKAGES)? {
        output(Command::new("dpkg-deb").arg("-x").args([&package, &beside]))?;
    }
    fs::rename(&beside, root).map_err(failed)
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
    fn parses_the_output_of_ldd_and_of_a_loader() {
        let paths = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(paths("\tlinux-vdso.so.1 (0x00007f9fddd41000)"), None);
        assert_eq!(
            paths("\tlibc.so.6 => /lib/x86/libc.so.6 (0x00007f9fdc81e000)").as_deref(),
            Some("/lib/x86/libc.so.6")
        );
        assert_eq!(paths("\t/lib64/ld-linux-x86-64.so.2 (0x00007f9f)").as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(
            paths("\t/lib/ld-linux-aarch64.so.1 => root/lib/ld-linux-aarch64.so.1 (0x5500000000)").as_deref(),
            Some("/lib/ld-linux-aarch64.so.1")
        );
    }

    #[test]
    fn paths_in_another_userland_are_relative_to_its_folder() {
        let foreign = Userland { root: Some("/vm/arm64".into()) };
        assert_eq!(foreign.inside(Path::new("/vm/arm64/bin/ip")), Path::new("/bin/ip"));
        assert_eq!(foreign.outside("/bin/ip".into()), Path::new("/vm/arm64/bin/ip"));
        assert_eq!(foreign.outside("/vm/arm64/bin/ip".into()), Path::new("/vm/arm64/bin/ip"));
        let own = Userland { root: None };
        assert_eq!(own.inside(Path::new("/bin/ip")), Path::new("/bin/ip"));
        assert_eq!(own.outside("/bin/ip".into()), Path::new("/bin/ip"));
    }
}
