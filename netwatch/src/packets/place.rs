//! Where a capture is written: the format and compression that the name of a file implies, and its
//! directory, which is opened before the run starts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};
use crate::rights::as_user;

/// How packets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    PcapNg,
    Pcap,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The directory and name of a capture.
#[derive(Debug)]
pub struct CapturePlace {
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    owner: (Uid, Gid),
    replaces: bool,
    pub(super) format: Format,
    pub(super) compression: Compression,
}

impl CapturePlace {
    /// Opens the directory of `path` with the rights of `owner`, who will own the files. `replaces`
    /// permits existing files.
    pub fn open(path: &Path, owner: (Uid, Gid), replaces: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::os("write", path.display().to_string(), error);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let directory =
            as_user(owner, || std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory));
        let (format, compression) = of_name(name);
        Ok(Self {
            directory: directory.map_err(failed)?.into(),
            path: path.to_owned(),
            name: name.to_owned(),
            owner,
            replaces,
            format,
            compression,
        })
    }

    /// Whether the files are pcapng.
    pub fn is_pcapng(&self) -> bool {
        self.format == Format::PcapNg
    }

    /// The path of a file, for messages.
    pub(super) fn path_of(&self, name: &str) -> String {
        self.path.with_file_name(name).display().to_string()
    }

    /// The name of the file, with a number if there are several: `trace-00001.pcapng.zst`.
    pub(super) fn name(&self, number: Option<u32>) -> String {
        let Some(number) = number else { return self.name.clone() };
        let at = [".pcapng", ".pcap"].into_iter().find_map(|suffix| self.name.rfind(suffix));
        let at = at.or_else(|| self.name.rfind('.').filter(|at| *at > 0)).unwrap_or(self.name.len());
        let (stem, suffix) = self.name.split_at(at);
        format!("{stem}-{number:05}{suffix}")
    }

    /// Creates the file of the path.
    pub fn create_named(&self) -> Result<File> {
        self.create(&self.name)
    }

    /// Creates a file that only its owner can read. A pipe or device is opened as it is.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        let failed = |errno: nix::errno::Errno| {
            let error = Error::os("write", self.path_of(name), errno);
            if errno == nix::errno::Errno::EEXIST { error.hint("use --force to replace the file") } else { error }
        };
        as_user(self.owner, || {
            let is_stream = fstatat(self.directory.as_fd(), name, AtFlags::empty())
                .is_ok_and(|about| about.st_mode & libc::S_IFMT != libc::S_IFREG);
            let new = match (is_stream, self.replaces) {
                (true, _) => OFlag::empty(),
                (false, true) => OFlag::O_CREAT | OFlag::O_TRUNC,
                (false, false) => OFlag::O_CREAT | OFlag::O_EXCL,
            };
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | new;
            openat(self.directory.as_fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        })
        .map(File::from)
        .map_err(failed)
    }

    /// Removes a file that this capture wrote.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        as_user(self.owner, || unlinkat(self.directory.as_fd(), name, UnlinkatFlags::NoRemoveDir))
            .map_err(|errno| Error::os("remove", self.path_of(name), errno))
    }
}

/// Whether the file can be truncated: pipes and devices cannot.
pub(super) fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|about| {
        let kind = about.file_type();
        kind.is_file() && !kind.is_fifo()
    })
}

/// pcapng, unless the name ends otherwise.
fn of_name(name: &str) -> (Format, Compression) {
    let (name, compression) = match name {
        _ if name.ends_with(".gz") => (name.trim_end_matches(".gz"), Compression::Gzip),
        _ if name.ends_with(".zst") => (name.trim_end_matches(".zst"), Compression::Zstd),
        _ => (name, Compression::None),
    };
    (if name.ends_with(".pcap") { Format::Pcap } else { Format::PcapNg }, compression)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, name: &str, replaces: bool) -> CapturePlace {
        CapturePlace::open(&dir.join(name), (Uid::effective(), Gid::effective()), replaces).expect("a directory")
    }

    #[test]
    fn the_suffix_selects_format_and_compression() {
        assert_eq!(of_name("a.pcapng"), (Format::PcapNg, Compression::None));
        assert_eq!(of_name("a.pcap.gz"), (Format::Pcap, Compression::Gzip));
        assert_eq!(of_name("a.pcapng.zst"), (Format::PcapNg, Compression::Zstd));
        assert_eq!(of_name("trace"), (Format::PcapNg, Compression::None));
    }

    #[test]
    fn numbers_stand_before_the_suffix() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = |name: &str| place(dir.path(), name, false).name(Some(7));
        assert_eq!(name("a.b.pcapng.zst"), "a.b-00007.pcapng.zst");
        assert_eq!((name("a.cap"), name("a"), name(".a")), ("a-00007.cap".into(), "a-00007".into(), ".a-00007".into()));
    }

    #[test]
    fn an_existing_file_is_replaced_only_if_permitted() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("x.pcapng"), "older").expect("written");
        let error = place(dir.path(), "x.pcapng", false).create("x.pcapng").expect_err("it exists").to_string();
        assert!(error.contains("(EEXIST)") && error.contains("--force"), "{error}");
        let file = place(dir.path(), "x.pcapng", true).create("x.pcapng").expect("replaced");
        assert_eq!(file.metadata().expect("metadata").len(), 0);
    }
}
