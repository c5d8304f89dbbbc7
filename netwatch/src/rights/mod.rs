//! The rights with which a thread accesses files: netwatch reads and writes nothing for the caller
//! of sudo that they could not access themselves.

mod child;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::error::{Error, Result};
use crate::target::user::Identity;

pub(crate) use child::in_child;

/// Runs `work` with the file access rights of this user. The file system ids belong to the thread,
/// and without root's the thread has no DAC capabilities (setfsuid(2)).
pub(crate) fn as_user<T>((uid, gid): (Uid, Gid), work: impl FnOnce() -> T) -> T {
    let old_gid = setfsgid(gid);
    let old_uid = setfsuid(uid);
    let result = work();
    setfsuid(old_uid);
    setfsgid(old_gid);
    result
}

/// The owner of the files that netwatch writes: the caller of sudo, otherwise the user of netwatch.
/// After `sudo -u`, netwatch is not root and cannot take the rights of the caller.
pub(crate) fn caller() -> Result<Identity> {
    let caller = if Uid::effective().is_root() { Identity::of_sudo()? } else { None };
    caller.map_or_else(Identity::own, Ok)
}

/// Permanently gives this thread the file access rights of the user, with their groups and without
/// capabilities.
///
/// Uses raw system calls, because the functions of the C library change all threads of the process.
pub(crate) fn become_on_this_thread(user: &Identity) -> Result<()> {
    if user.uid == Uid::effective() {
        return Ok(());
    }
    let groups: Vec<libc::gid_t> = user.groups()?.into_iter().map(Gid::as_raw).collect();
    // SAFETY: the kernel reads `groups.len()` group ids.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    nix::errno::Errno::result(set).map_err(|errno| Error::os("set the groups of", user.name.clone(), errno))?;
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
