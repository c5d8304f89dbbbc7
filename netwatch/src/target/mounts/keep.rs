//! Keeps the command's private files where they are. A host that replaces one of its files by rename (resolvconf, NetworkManager, systemd-resolved, a
//! package's upgrade) takes away every mount over the old one, in all mount namespaces, without a word (d_invalidate in
//! fs/dcache.c). This watches the directories on the way to these files, from netwatch's own process, and mounts again.

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

use super::steps::{Step, steps};
use super::{Ensured, IfMissing, MountPlan, ensure, nsswitch, resolv_conf, side_doors};
use crate::error::{Error, Result};

/// How long the host's resolv.conf may be away before a place is made for the command's. Scripts remove the file and then write it
/// anew; [`super::overlay`] is for hosts that are to stay without.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watches, and mounts again. Readable ([`AsFd`]) when there may be something to do.
#[derive(Debug)]
pub struct Keeper {
    plan: MountPlan,
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, BTreeSet<OsString>>,
    command: Option<OwnedFd>,
    /// Something may have changed since the command's view was last looked at.
    dirty: bool,
    missing_since: Option<Instant>,
}

/// What [`Keeper::check`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// So many files were mounted again.
    pub remounted: usize,
    /// The host's resolv.conf (or another of the files watched) was written, replaced or removed: its search and options lines may be others now.
    pub host_changed: bool,
}

impl Keeper {
    /// Starts watching. To be called before the command's process mounts anything, so that nothing happens unseen in between.
    pub fn watch(plan: &MountPlan) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| {
            Error::os("watch", resolv_conf::PATH, errno).hint("raise fs.inotify.max_user_instances")
        })?;
        let watched = HashMap::new();
        let mut keeper =
            Self { plan: plan.clone(), inotify, watched, command: None, dirty: false, missing_since: None };
        keeper.watch_all()?;
        Ok(keeper)
    }

    /// The command's mount namespace (`/proc/PID/ns/mnt`, opened after its process has done [`super::prepare`]). Held until the keeper goes, and so are
    /// its mounts.
    pub fn enter(&mut self, command: OwnedFd) -> Result<()> {
        let inode = |file: std::io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino()));
        let failed = |error| Error::os("look at", "the command's mount namespace", error);
        let own = inode(fs::metadata("/proc/thread-self/ns/mnt")).map_err(failed)?;
        let file = File::from(command);
        if inode(file.metadata()).map_err(failed)? == own {
            return Err(Error::other("keep", "the command's mounts", "its mount namespace is the host's"));
        }
        self.command = Some(file.into());
        self.dirty = true;
        Ok(())
    }

    /// Takes in what happened and puts things right; under a millisecond, and a few microseconds when nothing did. To be called when the file
    /// descriptor is readable, after [`Keeper::enter`], and now and then (once a second): a file that is gone and stays away makes no event.
    pub fn check(&mut self) -> Result<Kept> {
        let host_changed = self.read_events()?;
        if self.dirty {
            self.watch_all()?;
        }
        let overdue = self.missing_since.is_some_and(|since| since.elapsed() >= PATIENCE);
        let Some(command) = self.command.as_ref().filter(|_| self.dirty || overdue) else {
            return Ok(Kept { remounted: 0, host_changed });
        };
        let if_missing = if overdue { IfMissing::MakePlace } else { IfMissing::Wait };
        let ensured = ensure_within(command, &self.plan, if_missing)?;
        self.dirty = false;
        self.missing_since = ensured.missing.then(|| self.missing_since.unwrap_or_else(Instant::now));
        Ok(Kept { remounted: ensured.mounted, host_changed })
    }

    /// True if something was written, replaced or removed on the way to a file of ours, or the file itself.
    fn read_events(&mut self) -> Result<bool> {
        let mut host_changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    host_changed |= events.iter().any(|event| self.concerns(event));
                    self.dirty |= host_changed;
                }
                Err(Errno::EAGAIN) => return Ok(host_changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("watch", resolv_conf::PATH, errno)),
            }
        }
    }

    /// Is it about a file of ours, or one of the directories on the way? After an overflow it may be about anything.
    fn concerns(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let Some(names) = self.watched.get(&event.wd) else { return false };
        event.name.as_ref().is_none_or(|name| names.contains(name))
    }

    /// Watches the ways as they are now, and no others.
    fn watch_all(&mut self) -> Result<()> {
        let mut watched: HashMap<WatchDescriptor, BTreeSet<OsString>> = HashMap::new();
        for Step { dir, name } in self.files().iter().flat_map(|file| steps(file)) {
            match self.inotify.add_watch(&dir, MASK) {
                Ok(descriptor) => drop(watched.entry(descriptor).or_default().insert(name)),
                // Gone while we looked: that is an event in the directory above.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(Error::os("watch", dir.display().to_string(), errno)),
            }
        }
        for stale in self.watched.keys().filter(|descriptor| !watched.contains_key(descriptor)) {
            // EINVAL if its directory is gone.
            let _ = self.inotify.rm_watch(*stale);
        }
        self.watched = watched;
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        let fixed = [resolv_conf::PATH, nsswitch::PATH];
        fixed.iter().chain(&side_doors::DOORS).map(PathBuf::from).collect()
    }
}

/// A name appears or goes in a directory, or a file in it has been written.
const MASK: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Does [`ensure`] in the command's mount namespace: in a thread of its own, because one that shares its root and working directory with
/// others cannot change namespaces, and because this one never has to come back.
fn ensure_within(command: &OwnedFd, plan: &MountPlan, if_missing: IfMissing) -> Result<Ensured> {
    let work = || {
        let failed = |errno| Error::os("enter", "the command's mount namespace", errno);
        unshare(CloneFlags::CLONE_FS).map_err(failed)?;
        setns(command, CloneFlags::CLONE_NEWNS).map_err(failed)?;
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
