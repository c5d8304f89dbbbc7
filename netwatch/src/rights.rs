//! Whose rights a thread touches files with: what sudo's caller may not read or write, netwatch does not for them.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::error::{Error, Result};
use crate::target::user::Identity;

/// File system access as this user for the length of one call: the fs ids are the thread's own and take the DAC capabilities with them (setfsuid(2)).
pub(crate) fn as_user<T>((uid, gid): (Uid, Gid), work: impl FnOnce() -> T) -> T {
    let old_gid = setfsgid(gid);
    let old_uid = setfsuid(uid);
    let result = work();
    setfsuid(old_uid);
    setfsgid(old_gid);
    result
}

/// Who owns the files that netwatch writes: who called sudo, else whom netwatch runs as. `sudo -u` makes nobody root, and then there are no
/// other rights to be had.
pub(crate) fn caller() -> Result<Identity> {
    let caller = if Uid::effective().is_root() { Identity::of_sudo()? } else { None };
    caller.map_or_else(Identity::own, Ok)
}

/// From now on this thread, and no other, has this user's rights on files: their groups too, and no capabilities. There is no way back.
///
/// By raw system calls, because those of the C library change all threads of the process.
pub(crate) fn become_on_this_thread(user: &Identity) -> Result<()> {
    if user.uid == Uid::effective() {
        return Ok(());
    }
    let groups: Vec<libc::gid_t> = user.groups()?.into_iter().map(Gid::as_raw).collect();
    // SAFETY: the kernel reads as many group ids as there are.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    nix::errno::Errno::result(set).map_err(|errno| Error::os("take the groups of", user.name.clone(), errno))?;
    setfsgid(user.gid);
    setfsuid(user.uid);
    drop_capabilities().map_err(|errno| Error::os("take the rights of", user.name.clone(), errno))
}

/// capset(2) with three empty sets. Without it the thread could still use reserved blocks of a file system, and more.
fn drop_capabilities() -> nix::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let sets = [[0_u32; 3]; 2];
    // SAFETY: the kernel reads a header and two sets of this version's layout (linux/capability.h).
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    nix::errno::Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_thread_loses_root_and_the_others_keep_it() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to become somebody else");
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
        let path = dir.path().join("file");
        let inside = path.clone();
        let refused = std::thread::spawn(move || {
            become_on_this_thread(&Identity::named("65534").expect("any uid")).expect("root may");
            fs::write(inside, "x").map_err(|error| error.raw_os_error())
        });
        assert_eq!(refused.join().expect("no panic"), Err(Some(libc::EACCES)));
        fs::write(path, "x").expect("this thread is still root");
    }
}
