//! Debian's archive, by apt: packages of this machine's architecture, or of another one. The index
//! of another architecture is kept in a folder, so the configuration of this machine stays as it
//! is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::architecture::Architecture;
use crate::Result;
use crate::command::{self, is_installed, is_root, output};

/// apt for one architecture.
#[derive(Debug)]
pub struct Apt {
    options: Vec<String>,
    /// The folder with the index and the packages of another architecture.
    own: Option<PathBuf>,
}

impl Apt {
    /// apt for an architecture. What it stores for another one than this machine's is below
    /// `folder`.
    pub fn new(architecture: Architecture, folder: &Path) -> Result<Self> {
        if architecture == Architecture::Amd64 {
            return Ok(Self { options: Vec::new(), own: None });
        }
        let (name, own) = (architecture.debian(), folder.join("apt"));
        let failed = |error| format!("cannot create {}: {error}", own.display());
        let (state, cache) = (own.join("state"), own.join("cache"));
        for folder in [state.join("lists/partial"), cache.join("archives/partial")] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // No package is installed, so that every dependency is downloaded.
        let status = state.join("status");
        fs::write(&status, "").map_err(failed)?;
        let options = vec![
            format!("APT::Architecture={name}"),
            format!("APT::Architectures::={name}"),
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", cache.display()),
            "APT::Sandbox::User=root".to_owned(),
        ];
        Ok(Self { options, own: Some(own) })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }

    /// Updates the index, if that is permitted.
    pub fn update(&self) -> Result {
        let is_permitted = is_installed("apt-get") && (self.own.is_some() || is_root());
        if is_permitted { command::run(self.command("apt-get").args(["update", "-q"])) } else { Ok(()) }
    }

    /// Names of packages in the index that match a regular expression. None without apt.
    pub fn search(&self, expression: &str) -> Result<Vec<String>> {
        if !is_installed("apt-cache") {
            return Ok(Vec::new());
        }
        let found = output(self.command("apt-cache").args(["search", "--names-only", expression]))?;
        Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Downloads the package of this name into `folder`.
    pub fn download(&self, name: &str, folder: &Path) -> Result {
        command::run(self.command("apt-get").args(["download", "-q", name]).current_dir(folder))
    }

    /// Downloads packages of another architecture and everything they depend on. Returns the files.
    pub fn download_all(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let Some(own) = &self.own else { return Err("packages of this machine are installed".to_owned()) };
        let mut download = self.command("apt-get");
        download.args(["install", "-q", "-y", "--download-only", "--no-install-recommends"]).args(names);
        command::run(&mut download)?;
        packages(&own.join("cache/archives"))
    }
}

/// The packages in a folder.
pub fn packages(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let paths = fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
}
