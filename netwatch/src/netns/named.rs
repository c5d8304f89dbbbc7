//! The name of a namespace as iproute2 knows it: a bind mount at `/run/netns/NAME`, and a resolv.conf in `/etc/netns/NAME` for those
//! who join. Not the namespace itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};
use crate::state::Journal;
use crate::state::undo::Undo;

const RUN_NETNS: &str = "/run/netns";
const ETC_NETNS: &str = "/etc/netns";

/// A name that is ours. Dropping it takes it away.
#[derive(Debug)]
pub struct Named {
    name: String,
    /// Undone from the last to the first.
    made: Vec<Undo>,
}

/// Says why this cannot be the name of a namespace. The rules are iproute2's: a file name.
pub fn validate(name: &str) -> Result<()> {
    let fine = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && name != "." && name != "..";
    if !fine {
        return Err(Error::said("name namespace", name, "not a valid name").hint("use a file name without slashes"));
    }
    if Path::new(RUN_NETNS).join(name).symlink_metadata().is_ok() {
        return Err(taken(name));
    }
    Ok(())
}

fn taken(name: &str) -> Error {
    Error::os("name namespace", name, Errno::EEXIST).hint(format!("choose another; `ip netns delete {name}` frees it"))
}

impl Named {
    /// Gives the namespace behind `file` a name. Every step is in the journal before it is taken.
    pub fn create(name: &str, file: &File, journal: &Journal) -> Result<Self> {
        let mut named = Self { name: name.to_owned(), made: Vec::new() };
        named.share_directory(journal)?;
        // iproute2 takes this lock too while it makes or removes names: between our look and our record nobody else takes the name,
        // so that the record never speaks of somebody else's mount.
        let directory = File::open(RUN_NETNS).map_err(|error| Error::os("open", RUN_NETNS, error))?;
        let _lock = Flock::lock(directory, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::os("lock", RUN_NETNS, errno))?;
        validate(name)?;
        named.mount(file, journal)?;
        Ok(named)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/run/netns` as `ip netns add` makes it: a shared mount, so that a name reaches the other mount namespaces and can be unmounted
    /// there again. If it was us who made it, it goes again, unless somebody else's names are in it by then.
    fn share_directory(&mut self, journal: &Journal) -> Result<()> {
        self.make_directory(Path::new(RUN_NETNS), journal)?;
        let share = || mount(None::<&str>, RUN_NETNS, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
        match share() {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) => {} // Not a mount point yet.
            Err(errno) => return Err(Error::os("share mount", RUN_NETNS, errno)),
        }
        self.record(Undo::Mount { path: RUN_NETNS.into() }, journal)?;
        mount(Some(RUN_NETNS), RUN_NETNS, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .and_then(|()| share())
            .map_err(|errno| Error::os("share mount", RUN_NETNS, errno))
    }

    fn mount(&mut self, file: &File, journal: &Journal) -> Result<()> {
        let path = Path::new(RUN_NETNS).join(&self.name);
        let shown = path.display().to_string();
        self.record(Undo::Mount { path: path.clone() }, journal)?;
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&path).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                // An iproute2 without the lock was faster: it is not ours to take away.
                self.made.pop();
                return taken(&self.name);
            }
            Error::os("create", shown.clone(), error)
        })?;
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::os("mount namespace at", shown, errno))
    }

    /// Writes `/etc/netns/NAME/resolv.conf`, which `ip netns exec` mounts over /etc/resolv.conf for those who join. One that is there
    /// already is the user's and stays untouched; then this returns false.
    pub fn provide_resolv_conf(&mut self, contents: &str, journal: &Journal) -> Result<bool> {
        let directory = Path::new(ETC_NETNS).join(&self.name);
        let path = directory.join("resolv.conf");
        if path.symlink_metadata().is_ok() {
            return Ok(false);
        }
        self.make_directory(Path::new(ETC_NETNS), journal)?;
        self.make_directory(&directory, journal)?;
        self.record(Undo::File { path: path.clone() }, journal)?;
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .and_then(|mut file| file.write_all(contents.as_bytes()))
            .map_err(|error| Error::os("write", path.display().to_string(), error))?;
        Ok(true)
    }

    fn make_directory(&mut self, path: &Path, journal: &Journal) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.record(Undo::Directory { path: path.to_owned() }, journal)?;
        match DirBuilder::new().mode(0o755).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::os("create", path.display().to_string(), error))
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, undo: Undo, journal: &Journal) -> Result<()> {
        journal.record(&undo)?;
        self.made.push(undo);
        Ok(())
    }

    /// Takes the name and everything made for it away; the first failure is the error, the rest is still tried.
    pub fn remove(mut self) -> Result<()> {
        self.undo_all()
    }

    fn undo_all(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for undo in self.made.drain(..).rev() {
            let undone = match &undo {
                Undo::Mount { path } => undo_mount(path),
                Undo::File { path } => undo_file(path),
                Undo::Directory { path } => undo_directory(path),
                _ => Ok(()),
            };
            outcome = outcome.and(undone);
        }
        outcome
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.undo_all();
    }
}

/// The resolv.conf that iproute2 would mount for those who join `name`, if the user wrote one.
pub fn resolv_conf_of(name: &str) -> Option<PathBuf> {
    Some(Path::new(ETC_NETNS).join(name).join("resolv.conf")).filter(|path| path.is_file())
}

/// Undoes [`Undo::Mount`]: unmounts, then removes the mount point. `/run/netns` itself is only unmounted when nobody's names are in it.
pub fn undo_mount(path: &Path) -> Result<()> {
    let shared_directory = path == Path::new(RUN_NETNS);
    // A detached /run/netns would take everybody's names along; without MNT_DETACH the kernel refuses while there are any.
    let flags = if shared_directory { MntFlags::empty() } else { MntFlags::MNT_DETACH };
    match umount2(path, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) if shared_directory => return Ok(()),
        // Not a mount point, or not there: somebody was here before us.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(Error::os("unmount", path.display().to_string(), errno)),
    }
    if shared_directory { Ok(()) } else { undo_file(path) }
}

/// Undoes [`Undo::File`].
pub fn undo_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::os("remove", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// Undoes [`Undo::Directory`]: one that is not empty, or that others use as a mount point, stays.
pub fn undo_directory(path: &Path) -> Result<()> {
    match nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, path, nix::unistd::UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(Error::os("remove", path.display().to_string(), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::namespace::Namespace;
    use crate::netns::testing::{in_fresh_namespace, ip};
    use crate::state::{Exclusive, RunDir};

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
    fn can_be_joined_and_is_gone_afterwards() {
        with_journal(|dir, journal| {
            let mut namespace = Namespace::create(Some("nwtest-join"), journal).unwrap();
            namespace.named().unwrap().provide_resolv_conf("nameserver 198.51.100.1\n", journal).unwrap();
            assert!(ip("netns list").contains("nwtest-join"));
            assert!(ip("netns exec nwtest-join cat /etc/resolv.conf").contains("198.51.100.1"));
            let recorded = Journal::read(dir).unwrap();
            assert!(recorded.contains(&Undo::Mount { path: "/run/netns/nwtest-join".into() }));
            assert!(recorded.contains(&Undo::File { path: "/etc/netns/nwtest-join/resolv.conf".into() }));
            namespace.close().unwrap();
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
    fn names_of_others_stay() {
        with_journal(|_, journal| {
            let namespace = Namespace::create(Some("nwtest-ours"), journal).unwrap();
            ip("netns add nwtest-theirs");
            namespace.close().unwrap();
            assert_eq!(ip("netns list").trim(), "nwtest-theirs");
            ip("netns exec nwtest-theirs true");
        });
    }

    #[test]
    fn undoing_twice_or_what_never_happened_is_fine() {
        with_journal(|_, journal| {
            drop(Namespace::create(Some("nwtest-twice"), journal).unwrap());
            undo_mount(Path::new("/run/netns/nwtest-twice")).unwrap();
            undo_mount(Path::new(RUN_NETNS)).unwrap();
            undo_file(Path::new("/run/netns/nwtest-twice")).unwrap();
            undo_directory(Path::new(RUN_NETNS)).unwrap();
        });
    }
}
