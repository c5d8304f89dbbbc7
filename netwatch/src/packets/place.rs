//! Where a capture is written: the format and compression that the name of a file implies, and its
//! directory, which is opened before the run starts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
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

/// Suffixes of compressions that netwatch does not write.
const OTHER_COMPRESSIONS: [&str; 10] = [".xz", ".bz2", ".lz4", ".lzma", ".lzo", ".br", ".zip", ".7z", ".zstd", ".gzip"];

/// Maximum number of files that wait to replace others, of this process or of earlier ones with its id.
const MAX_TEMPORARY_NAMES: u32 = 1000;

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
    pub(super) fn check_series(&self) -> Result<()> {
        match self.series()?.first() {
            Some(name) if !self.replaces => Err(Error::os("write", self.path_of(name), Errno::EEXIST)
                .hint("use --force to remove all files of the earlier series")),
            _ => Ok(()),
        }
    }

    /// Removes the files of an earlier series with these names, except for one file.
    fn clear_series(&self, except: &str) -> Result<()> {
        let names = self.series()?;
        names.iter().filter(|name| *name != except).try_for_each(|name| self.remove(name))
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

    /// Creates a file that is removed if nothing uses it. One with its name stays until then.
    pub(super) fn create_unused(self: &Arc<Self>, name: &str) -> Result<(File, UnusedFile)> {
        let created = as_user(self.owner, || {
            let is_there = self.replaces && self.check_replaceable(name)?;
            if !is_there {
                return Ok((self.open_as(name, OFlag::O_CREAT | OFlag::O_EXCL)?, name.to_owned()));
            }
            (0..MAX_TEMPORARY_NAMES)
                .map(temporary_name)
                .find_map(|temporary| match self.open_as(&temporary, OFlag::O_CREAT | OFlag::O_EXCL) {
                    Err(Errno::EEXIST) => None,
                    opened => Some(opened.map(|file| (file, temporary))),
                })
                .unwrap_or(Err(Errno::EEXIST))
        });
        let (file, created) = created.map_err(|errno| self.failed(name, errno))?;
        let (place, name, creator) = (self.clone(), name.to_owned(), Some(std::process::id()));
        Ok((file, UnusedFile { place, created, name, creator }))
    }

    /// Whether there is a file, which can be replaced.
    fn check_replaceable(&self, name: &str) -> nix::Result<bool> {
        let about = match fstatat(self.directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(false),
            about => about?,
        };
        if about.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Errno::EISDIR);
        }
        let directory = fstat(&self.directory)?;
        let owner = self.owner.0.as_raw();
        let is_sticky = directory.st_mode & libc::S_ISVTX != 0;
        match is_sticky && ![about.st_uid, directory.st_uid].contains(&owner) && owner != 0 {
            true => Err(Errno::EPERM),
            false => Ok(true),
        }
    }

    /// Creates a file that only its owner can read. A file that is replaced is removed first: its
    /// mode, its owner and its links are not those of the new file.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        as_user(self.owner, || {
            match self.replaces.then(|| self.unlink(name)) {
                Some(Err(errno)) if errno != Errno::ENOENT => return Err(errno),
                _ => {}
            }
            self.open_as(name, OFlag::O_CREAT | OFlag::O_EXCL)
        })
        .map_err(|errno| self.failed(name, errno))
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
        let file = as_user(self.owner, || self.open_as(name, OFlag::empty()));
        let file = file.map_err(|errno| self.failed(name, errno))?;
        // The name may be that of another file by now.
        let opened = fstat(&file).map_err(|errno| self.failed(name, errno))?;
        if is_trusted(&opened) { Ok(Some(file)) } else { Err(refused()) }
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

/// A new file before anything uses it. Removes it when it is dropped.
#[derive(Debug)]
pub(super) struct UnusedFile {
    place: Arc<CapturePlace>,
    /// The name that it has.
    created: String,
    /// The name that it gets when it is kept.
    name: String,
    /// The process that created it; `None` if it is kept. Processes that it starts have a copy.
    creator: Option<u32>,
}

impl UnusedFile {
    /// Gives the file its name. A file that had the name is replaced: its mode, its owner and its
    /// links are not those of the new file.
    pub(super) fn keep(mut self) -> Result<()> {
        let (place, from, to) = (&self.place, self.created.as_str(), self.name.as_str());
        if from != to {
            let directory = place.directory.as_fd();
            as_user(place.owner, || renameat(directory, from, directory, to))
                .map_err(|errno| place.failed(to, errno))?;
        }
        self.creator = None;
        Ok(())
    }

    /// As [`UnusedFile::keep`], and removes the other files of an earlier series.
    pub(super) fn keep_as_first(self) -> Result<()> {
        self.place.clear_series(&self.created)?;
        self.keep()
    }
}

impl Drop for UnusedFile {
    fn drop(&mut self) {
        if self.creator == Some(std::process::id()) {
            // The error that prevented the start matters.
            let _ = self.place.remove(&self.created);
        }
    }
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn place(dir: &Path, name: &str, replaces: bool) -> Arc<CapturePlace> {
        let owner = (Uid::effective(), Gid::effective());
        Arc::new(CapturePlace::open(&dir.join(name), owner, replaces).expect("a directory"))
    }

    #[test]
    fn the_suffix_selects_format_and_compression() {
        assert_eq!(of_name("a.pcapng"), (Format::PcapNg, Compression::None));
        assert_eq!(of_name("a.pcap.gz"), (Format::Pcap, Compression::Gzip));
        assert_eq!(of_name("a.pcapng.zst"), (Format::PcapNg, Compression::Zstd));
        assert_eq!(of_name("trace"), (Format::PcapNg, Compression::None));
        assert_eq!(of_name("A.PCAP"), (Format::Pcap, Compression::None));
        assert_eq!(of_name("a.Pcap.ZST"), (Format::Pcap, Compression::Zstd));
    }

    #[test]
    fn other_compressions_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["x.pcap.xz", "x.pcapng.BZ2", "x.lz4"] {
            let refused = place(dir.path(), name, false).require_compression().expect_err("refused").to_string();
            assert!(refused.contains("does not write") && refused.contains(".zst"), "{refused}");
        }
        place(dir.path(), "xz.pcapng", false).require_compression().expect("no suffix of a compression");
    }

    #[test]
    fn a_file_that_nothing_used_is_removed_and_an_older_one_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("older"), "older").expect("written");
        for (name, keeps) in [("kept", true), ("removed", false), ("older", false), ("older", true)] {
            let place = place(dir.path(), name, true);
            let (_file, unused) = place.open_named().expect("created");
            let is_older = || std::fs::read(dir.path().join(name)).is_ok_and(|text| text == b"older");
            assert_eq!(is_older(), name == "older", "nothing uses the new one yet");
            let unused = unused.expect("a new file");
            if keeps {
                unused.keep().expect("renamed");
            } else {
                drop(unused);
            }
            let exists = dir.path().join(name).exists();
            assert_eq!((exists, is_older()), (keeps || name == "older", !keeps && name == "older"), "{name}");
        }
        let mut left: Vec<_> = dir.path().read_dir().expect("a directory").flatten().map(|at| at.file_name()).collect();
        left.sort();
        assert_eq!(left, ["kept", "older"]);
    }

    #[test]
    fn what_cannot_be_replaced_is_refused_before_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("x")).expect("created");
        let refused = place(dir.path(), "x", true).open_named().expect_err("a directory");
        assert_eq!(refused.errno(), Some(Errno::EISDIR));
        if Uid::effective().is_root() {
            std::fs::write(dir.path().join("y"), "of root").expect("written");
            std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("ours");
            let other = (Uid::from_raw(65534), Gid::from_raw(65534));
            let place = Arc::new(CapturePlace::open(&dir.path().join("y"), other, true).expect("a directory"));
            assert_eq!(place.open_named().expect_err("a file of root").errno(), Some(Errno::EPERM));
        }
    }

    #[test]
    fn two_outputs_have_two_names() {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).expect("a link");
        let file = place(dir.path(), "x.pcapng", true);
        for same in ["x.pcapng", "link/x.pcapng", "x-00001.pcapng"] {
            let refused = place(dir.path(), same, true).require_other_than(&file).expect_err(same).to_string();
            assert!(refused.contains("cannot both"), "{refused}");
        }
        place(dir.path(), "x.txt", true).require_other_than(&file).expect("another name");
        let null = || place(Path::new("/dev"), "null", true);
        null().require_other_than(&null()).expect("it keeps nothing");
    }

    #[test]
    fn numbers_stand_before_the_suffix() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = |name: &str| place(dir.path(), name, false).name(Some(7));
        assert_eq!(name("a.b.pcapng.zst"), "a.b-00007.pcapng.zst");
        assert_eq!(name("A.PCAPNG.gz"), "A-00007.PCAPNG.gz");
        assert_eq!((name("a.cap"), name("a"), name(".a")), ("a-00007.cap".into(), "a-00007".into(), ".a-00007".into()));
    }

    #[test]
    fn a_replaced_file_has_its_own_mode_and_the_target_of_a_link_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("open.pcapng"), "older").expect("written");
        std::fs::set_permissions(path("open.pcapng"), Permissions::from_mode(0o666)).expect("the file is ours");
        let mut older = File::open(path("open.pcapng")).expect("a file");
        std::os::unix::fs::symlink(path("open.pcapng"), path("link.pcapng")).expect("a link");
        for name in ["link.pcapng", "open.pcapng"] {
            let (file, unused) = place(dir.path(), name, true).open_named().expect("created");
            unused.expect("a new file").keep().expect("replaced");
            assert_eq!(file.metadata().expect("metadata").mode() & 0o7777, 0o600);
            assert!(path(name).symlink_metadata().expect("metadata").is_file(), "{name}");
        }
        let mut text = String::new();
        older.read_to_string(&mut text).expect("read");
        assert_eq!(text, "older");
    }

    #[test]
    fn only_the_exact_name_may_be_a_pipe_and_only_one_of_the_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = |name: &str| nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).expect("a pipe");
        pipe("x-00001.pcapng");
        let numbered = place(dir.path(), "x.pcapng", false).create("x-00001.pcapng").expect_err("it is a pipe");
        assert_eq!(numbered.errno(), Some(Errno::EEXIST));
        pipe("x.pcapng");
        let _reader = nix::fcntl::open(&dir.path().join("x.pcapng"), OFlag::O_RDWR, Mode::empty()).expect("opened");
        place(dir.path(), "x.pcapng", false).open_named().expect("a stream");
        if Uid::effective().is_root() {
            let other = (Some(Uid::from_raw(65534)), None);
            nix::unistd::chown(&dir.path().join("x.pcapng"), other.0, other.1).expect("root changes owners");
            let refused = place(dir.path(), "x.pcapng", false).open_named().expect_err("refused").to_string();
            assert!(refused.contains("another user"), "{refused}");
        }
    }

    #[test]
    fn the_null_device_may_belong_to_anyone() {
        use nix::sys::stat::{SFlag, makedev, mknod};
        if !Uid::effective().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let device = |name: &str, minor| {
            let path = dir.path().join(name);
            mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, minor)).expect("root makes devices");
            nix::unistd::chown(&path, Some(Uid::from_raw(65534)), None).expect("root changes owners");
            place(dir.path(), name, false).open_named()
        };
        match device("null", 3) {
            Err(error) if error.errno() == Some(Errno::EACCES) => {} // mounted with nodev
            opened => drop(opened.expect("a stream")),
        }
        // /dev/zero
        assert!(device("zero", 5).expect_err("refused").to_string().contains("another user"));
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
