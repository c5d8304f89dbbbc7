//! The rights with which a thread accesses files: netwatch reads and writes nothing for the caller
//! of sudo that they could not access themselves.

mod child;
pub(crate) mod file_lock;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::error::{Error, Result};
use crate::target::user::Identity;

pub(crate) use child::in_child;

/// Runs `work` with the file access rights of this user, supplementary groups included. The ids for
/// file access belong to the thread, and the kernel removes its capabilities for file access while
/// they are not those of root (setfsuid(2), capabilities(7)).
pub(crate) fn as_user<T>((uid, gid): (Uid, Gid), work: impl FnOnce() -> T) -> T {
    if uid == Uid::effective() {
        return work();
    }
    // Both fail only without the rights of root, and then there is nothing to give up.
    let old_groups = groups_of_this_thread().unwrap_or_default();
    let _ = set_groups_of_this_thread(&groups_of(uid, gid));
    let old_gid = setfsgid(gid);
    let old_uid = setfsuid(uid);
    let result = work();
    setfsuid(old_uid);
    setfsgid(old_gid);
    let _ = set_groups_of_this_thread(&old_groups);
    result
}

/// Flags with which a path is opened for writing. As root, a link in a directory that everybody may
/// write is not followed: another user may have put it there.
pub(crate) fn link_flags(path: &Path, owner: Uid) -> libc::c_int {
    if owner.is_root() && is_open_to_all(path) { libc::O_NOFOLLOW } else { 0 }
}

/// Whether everybody may create files in the directory of this path.
fn is_open_to_all(path: &Path) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    directory.metadata().is_ok_and(|data| data.permissions().mode() & WRITABLE_BY_OTHERS != 0)
}

/// The groups of a user. Looked up once, because the user database may be on the network.
fn groups_of(uid: Uid, gid: Gid) -> Vec<libc::gid_t> {
    static KNOWN: Mutex<BTreeMap<u32, Vec<libc::gid_t>>> = Mutex::new(BTreeMap::new());
    let look_up = || {
        let groups = Identity::named(&format!("#{uid}")).and_then(|user| user.groups());
        // A user who is not in the database has no further groups.
        groups.map_or_else(|_| vec![gid.as_raw()], |groups| groups.into_iter().map(Gid::as_raw).collect())
    };
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.as_raw()).or_insert_with(look_up).clone()
}

fn groups_of_this_thread() -> nix::Result<Vec<libc::gid_t>> {
    Ok(nix::unistd::getgroups()?.into_iter().map(Gid::as_raw).collect())
}

/// By a system call, because the function of the C library changes all threads of the process.
fn set_groups_of_this_thread(groups: &[libc::gid_t]) -> nix::Result<()> {
    // SAFETY: the kernel reads `groups.len()` group ids.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    nix::errno::Errno::result(set).map(drop)
}

/// The owner of the files that netwatch writes: the caller of sudo, otherwise the user of netwatch.
/// After `sudo -u`, netwatch is not root and cannot take the rights of the caller.
pub(crate) fn caller() -> Result<Identity> {
    let caller = if Uid::effective().is_root() { Identity::of_sudo()? } else { None };
    caller.map_or_else(Identity::own, Ok)
}

/// Permanently gives this thread the file access rights of the user, with their groups and without
/// capabilities.
pub(crate) fn become_on_this_thread(user: &Identity) -> Result<()> {
    if user.uid == Uid::effective() {
        return Ok(());
    }
    let groups: Vec<libc::gid_t> = user.groups()?.into_iter().map(Gid::as_raw).collect();
    set_groups_of_this_thread(&groups).map_err(|errno| Error::os("set the groups of", user.name.clone(), errno))?;
    setfsgid(user.gid);
    setfsuid(user.uid);
    drop_capabilities().map_err(|errno| Error::os("drop capabilities for", user.name.clone(), errno))
}

/// Calls capset(2) with three empty sets. Otherwise the thread could still use reserved blocks of a
/// file system (CAP_SYS_RESOURCE), for example.
fn drop_capabilities() -> nix::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let sets = [[0_u32; 3]; 2];
    // SAFETY: the kernel reads a header and two sets in the layout of this version
    // (linux/capability.h).
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    nix::errno::Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_groups_of_root_are_not_those_of_the_user() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to change the user");
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        let path = dir.path().join("file");
        fs::write(&path, "root's").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).expect("the file is ours");
        let work = move || {
            let stranger = (Uid::from_raw(65_534), Gid::from_raw(65_534));
            // As in a shell of root.
            set_groups_of_this_thread(&[0, 4242]).expect("root can change its groups");
            let refused = as_user(stranger, || fs::OpenOptions::new().write(true).open(&path).map(drop));
            assert_eq!(refused.map_err(|error| error.kind()), Err(std::io::ErrorKind::PermissionDenied));
            assert_eq!(groups_of_this_thread(), Ok(vec![0, 4242]), "restored");
        };
        std::thread::spawn(work).join().expect("no panic");
    }

    #[test]
    fn one_thread_drops_the_rights_of_root_and_the_others_keep_them() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to change the user");
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        let path = dir.path().join("file");
        let inside = path.clone();
        let refused = std::thread::spawn(move || {
            become_on_this_thread(&Identity::named("65534").expect("any uid is valid"))
                .expect("root can change the user");
            fs::write(inside, "x").map_err(|error| error.raw_os_error())
        });
        assert_eq!(refused.join().expect("no panic"), Err(Some(libc::EACCES)));
        fs::write(path, "x").expect("this thread is still root");
    }
}
