//! Debian's packages of other kernels: the newest of a series is downloaded once and kept. It is
//! unpacked and not installed, so this machine does not change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::apt::{self, Apt};
use super::architecture::{Architecture, Threads};
use crate::Result;

/// Debian's packages of one version and flavor: `6.1` or `6.1-rt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSeries {
    version: String,
    flavor: &'static Flavor,
}

/// The purpose of a kernel.
#[derive(Debug, PartialEq, Eq)]
struct Flavor {
    /// The end of a series' name.
    name: &'static str,
    /// The end of the package name. The cloud kernels are the smallest to download.
    suffix: &'static str,
    architecture: Architecture,
    is_realtime: bool,
    /// Size of a page in KiB.
    page_kib: u64,
}

const FLAVORS: [Flavor; 4] = [
    Flavor { name: "", suffix: "-cloud-amd64", architecture: Architecture::Amd64, is_realtime: false, page_kib: 4 },
    Flavor { name: "-rt", suffix: "-rt-amd64", architecture: Architecture::Amd64, is_realtime: true, page_kib: 4 },
    Flavor {
        name: "-arm64",
        suffix: "-cloud-arm64",
        architecture: Architecture::Arm64,
        is_realtime: false,
        page_kib: 4,
    },
    Flavor {
        name: "-arm64-16k",
        suffix: "-arm64-16k",
        architecture: Architecture::Arm64,
        is_realtime: false,
        page_kib: 16,
    },
];

impl KernelSeries {
    /// Whether it is a PREEMPT_RT kernel.
    pub fn is_realtime(&self) -> bool {
        self.flavor.is_realtime
    }

    /// The architecture that it is built for.
    pub fn architecture(&self) -> Architecture {
        self.flavor.architecture
    }

    /// Size of a page in KiB.
    pub fn page_kib(&self) -> u64 {
        self.flavor.page_kib
    }

    /// How many threads may emulate its CPUs. Linux 6.12 on x86-64 panics under multi-threaded
    /// emulation while a tracepoint is attached that other CPUs pass: they run into the breakpoint
    /// (int3) by which the kernel changes code, after the kernel has removed it.
    pub fn threads(&self) -> Threads {
        let is_affected = self.architecture() == Architecture::Amd64 && numbers(&self.version) >= vec![6, 12];
        if is_affected { Threads::One } else { Threads::PerCpu }
    }
}

impl FromStr for KernelSeries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let (version, name) = text.split_at(text.find('-').unwrap_or(text.len()));
        let flavor = FLAVORS.iter().find(|flavor| flavor.name == name);
        let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        match flavor.filter(|_| version.split('.').all(is_number)) {
            Some(flavor) => Ok(Self { version: version.to_owned(), flavor }),
            None => {
                let names = FLAVORS.each_ref().map(|flavor| format!("6.1{}", flavor.name));
                Err(format!("{text} is not a series like {}", names.join(", ")))
            }
        }
    }
}

impl fmt::Display for KernelSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.version, self.flavor.name)
    }
}

/// The newest package of a series, as a file: the path, and the package's name. `None` if neither
/// apt's index nor the folder has one.
pub fn newest(series: &KernelSeries, folder: &Path) -> Result<Option<(String, PathBuf)>> {
    let apt = Apt::new(series.architecture(), folder)?;
    if let Some(found) = find_and_download(series, &apt, folder).ok().flatten() {
        return Ok(Some(found));
    }
    // The index may be older than the archive, or missing.
    apt.update()?;
    find_and_download(series, &apt, folder)
}

/// The pattern of the package names of a series, for messages.
pub fn pattern(series: &KernelSeries) -> String {
    format!("linux-image-{}.*{}", series.version, series.flavor.suffix)
}

fn find_and_download(series: &KernelSeries, apt: &Apt, folder: &Path) -> Result<Option<(String, PathBuf)>> {
    let kept = apt::packages(folder)?;
    // Without apt, packages can be put into the folder by hand.
    let anchored = format!("^linux-image-{}[.].*{}$", series.version.replace('.', "[.]"), series.flavor.suffix);
    let names = apt.search(&anchored)?.into_iter().chain(kept.iter().filter_map(|path| name_of(path)));
    let Some(name) = newest_name(series, names) else { return Ok(None) };
    match kept.into_iter().find(|path| name_of(path).as_ref() == Some(&name)) {
        Some(path) => Ok(Some((name, path))),
        None => download(&name, apt, folder).map(|path| Some((name, path))),
    }
}

/// `NAME_VERSION_ARCHITECTURE.deb`.
fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.split_once('_')?.0.to_owned())
}

/// The greatest by its numbers: `6.1.0-9` comes before `6.1.0-56`.
fn newest_name(series: &KernelSeries, names: impl Iterator<Item = String>) -> Option<String> {
    let prefix = format!("linux-image-{}.", series.version);
    let is_of_series = |name: &String| name.starts_with(&prefix) && name.ends_with(series.flavor.suffix);
    names.filter(is_of_series).max_by_key(|name| numbers(name))
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Downloads into a separate folder first: an interrupted download must not look complete.
fn download(name: &str, apt: &Apt, folder: &Path) -> Result<PathBuf> {
    let partial = folder.join("partial");
    let _none_there = fs::remove_dir_all(&partial);
    let failed = |error| format!("cannot download {name} to {}: {error}", folder.display());
    fs::create_dir_all(&partial).map_err(failed)?;
    apt.download(name, &partial)?;
    let file = apt::packages(&partial)?.pop().ok_or_else(|| format!("apt-get download {name} left no file"))?;
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
            "linux-image-6.12.101+deb12-arm64",
            "linux-image-6.12.101+deb12-arm64-16k",
            "linux-image-6.12.101+deb12-cloud-arm64",
        ];
        let newest = |series: &str| newest_name(&series.parse().unwrap(), names.iter().map(|&name| name.to_owned()));
        assert_eq!(newest("6.1").as_deref(), Some(names[1]));
        assert_eq!(newest("6.12").as_deref(), Some(names[6]));
        assert_eq!(newest("6.1-rt").as_deref(), Some(names[2]));
        assert_eq!(newest("6.12-arm64-16k").as_deref(), Some(names[9]));
        assert_eq!(newest("6.12-arm64").as_deref(), Some(names[10]));
        assert_eq!(newest("6.6"), None);
    }

    #[test]
    fn parses_a_version_with_an_optional_flavor() {
        for text in ["6.1", "6.12-rt", "6.12-arm64", "6.12-arm64-16k"] {
            assert_eq!(text.parse::<KernelSeries>().unwrap().to_string(), text);
        }
        for text in ["", "rt", "6.1-cloud", "6..1", "-rt"] {
            assert!(text.parse::<KernelSeries>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_kernels_that_panic_otherwise_are_emulated_by_one_thread() {
        let threads = |series: &str| series.parse::<KernelSeries>().unwrap().threads();
        for series in ["6.12", "6.12-rt", "6.18"] {
            assert_eq!(threads(series), Threads::One, "{series}");
        }
        for series in ["6.1", "6.1-rt", "6.12-arm64", "6.12-arm64-16k"] {
            assert_eq!(threads(series), Threads::PerCpu, "{series}");
        }
    }

    #[test]
    fn reads_the_package_name_from_the_file_name() {
        let path = Path::new("vm/linux-image-6.12.101+deb12-cloud-amd64_6.12.101-1_amd64.deb");
        assert_eq!(name_of(path).as_deref(), Some("linux-image-6.12.101+deb12-cloud-amd64"));
    }
}
