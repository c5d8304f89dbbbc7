//! Where a capture is written: the format and compression that the name of a file implies, and its
//! directory, which is opened before the run starts.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, stat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, linkat, unlinkat};

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

/// Suffixes of compressions that netwatch does not write.
const OTHER_COMPRESSIONS: [&str; 10] = [".xz", ".bz2", ".lz4", ".lzma", ".lzo", ".br", ".zip", ".7z", ".zstd", ".gzip"];

/// Maximum number of files that wait to replace others, of this process or of earlier ones with
/// its id.
const MAX_TEMPORARY_NAMES: u32 = 1000;

/// Time without a reader of a pipe after which that is printed.
const HINT_AFTER: Duration = Duration::from_secs(1);
/// Time between two attempts to open a pipe.
const PIPE_INTERVAL: Duration = Duration::from_millis(20);

/// The directory and name of a capture.
#[derive(Debug)]
pub struct CapturePlace {
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    owner: (Uid, Gid),
    replaces: bool,
    /// Prints why nothing happens.
    on_wait: fn(&str),
    pub(super) format: Format,
    pub(super) compression: Compression,
}

impl CapturePlace {
    /// Opens the directory of `path` with the rights of `owner`, who will own the files. `replaces`
    /// permits existing files.
    pub fn open(path: &Path, owner: (Uid, Gid), replaces: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::os("write", path.display().to_string(), error);
        let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(|| failed(Errno::EISDIR.into()))?.to_str();
        let name = name.ok_or_else(|| {
            let cause = "the name is not valid UTF-8";
            Error::other("write", path.display().to_string(), cause).hint("choose another name")
        })?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        let directory = as_user(owner, || options.open(directory_of(path)));
        let (format, compression) = of_name(name);
        Ok(Self {
            directory: directory.map_err(failed)?.into(),
            path: path.to_owned(),
            name: name.to_owned(),
            owner,
            replaces,
            on_wait: |_| {},
            format,
            compression,
        })
    }

    /// Prints with `on_wait` why nothing happens: a pipe has no reader yet.
    pub fn telling(self, on_wait: fn(&str)) -> Self {
        Self { on_wait, ..self }
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
        let (stem, suffix) = self.divided_name();
        format!("{stem}-{number:05}{suffix}")
    }

    /// What stands before and after the number of a file.
    fn divided_name(&self) -> (&str, &str) {
        let name = self.name.to_ascii_lowercase();
        let at = [".pcapng", ".pcap"].into_iter().find_map(|suffix| name.rfind(suffix));
        let at = at.or_else(|| name.rfind('.').filter(|at| *at > 0)).unwrap_or(name.len());
        self.name.split_at(at)
    }

    /// Refuses a name that promises a compression that netwatch does not have.
    pub(super) fn require_compression(&self) -> Result<()> {
        let name = self.name.to_ascii_lowercase();
        match OTHER_COMPRESSIONS.into_iter().find(|suffix| name.ends_with(suffix)) {
            None => Ok(()),
            Some(suffix) => {
                let cause = format!("netwatch does not write {suffix}");
                Err(Error::other("write", self.path_of(&self.name), cause).hint("compress with .zst or .gz"))
            }
        }
    }

    /// Refuses to begin a series where an earlier one is: it would end where it meets its files.
    /// Also if it cannot be replaced, as a directory. `own` is a file of this series.
    pub(super) fn check_series(&self, own: Option<&str>) -> Result<()> {
        let names = self.series()?;
        let mut others = names.iter().filter(|name| Some(name.as_str()) != own);
        if self.replaces {
            return others.try_for_each(|name| {
                let checked = as_user(self.owner, || self.check_replaceable(name));
                checked.map(drop).map_err(|errno| self.failed(name, errno))
            });
        }
        match others.next() {
            Some(name) => Err(Error::os("write", self.path_of(name), Errno::EEXIST)
                .hint("use --force to remove all files of the earlier series")),
            None => Ok(()),
        }
    }

    /// Removes the files of an earlier series with these names. `own` is a file of this series.
    fn clear_series(&self, own: Option<&str>) -> Result<()> {
        let names = self.series()?;
        names.iter().filter(|name| Some(name.as_str()) != own).try_for_each(|name| self.remove(name))
    }

    /// The names of files with a number, sorted.
    fn series(&self) -> Result<Vec<String>> {
        let failed = |error: io::Error| Error::os("read", directory_of(&self.path).display().to_string(), error);
        let mut names = Vec::new();
        for entry in as_user(self.owner, || std::fs::read_dir(directory_of(&self.path))).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().filter(|name| self.is_of_series(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Whether this is the name of a file with a number.
    fn is_of_series(&self, name: &str) -> bool {
        let (stem, suffix) = self.divided_name();
        let number = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
        let number = number.and_then(|rest| rest.strip_suffix(suffix)).unwrap_or_default();
        number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// Refuses to write the file of `other` too: each would destroy what the other one wrote.
    pub fn require_other_than(&self, other: &Self) -> Result<()> {
        let directory = |place: &Self| fstat(&place.directory).map(|about| (about.st_dev, about.st_ino)).ok();
        let is_same_name = self.name == other.name || other.is_of_series(&self.name);
        let is_null = || fstatat(self.directory.as_fd(), self.name.as_str(), AtFlags::empty());
        if !is_same_name || directory(self) != directory(other) || is_null().is_ok_and(|about| is_null_device(&about)) {
            return Ok(());
        }
        let cause = "the packets and their lines cannot both go there";
        Err(Error::other("write", self.path_of(&self.name), cause).hint("give two names"))
    }

    /// Opens the path: a pipe or device as it is, and otherwise a new file, which has its name and
    /// replaces an older one when it is kept.
    pub(super) fn open_named(self: &Arc<Self>) -> Result<(File, Option<UnusedFile>)> {
        match self.stream()? {
            Some(stream) => Ok((stream, None)),
            None => self.create_unused(&self.name).map(|(file, unused)| (file, Some(unused))),
        }
    }

    /// Creates a file that is gone if nothing uses it. It has no name until then, so that a process
    /// that is killed leaves nothing, unless the file system has only files with names.
    pub(super) fn create_unused(self: &Arc<Self>, name: &str) -> Result<(File, UnusedFile)> {
        let created = as_user(self.owner, || {
            let is_there = self.check_replaceable(name)?;
            if is_there && !self.replaces {
                return Err(Errno::EEXIST);
            }
            match self.create_unnamed()? {
                Some((file, copy)) => Ok((file, CreatedFile::Unnamed(copy))),
                None => {
                    let (file, name) = self.create_named(name, is_there)?;
                    Ok((file, CreatedFile::Named(name)))
                }
            }
        });
        let (file, created) = created.map_err(|errno| self.failed(name, errno))?;
        let (place, name, creator) = (self.clone(), name.to_owned(), Some(std::process::id()));
        Ok((file, UnusedFile { place, created, name, creator }))
    }

    /// A file without a name, twice. `None` if the file system has none, or if /proc is missing, by
    /// which it gets a name.
    fn create_unnamed(&self) -> nix::Result<Option<(File, File)>> {
        let file = match self.open_as(".", OFlag::O_TMPFILE) {
            // The last two are of kernels and file systems that take the flag for another one.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EISDIR | Errno::ENOENT) => return Ok(None),
            opened => opened?,
        };
        let copy = file.try_clone().map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        let (own, seen) = (fstat(&copy)?, stat(proc_path(&copy).as_str()));
        let is_reachable = seen.is_ok_and(|seen| (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino));
        Ok(is_reachable.then_some((file, copy)))
    }

    /// A file with its name, or with a temporary one if it is to replace another file.
    fn create_named(&self, name: &str, is_there: bool) -> nix::Result<(File, String)> {
        let create = |name: &str| self.open_as(name, OFlag::O_CREAT | OFlag::O_EXCL);
        if is_there { with_temporary_name(create) } else { Ok((create(name)?, name.to_owned())) }
    }

    /// Gives a file without a name this one.
    fn link(&self, file: &File, name: &str) -> nix::Result<()> {
        let (directory, own) = (self.directory.as_fd(), proc_path(file));
        let link_as = |name: &str| linkat(AT_FDCWD, own.as_str(), directory, name, AtFlags::AT_SYMLINK_FOLLOW);
        match link_as(name) {
            Err(Errno::EEXIST) if self.replaces => {}
            linked => return linked,
        }
        let ((), temporary) = with_temporary_name(link_as)?;
        renameat(directory, temporary.as_str(), directory, name).inspect_err(|_| _ = self.unlink(&temporary))
    }

    /// Whether there is a file. If it is to be replaced, it can be.
    fn check_replaceable(&self, name: &str) -> nix::Result<bool> {
        let about = match fstatat(self.directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(false),
            about => about?,
        };
        if about.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Errno::EISDIR);
        }
        if !self.replaces {
            return Ok(true);
        }
        let directory = fstat(&self.directory)?;
        let owner = self.owner.0.as_raw();
        let is_sticky = directory.st_mode & libc::S_ISVTX != 0;
        match is_sticky && ![about.st_uid, directory.st_uid].contains(&owner) && owner != 0 {
            true => Err(Errno::EPERM),
            false => Ok(true),
        }
    }

    /// Opens the path if a pipe or a character device has it. Another user may not receive the
    /// packets by a pipe with the expected name.
    fn stream(&self) -> Result<Option<File>> {
        let name = self.name.as_str();
        let found = as_user(self.owner, || fstatat(self.directory.as_fd(), name, AtFlags::empty()));
        let Some(found) = found.ok().filter(is_stream) else { return Ok(None) };
        let is_trusted = |about: &FileStat| {
            is_stream(about) && (is_null_device(about) || [self.owner.0.as_raw(), 0].contains(&about.st_uid))
        };
        let refused = || Error::other("write", self.path_of(name), "the pipe or device belongs to another user");
        if !is_trusted(&found) {
            return Err(refused());
        }
        let is_pipe = found.st_mode & libc::S_IFMT == libc::S_IFIFO;
        let hint = || (self.on_wait)(&format!("waiting for a reader of {}", self.path_of(name)));
        let file = as_user(self.owner, || match is_pipe {
            true => self.open_pipe(name, HINT_AFTER, hint),
            false => self.open_as(name, OFlag::empty()),
        });
        let file = file.map_err(|errno| self.failed(name, errno))?;
        // The name may be that of another file by now.
        let opened = fstat(&file).map_err(|errno| self.failed(name, errno))?;
        if is_trusted(&opened) { Ok(Some(file)) } else { Err(refused()) }
    }

    /// Waits until a pipe has a reader. Calls `hint` if it has none after a while.
    fn open_pipe(&self, name: &str, hint_after: Duration, hint: impl FnOnce()) -> nix::Result<File> {
        let began = Instant::now();
        loop {
            match self.open_as(name, OFlag::O_NONBLOCK) {
                Err(Errno::ENXIO) if began.elapsed() < hint_after => std::thread::sleep(PIPE_INTERVAL),
                Err(Errno::ENXIO) => {
                    hint();
                    return self.open_as(name, OFlag::empty());
                }
                opened => {
                    let file = opened?;
                    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
                    return Ok(file);
                }
            }
        }
    }

    fn open_as(&self, name: &str, flags: OFlag) -> nix::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | flags;
        openat(self.directory.as_fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
    }

    fn unlink(&self, name: &str) -> nix::Result<()> {
        unlinkat(self.directory.as_fd(), name, UnlinkatFlags::NoRemoveDir)
    }

    fn failed(&self, name: &str, errno: Errno) -> Error {
        let error = Error::os("write", self.path_of(name), errno);
        if errno == Errno::EEXIST { error.hint("use --force to replace the file") } else { error }
    }

    /// Removes a file that this capture wrote, or one of an earlier series.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        as_user(self.owner, || self.unlink(name)).map_err(|errno| Error::os("remove", self.path_of(name), errno))
    }
}

/// A new file before anything uses it. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct UnusedFile {
    place: Arc<CapturePlace>,
    created: CreatedFile,
    /// The name that it gets when it is kept.
    name: String,
    /// The process that created it; `None` if it is kept. Processes that it starts have a copy.
    creator: Option<u32>,
}

#[derive(Debug)]
enum CreatedFile {
    /// It has this name.
    Named(String),
    /// It has no name.
    Unnamed(File),
}

impl UnusedFile {
    /// Gives the file its name. A file that had the name is replaced: its mode, its owner and its
    /// links are not those of the new file.
    pub(super) fn keep(mut self) -> Result<()> {
        let (place, to) = (&self.place, self.name.as_str());
        let kept = as_user(place.owner, || match &self.created {
            CreatedFile::Unnamed(file) => place.link(file, to),
            CreatedFile::Named(from) if from != to => {
                renameat(place.directory.as_fd(), from.as_str(), place.directory.as_fd(), to)
            }
            CreatedFile::Named(_) => Ok(()),
        });
        kept.map_err(|errno| place.failed(to, errno))?;
        self.creator = None;
        Ok(())
    }

    /// As [`UnusedFile::keep`], and removes the other files of an earlier series. Another capture
    /// may have begun one since this file was created, when neither had a name.
    pub(super) fn keep_as_first(self) -> Result<()> {
        let own = if let CreatedFile::Named(name) = &self.created { Some(name.as_str()) } else { None };
        match self.place.replaces {
            true => self.place.clear_series(own)?,
            false => self.place.check_series(own)?,
        }
        self.keep()
    }
}

impl Drop for UnusedFile {
    fn drop(&mut self) {
        if let CreatedFile::Named(name) = &self.created
            && self.creator == Some(std::process::id())
        {
            // The error that prevented the start matters.
            let _ = self.place.remove(name);
        }
    }
}

/// The path by which this process can give an open file a name.
fn proc_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Creates something with the first temporary name that is free. Returns both.
fn with_temporary_name<T>(create: impl Fn(&str) -> nix::Result<T>) -> nix::Result<(T, String)> {
    (0..MAX_TEMPORARY_NAMES)
        .map(temporary_name)
        .find_map(|name| match create(&name) {
            Err(Errno::EEXIST) => None,
            created => Some(created.map(|created| (created, name))),
        })
        .unwrap_or(Err(Errno::EEXIST))
}

/// The name of a file until it replaces another one. Does not depend on the name, which may be as
/// long as names can be.
fn temporary_name(number: u32) -> String {
    format!(".netwatch-{}-{number}", std::process::id())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Whether it is /dev/null, whose owner receives nothing. tcpdump gives the file that it writes,
/// and so /dev/null, to a user of its own.
fn is_null_device(about: &FileStat) -> bool {
    about.st_mode & libc::S_IFMT == libc::S_IFCHR && about.st_rdev == libc::makedev(1, 3)
}

fn is_stream(about: &FileStat) -> bool {
    matches!(about.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFCHR)
}

/// Whether the file can be truncated: pipes and devices cannot.
pub(super) fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|about| {
        let kind = about.file_type();
        kind.is_file() && !kind.is_fifo()
    })
}

/// pcapng, unless the name ends otherwise. Case does not matter.
fn of_name(name: &str) -> (Format, Compression) {
    let name = name.to_ascii_lowercase();
    let (name, compression) = match name.strip_suffix(".gz") {
        Some(name) => (name, Compression::Gzip),
        None => match name.strip_suffix(".zst") {
            Some(name) => (name, Compression::Zstd),
            None => (name.as_str(), Compression::None),
        },
    };
    (if name.ends_with(".pcap") { Format::Pcap } else { Format::PcapNg }, compression)
}
