//! Debian's packages of other kernels: the newest of a series is downloaded once and kept. It is
//! unpacked and not installed, so this machine does not change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::Result;
use crate::command::{self, is_installed, is_root, output};

/// Debian's packages of one version and flavor: `6.1` or `6.1-rt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSeries {
    version: String,
    flavor: Flavor,
}

/// The purpose of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    /// Virtual machines: the smallest to download.
    Cloud,
    /// Real time (PREEMPT_RT).
    Rt,
}

impl Flavor {
    /// The end of the package name.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::Rt => "-rt-amd64",
        }
    }
}

impl KernelSeries {
    /// Whether it is a PREEMPT_RT kernel.
    pub fn is_realtime(&self) -> bool {
        self.flavor == Flavor::Rt
    }
}

impl FromStr for KernelSeries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let (version, flavor) = match text.strip_suffix("-rt") {
            Some(version) => (version, Flavor::Rt),
            None => (text, Flavor::Cloud),
        };
        let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if !version.split('.').all(is_number) {
            return Err(format!("{text} is not a series like 6.1 or 6.1-rt"));
        }
        Ok(Self { version: version.to_owned(), flavor })
    }
}

impl fmt::Display for KernelSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flavor {
            Flavor::Cloud => f.write_str(&self.version),
            Flavor::Rt => write!(f, "{}-rt", self.version),
        }
    }
}

/// The newest package of a series, as a file: the path, and the package's name. `None` if neither
/// apt's index nor the folder has one.
pub fn newest(series: &KernelSeries, folder: &Path) -> Result<Option<(String, PathBuf)>> {
    if let Some(found) = find_and_download(series, folder).ok().flatten() {
        return Ok(Some(found));
    }
    // The index may be older than the archive, or missing.
    if is_root() && is_installed("apt-get") {
        command::run(Command::new("apt-get").args(["update", "-q"]))?;
    }
    find_and_download(series, folder)
}

/// The pattern of the package names of a series, for messages.
pub fn pattern(series: &KernelSeries) -> String {
    format!("linux-image-{}.*{}", series.version, series.flavor.suffix())
}

fn find_and_download(series: &KernelSeries, folder: &Path) -> Result<Option<(String, PathBuf)>> {
    let kept = kept(folder)?;
    let names = indexed(series)?.into_iter().chain(kept.iter().filter_map(|path| name_of(path)));
    let Some(name) = newest_name(series, names) else { return Ok(None) };
    match kept.into_iter().find(|path| name_of(path).as_ref() == Some(&name)) {
        Some(path) => Ok(Some((name, path))),
        None => download(&name, folder).map(|path| Some((name, path))),
    }
}

/// Packages in apt's index. Without apt, packages can be put into the folder by hand.
fn indexed(series: &KernelSeries) -> Result<Vec<String>> {
    if !is_installed("apt-cache") {
        return Ok(Vec::new());
    }
    let anchored = format!("^linux-image-{}[.].*{}$", series.version.replace('.', "[.]"), series.flavor.suffix());
    let found = output(Command::new("apt-cache").args(["search", "--names-only", &anchored]))?;
    Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn kept(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let paths = fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
}

/// `NAME_VERSION_ARCHITECTURE.deb`.
fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.split_once('_')?.0.to_owned())
}

/// The greatest by its numbers: `6.1.0-9` comes before `6.1.0-56`.
fn newest_name(series: &KernelSeries, names: impl Iterator<Item = String>) -> Option<String> {
    let prefix = format!("linux-image-{}.", series.version);
    let is_of_series = |name: &String| name.starts_with(&prefix) && name.ends_with(series.flavor.suffix());
    names.filter(is_of_series).max_by_key(|name| numbers(name))
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Downloads into a separate folder first: an interrupted download must not look complete.
fn download(name: &str, folder: &Path) -> Result<PathBuf> {
    let partial = folder.join("partial");
    let _none_there = fs::remove_dir_all(&partial);
    let failed = |error| format!("cannot download {name} to {}: {error}", folder.display());
    fs::create_dir_all(&partial).map_err(failed)?;
    command::run(Command::new("apt-get").args(["download", "-q", name]).current_dir(&partial))?;
    let file = kept(&partial)?.pop().ok_or_else(|| format!("apt-get download {name} left no file"))?;
    let destination = folder.join(file.file_name().unwrap_or_default());
    fs::rename(&file, &destination).map_err(failed)?;
    Ok(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_newest_of_a_series() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-rt-amd64",
            "linux-image-6.1.0-9-rt-amd64",
            "linux-image-6.1.0-58-rt-amd64-unsigned",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.101+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
        ];
        let newest = |series: &str| newest_name(&series.parse().unwrap(), names.iter().map(|&name| name.to_owned()));
        assert_eq!(newest("6.1").as_deref(), Some(names[1]));
        assert_eq!(newest("6.12").as_deref(), Some(names[6]));
        assert_eq!(newest("6.1-rt").as_deref(), Some(names[2]));
        assert_eq!(newest("6.6"), None);
    }

    #[test]
    fn parses_a_version_with_an_optional_real_time_suffix() {
        for text in ["6.1", "6.12-rt"] {
            assert_eq!(text.parse::<KernelSeries>().unwrap().to_string(), text);
        }
        for text in ["", "rt", "6.1-cloud", "6..1", "-rt"] {
            assert!(text.parse::<KernelSeries>().is_err(), "{text}");
        }
    }

    #[test]
    fn reads_the_package_name_from_the_file_name() {
        let path = Path::new("vm/linux-image-6.12.101+deb12-cloud-amd64_6.12.101-1_amd64.deb");
        assert_eq!(name_of(path).as_deref(), Some("linux-image-6.12.101+deb12-cloud-amd64"));
    }
}
