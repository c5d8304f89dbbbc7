//! A network namespace that netwatch did not create. Nothing in it is changed. It exists as long as
//! this value does, so its owner has to check whether it has ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::namespace::in_thread;
use crate::error::{Error, Result};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// An open network namespace.
#[derive(Debug)]
pub struct ExistingNamespace {
    file: File,
    path: PathBuf,
}

impl ExistingNamespace {
    /// Opens a name of `ip netns`, or a path if it contains a slash.
    pub fn open(name: &str) -> Result<Self> {
        let path = if name.contains('/') { PathBuf::from(name) } else { Path::new(NAMES).join(name) };
        let failed = |error: io::Error| Error::os("open network namespace", name, error);
        // Opening a FIFO would wait for a writer.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed(error).hint("`ip netns` lists names; a path contains a slash"),
            _ => failed(error),
        })?;
        if !is_network_namespace(&file) {
            return Err(Error::other("open network namespace", name, "it is no network namespace"));
        }
        Ok(Self { file, path })
    }

    /// Whether it is the namespace of the calling thread.
    pub fn is_own(&self) -> Result<bool> {
        let own = "/proc/thread-self/ns/net";
        let own = std::fs::metadata(own).map_err(|error| Error::os("read", own, error))?;
        Ok((own.dev(), own.ino()) == self.identity()?)
    }

    /// Whether both are the same namespace.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    fn identity(&self) -> Result<(u64, u64)> {
        let this = self.file.metadata().map_err(|error| Error::os("read", self.path.display().to_string(), error))?;
        Ok((this.dev(), this.ino()))
    }

    /// Whether its path no longer leads to it: its name was removed, or its process has ended.
    pub fn has_ended(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(now), Ok(opened)) => (now.dev(), now.ino()) != (opened.dev(), opened.ino()),
            _ => true,
        }
    }

    /// Runs `work` in a thread inside the namespace and waits for it.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                Error::os("enter network namespace", self.path.display().to_string(), errno)
                    .hint("needs CAP_SYS_ADMIN; run with sudo")
            })?;
            Ok(work())
        })?
    }

    /// A new namespace.
    #[cfg(test)]
    pub(super) fn of_test() -> Self {
        let make = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let file = in_thread(make).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into();
        Self { file, path }
    }
}

impl AsFd for ExistingNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `NS_GET_NSTYPE` (ioctl_ns(2)).
fn is_network_namespace(file: &File) -> bool {
    const GET_TYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request has no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), GET_TYPE) };
    kind == libc::CLONE_NEWNET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_to_lead_to_a_network_namespace() {
        for path in ["/proc/self/ns/mnt", "/proc/self/status"] {
            let error = ExistingNamespace::open(path).expect_err("another file").to_string();
            assert!(error.contains("it is no network namespace"), "{error}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("made");
        let error = ExistingNamespace::open(fifo.to_str().expect("text")).expect_err("a FIFO").to_string();
        assert!(error.contains("it is no network namespace"), "{error}");
        let error = format!("{:#}", ExistingNamespace::open("no-such-name").expect_err("no name"));
        assert!(error.contains("ENOENT") && error.contains("ip netns"), "{error}");
        let own = ExistingNamespace::open("/proc/thread-self/ns/net").expect("a namespace");
        assert!(own.is_own().expect("read") && own.is_same(&own).expect("read") && !own.has_ended());
    }

    #[test]
    fn has_ended_when_the_path_leads_elsewhere() {
        let other = ExistingNamespace::of_test();
        assert!(!other.has_ended() && !other.is_own().expect("read"));
        let moved = ExistingNamespace { path: "/proc/thread-self/ns/net".into(), ..other };
        assert!(moved.has_ended());
    }
}
