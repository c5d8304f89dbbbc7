//! Keeps the target's private files mounted. When a host file is replaced by rename (resolvconf,
//! NetworkManager, systemd-resolved, a package upgrade), the kernel silently removes every mount
//! over the old file in all mount namespaces (d_invalidate in fs/dcache.c). The keeper watches the
//! directories that lead to these files, from netwatch's own process, and mounts the target's files
//! again.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::path_steps::{PathStep, steps};
use super::{Ensured, IfMissing, MountPlan, ensure, name_services, resolv_conf};
use crate::error::{Error, Result};

/// How long the host's resolv.conf may be missing before an overlay makes a place for the target's.
/// Some scripts remove the file and then write it again; the overlay is for hosts that have none.
const MISSING_TIMEOUT: Duration = Duration::from_millis(500);

/// Watches the host's files and mounts the target's again. Its descriptor ([`AsFd`]) is readable
/// when [`Keeper::check`] may have something to do.
#[derive(Debug)]
pub struct Keeper {
    plan: MountPlan,
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, BTreeSet<OsString>>,
    /// The target's mount namespace.
    namespace: Option<OwnedFd>,
    /// Something may have changed since the mounts were last checked.
    is_dirty: bool,
    missing_since: Option<Instant>,
    /// [`MISSING_TIMEOUT`], except in tests.
    pub(super) missing_timeout: Duration,
}

/// What [`Keeper::check`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptMounts {
    /// Number of files that were mounted again.
    pub remounted: usize,
    /// The host's resolv.conf (or another watched file) was written, replaced or removed: its
    /// search and options lines may have changed.
    pub host_changed: bool,
}

impl Keeper {
    /// Starts watching. Call it before the target's process mounts anything, so that no change in
    /// between is missed.
    pub fn watch(plan: &MountPlan) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| {
            Error::os("watch", resolv_conf::PATH, errno).hint("raise fs.inotify.max_user_instances")
        })?;
        let watched = HashMap::new();
        let mut keeper = Self {
            plan: plan.clone(),
            inotify,
            watched,
            namespace: None,
            is_dirty: false,
            missing_since: None,
            missing_timeout: MISSING_TIMEOUT,
        };
        keeper.watch_all()?;
        Ok(keeper)
    }

    /// Sets the target's mount namespace (`/proc/PID/ns/mnt`, opened after its process has called
    /// [`super::prepare`]). The keeper holds it, and so its mounts, until it is dropped.
    pub fn enter(&mut self, namespace: OwnedFd) -> Result<()> {
        let inode = |file: std::io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino()));
        let failed = |error| Error::os("read", "the command's mount namespace", error);
        let own = inode(fs::metadata("/proc/thread-self/ns/mnt")).map_err(failed)?;
        let file = File::from(namespace);
        if inode(file.metadata()).map_err(failed)? == own {
            return Err(Error::other("keep", "the command's mounts", "its mount namespace is the host's"));
        }
        self.namespace = Some(file.into());
        self.is_dirty = true;
        Ok(())
    }

    /// Reads the events and mounts again what is missing. Takes under a millisecond, or a few
    /// microseconds if nothing has happened. Call it when the descriptor is readable, after
    /// [`Keeper::enter`], and once a second, because a file that stays removed causes no event.
    pub fn check(&mut self) -> Result<KeptMounts> {
        let host_changed = self.read_events()?;
        if self.is_dirty {
            self.watch_all()?;
        }
        let overdue = self.missing_since.is_some_and(|since| since.elapsed() >= self.missing_timeout);
        let Some(namespace) = self.namespace.as_ref().filter(|_| self.is_dirty || overdue) else {
            return Ok(KeptMounts { remounted: 0, host_changed });
        };
        let if_missing = if overdue { IfMissing::MakePlace } else { IfMissing::Wait };
        let ensured = ensure_within(namespace, &self.plan, if_missing)?;
        self.is_dirty = false;
        self.missing_since = ensured.is_missing.then(|| self.missing_since.unwrap_or_else(Instant::now));
        Ok(KeptMounts { remounted: ensured.mounted, host_changed })
    }

    /// True if a watched file, or a directory that leads to it, was written, replaced or removed.
    fn read_events(&mut self) -> Result<bool> {
        let mut host_changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    host_changed |= events.iter().any(|event| self.concerns(event));
                    self.is_dirty |= host_changed;
                }
                Err(Errno::EAGAIN) => return Ok(host_changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("watch", resolv_conf::PATH, errno)),
            }
        }
    }

    /// Whether the event concerns a watched file or a directory that leads to one. An overflow may
    /// concern any of them.
    fn concerns(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let Some(names) = self.watched.get(&event.wd) else { return false };
        event.name.as_ref().is_none_or(|name| names.contains(name))
    }

    /// Watches the directories that lead to the files now, and no others.
    fn watch_all(&mut self) -> Result<()> {
        let mut watched: HashMap<WatchDescriptor, BTreeSet<OsString>> = HashMap::new();
        for PathStep { dir, name } in self.files().iter().flat_map(|file| steps(file)) {
            match self.inotify.add_watch(&dir, WATCH_MASK) {
                Ok(descriptor) => drop(watched.entry(descriptor).or_default().insert(name)),
                // It was removed meanwhile, which causes an event in its parent directory.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(Error::os("watch", dir.display().to_string(), errno)),
            }
        }
        for stale in self.watched.keys().filter(|descriptor| !watched.contains_key(descriptor)) {
            // EINVAL: the directory no longer exists.
            let _ = self.inotify.rm_watch(*stale);
        }
        self.watched = watched;
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        let fixed = [resolv_conf::PATH, name_services::NSSWITCH];
        fixed.iter().chain(&name_services::SOCKETS).map(PathBuf::from).collect()
    }
}

/// A name was created in a directory or removed from it, or a file in it was written.
const WATCH_MASK: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Calls [`ensure`] in the target's mount namespace, in a separate thread: a thread that shares its
/// root and working directory with others cannot change its mount namespace, and this one need not
/// return to the old namespace.
fn ensure_within(namespace: &OwnedFd, plan: &MountPlan, if_missing: IfMissing) -> Result<Ensured> {
    let work = || {
        let failed = |errno| Error::os("enter", "the command's mount namespace", errno);
        unshare(CloneFlags::CLONE_FS).map_err(failed)?;
        setns(namespace, CloneFlags::CLONE_NEWNS).map_err(failed)?;
        ensure(plan, if_missing)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("keep-mounts".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::os("start a thread to mount", resolv_conf::PATH, error))?;
        thread.join().map_err(|_| Error::other("mount again", resolv_conf::PATH, "the thread panicked"))?
    })
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Keeper {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
