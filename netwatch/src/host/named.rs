//! The name of a network namespace, as iproute2 implements it: a bind mount at `/run/netns/NAME`,
//! and a resolv.conf in `/etc/netns/NAME` for processes that join. Undoing the journal removes
//! both. Creating and undoing need [`crate::undo::Exclusive`], because runs share the directories.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::undo::{Journal, UndoRecord};

const RUN_NETNS: &str = "/run/netns";
const ETC_NETNS: &str = "/etc/netns";

/// A file that netwatch made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Distinguishes it from another program's file at the same path; `None` where the path itself
    /// is unique to the run.
    pub inode: Option<Inode>,
}

impl UndoRecord for OwnFile {
    const KIND: &'static str = "file";
}

/// A directory that netwatch made; removed only when it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDirectory {
    /// Absolute path.
    pub path: PathBuf,
}

impl UndoRecord for OwnDirectory {
    const KIND: &'static str = "directory";
}

/// A directory that netwatch mounted on itself in the host's mount namespace. It stays while other
/// mounts are in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMount {
    /// Absolute path of the mount point.
    pub path: PathBuf,
}

impl UndoRecord for SharedMount {
    const KIND: &'static str = "mount";
}

/// The name of a network namespace: a mount on a file. Undoing leaves a name that another program
/// has taken since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceName {
    /// Absolute path of the mount point.
    pub path: PathBuf,
    /// The file below the mount.
    pub file: Inode,
    /// The namespace that is mounted.
    pub netns: Inode,
}

impl UndoRecord for NamespaceName {
    const KIND: &'static str = "name";
}

/// Identifies a file as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl From<&Metadata> for Inode {
    fn from(data: &Metadata) -> Self {
        Self { device: data.dev(), number: data.ino() }
    }
}

/// The name of a namespace, which exists until the journal is undone.
#[derive(Debug)]
pub struct NamedNamespace {
    name: String,
}

/// Checks the name of a namespace by the rules of iproute2: it must be a file name that is not
/// taken.
pub fn validate(name: &str) -> Result<()> {
    let fine = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && name != "." && name != "..";
    if !fine {
        return Err(Error::other("name namespace", name, "not a valid name").hint("use a file name without slashes"));
    }
    if Path::new(RUN_NETNS).join(name).symlink_metadata().is_ok() {
        return Err(taken(name));
    }
    Ok(())
}

fn taken(name: &str) -> Error {
    Error::os("name namespace", name, Errno::EEXIST).hint(format!("choose another; `ip netns delete {name}` frees it"))
}

impl NamedNamespace {
    /// Gives the namespace of `file` a name. Every step is recorded in the journal before it is
    /// taken.
    pub fn create(name: &str, file: &File, journal: &Journal) -> Result<Self> {
        make_directory(Path::new(RUN_NETNS), journal)?;
        share_directory(journal)?;
        let named = Self { name: name.to_owned() };
        named.mount(file, journal)?;
        Ok(named)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn mount(&self, file: &File, journal: &Journal) -> Result<()> {
        let path = Path::new(RUN_NETNS).join(&self.name);
        let shown = path.display().to_string();
        let netns = Inode::from(&file.metadata().map_err(|error| Error::os("read", "the network namespace", error))?);
        let name = |file| NamespaceName { path: path.clone(), file, netns };
        if !place(&path, &[], 0o444, name, journal)? {
            return Err(taken(&self.name));
        }
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::os("mount namespace at", shown, errno))
    }

    /// Writes `/etc/netns/NAME/resolv.conf`, which `ip netns exec` mounts over /etc/resolv.conf. An
    /// existing file is the user's and stays untouched; then this returns false.
    pub fn provide_resolv_conf(&self, contents: &str, journal: &Journal) -> Result<bool> {
        let directory = Path::new(ETC_NETNS).join(&self.name);
        let path = directory.join("resolv.conf");
        if path.symlink_metadata().is_ok() {
            return Ok(false);
        }
        make_directory(Path::new(ETC_NETNS), journal)?;
        make_directory(&directory, journal)?;
        let file = |inode| OwnFile { path: path.clone(), inode: Some(inode) };
        place(&path, contents.as_bytes(), 0o644, file, journal)
    }
}

/// Makes `/run/netns` a shared mount, as `ip netns add` does, so that a name propagates to the
/// other mount namespaces and can be unmounted there. If netwatch made the mount, undoing removes
/// it, unless names of other programs are in it by then.
fn share_directory(journal: &Journal) -> Result<()> {
    // iproute2 takes this lock for the same purpose, so that the directory is mounted on itself
    // only once.
    let directory = File::open(RUN_NETNS).map_err(|error| Error::os("open", RUN_NETNS, error))?;
    let _lock =
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| Error::os("lock", RUN_NETNS, errno))?;
    let share = || mount(None::<&str>, RUN_NETNS, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Ok(()) => return Ok(()),
        Err(Errno::EINVAL) => {} // Not a mount point yet.
        Err(errno) => return Err(Error::os("share mount", RUN_NETNS, errno)),
    }
    journal.record(&SharedMount { path: RUN_NETNS.into() })?;
    mount(Some(RUN_NETNS), RUN_NETNS, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .and_then(|()| share())
        .map_err(|errno| Error::os("share mount", RUN_NETNS, errno))
}

/// Creates a complete file at `path`; false if something exists there. The file is written under
/// another name and then linked: of several processes that link, or create with O_EXCL as iproute2
/// does, exactly one succeeds. The inode of the file is in the journal before it is linked, so
/// another program's file at that path is never mistaken for netwatch's.
fn place<R: UndoRecord>(
    path: &Path,
    contents: &[u8],
    mode: u32,
    undo: impl FnOnce(Inode) -> R,
    journal: &Journal,
) -> Result<bool> {
    let draft = path.with_file_name(format!(".netwatch-{}", journal.run()));
    let failed = |error| Error::os("write", path.display().to_string(), error);
    journal.record(&OwnFile { path: draft.clone(), inode: None })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(failed)?;
    file.write_all(contents).map_err(failed)?;
    journal.record(&undo(Inode::from(&file.metadata().map_err(failed)?)))?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(failed)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true).map_err(failed),
    }
}

fn make_directory(path: &Path, journal: &Journal) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    journal.record(&OwnDirectory { path: path.to_owned() })?;
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::os("create", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// The resolv.conf that iproute2 mounts for processes that join `name`, if the user wrote one.
pub fn resolv_conf_of(name: &str) -> Option<PathBuf> {
    Some(Path::new(ETC_NETNS).join(name).join("resolv.conf")).filter(|path| path.is_file())
}

/// Undoes [`SharedMount`]. While names of other programs are in it, the kernel refuses without
/// MNT_DETACH, which would remove them as well.
pub fn undo_mount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
        // The directory is busy, not a mount point, or does not exist: it is undone already, or
        // used by others.
        Ok(()) | Err(Errno::EBUSY | Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::os("unmount", path.display().to_string(), errno)),
    }
}

/// Undoes [`NamespaceName`]: unmounts the namespace, then removes the mount point, each only if it
/// is the one that was recorded.
pub fn undo_name(path: &Path, file: Inode, netns: Inode) -> Result<()> {
    if inode_at(path)? == Some(netns) {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::os("unmount", path.display().to_string(), errno)),
        }
    }
    undo_file(path, Some(file))
}

/// Undoes [`OwnFile`]: another program's file stays.
pub fn undo_file(path: &Path, inode: Option<Inode>) -> Result<()> {
    if inode.is_some() && inode_at(path)? != inode {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::os("remove", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// The inode at this path, which may be a mount point; `None` if nothing exists there.
fn inode_at(path: &Path) -> Result<Option<Inode>> {
    match path.symlink_metadata() {
        Ok(data) => Ok(Some(Inode::from(&data))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::os("read", path.display().to_string(), error)),
    }
}

/// Undoes [`OwnDirectory`]: a directory that is not empty, or is a mount point, stays.
pub fn undo_directory(path: &Path) -> Result<()> {
    match nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, path, nix::unistd::UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(Error::os("remove", path.display().to_string(), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::namespace::Namespace;
    use crate::host::testing::{in_fresh_namespace, ip};
    use crate::undo::{Exclusive, JournalLine, RunDir};

    fn with_journal(test: impl FnOnce(&Path, &Journal) + Send) {
        in_fresh_namespace(|| {
            let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
            test(run.path(), &Journal::open(&run).unwrap());
        });
    }

    fn etc_netns_is_there() -> bool {
        Path::new(ETC_NETNS).exists()
    }

    #[test]
    fn refuses_what_iproute2_refuses() {
        for name in ["", ".", "..", "a/b", "/", &"x".repeat(256)] {
            assert!(validate(name).is_err(), "{name:?}");
        }
        assert!(validate("nw-not-there").is_ok());
    }

    #[test]
    fn can_be_joined_and_is_removed_afterwards() {
        with_journal(|dir, journal| {
            let namespace = Namespace::create(Some("nwtest-join"), journal).unwrap();
            namespace.named().unwrap().provide_resolv_conf("nameserver 198.51.100.1\n", journal).unwrap();
            assert!(ip("netns list").contains("nwtest-join"));
            assert!(ip("netns exec nwtest-join cat /etc/resolv.conf").contains("198.51.100.1"));
            let recorded = Journal::read(dir).unwrap();
            let at = |wanted: &str| {
                let name = |line: &JournalLine| line.read().unwrap().map(|NamespaceName { path, .. }| path);
                let file = |line: &JournalLine| line.read().unwrap().map(|OwnFile { path, .. }| path);
                recorded
                    .iter()
                    .any(|line| name(line).or_else(|| file(line)).is_some_and(|path| path == Path::new(wanted)))
            };
            assert!(at("/run/netns/nwtest-join") && at("/etc/netns/nwtest-join/resolv.conf"), "{recorded:?}");
            drop(namespace);
            undo_all(dir);
            assert!(!Path::new(RUN_NETNS).exists());
            assert!(!etc_netns_is_there() || !Path::new("/etc/netns/nwtest-join").exists());
        });
    }

    #[test]
    fn a_taken_name_is_refused_and_left_alone() {
        with_journal(|dir, journal| {
            ip("netns add nwtest-taken");
            let error = Namespace::create(Some("nwtest-taken"), journal).unwrap_err();
            assert!(error.to_string().contains("EEXIST"), "{error}");
            assert!(ip("netns list").contains("nwtest-taken"));
            assert_eq!(Journal::read(dir).unwrap(), []);
        });
    }

    #[test]
    fn names_of_other_programs_stay() {
        with_journal(|dir, journal| {
            let namespace = Namespace::create(Some("nwtest-ours"), journal).unwrap();
            ip("netns add nwtest-theirs");
            drop(namespace);
            undo_all(dir);
            assert_eq!(ip("netns list").trim(), "nwtest-theirs");
            ip("netns exec nwtest-theirs true");
        });
    }

    /// Undoes the journal as `clean` does; the directory stays, so that this can be called again.
    fn undo_all(dir: &Path) {
        for line in Journal::read(dir).unwrap().iter().rev() {
            if let Some(NamespaceName { path, file, netns }) = line.read().unwrap() {
                undo_name(&path, file, netns).unwrap();
            } else if let Some(OwnFile { path, inode }) = line.read().unwrap() {
                undo_file(&path, inode).unwrap();
            } else if let Some(SharedMount { path }) = line.read().unwrap() {
                undo_mount(&path).unwrap();
            } else if let Some(OwnDirectory { path }) = line.read().unwrap() {
                undo_directory(&path).unwrap();
            } else {
                panic!("{line:?}");
            }
        }
    }

    fn is_intact(name: &str) -> bool {
        ip("netns list").split_whitespace().eq([name]) && ip(&format!("netns exec {name} echo in")).trim() == "in"
    }

    #[test]
    fn a_name_that_another_program_takes_meanwhile_stays() {
        with_journal(|dir, journal| {
            let file = File::open("/proc/thread-self/ns/net").unwrap();
            ip("netns add nwtest-race");
            // After the check whether the name is free.
            let error = NamedNamespace::create("nwtest-race", &file, journal).unwrap_err();
            assert!(error.to_string().contains("EEXIST"), "{error}");
            undo_all(dir);
            assert!(is_intact("nwtest-race"));
        });
    }

    #[test]
    fn a_name_that_another_program_takes_over_stays() {
        with_journal(|dir, journal| {
            let namespace = Namespace::create(Some("nwtest-over"), journal).unwrap();
            ip("netns delete nwtest-over");
            ip("netns add nwtest-over");
            drop(namespace);
            undo_all(dir);
            assert!(is_intact("nwtest-over"));
        });
    }

    #[test]
    fn a_run_killed_between_two_steps_leaves_nothing() {
        with_journal(|dir, journal| {
            ip("netns add nwtest-other");
            let file = File::open("/proc/thread-self/ns/net").unwrap();
            let path = Path::new("/run/netns/nwtest-half");
            let netns = Inode::from(&file.metadata().unwrap());
            let undo = |file| NamespaceName { path: path.to_owned(), file, netns };
            assert!(place(path, &[], 0o444, undo, journal).unwrap());
            assert!(path.exists());
            undo_all(dir);
            assert!(!path.exists() && is_intact("nwtest-other"));
        });
    }

    #[test]
    fn a_resolv_conf_that_the_user_replaces_stays() {
        with_journal(|dir, journal| {
            let namespace = Namespace::create(Some("nwtest-conf"), journal).unwrap();
            namespace.named().unwrap().provide_resolv_conf("# ours\n", journal).unwrap();
            let (path, new) = ("/etc/netns/nwtest-conf/resolv.conf", "/etc/netns/nwtest-conf/new");
            fs::write(new, "# theirs\n").unwrap();
            fs::rename(new, path).unwrap();
            drop(namespace);
            undo_all(dir);
            assert_eq!(fs::read_to_string(path).unwrap(), "# theirs\n");
            fs::remove_dir_all("/etc/netns/nwtest-conf").unwrap();
            undo_all(dir);
        });
    }

    #[test]
    fn undoing_twice_or_what_never_happened_succeeds() {
        with_journal(|dir, journal| {
            drop(Namespace::create(Some("nwtest-twice"), journal).unwrap());
            undo_all(dir);
            undo_all(dir);
            undo_file(Path::new("/run/netns/.netwatch-00000000"), None).unwrap();
            undo_mount(Path::new(RUN_NETNS)).unwrap();
            undo_directory(Path::new(RUN_NETNS)).unwrap();
        });
    }
}
