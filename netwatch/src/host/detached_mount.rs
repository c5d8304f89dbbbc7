//! File systems that netwatch mounts for itself if those of the machine are hidden or read-only. No
//! path of the machine leads to such a mount, so no other process finds it, and it disappears when
//! netwatch and its guardian have exited.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::errno::Errno;

/// linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: libc::c_uint = 2;
const MOUNT_ATTR_NODEV: libc::c_uint = 4;
const MOUNT_ATTR_NOEXEC: libc::c_uint = 8;

/// A detached mount, created on first use and kept until the process exits. A process that is
/// forked afterwards inherits the mount and can use its path.
#[derive(Debug)]
pub struct DetachedMount {
    file_system: &'static CStr,
    mount: OnceLock<Result<OwnedFd, Errno>>,
}

impl DetachedMount {
    /// For a static variable.
    pub const fn new(file_system: &'static CStr) -> Self {
        Self { file_system, mount: OnceLock::new() }
    }

    /// A path to its root, valid in this process.
    pub fn path(&self) -> io::Result<PathBuf> {
        match self.mount.get_or_init(|| mount(self.file_system)) {
            Ok(fd) => Ok(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))),
            Err(errno) => Err((*errno).into()),
        }
    }
}

fn mount(file_system: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads a NUL-terminated string.
    let context = own(unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), FSOPEN_CLOEXEC) })?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key and no value.
    let created = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) };
    Errno::result(created)?;
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    // SAFETY: the call takes numbers only.
    own(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::in_fresh_namespace;

    #[test]
    fn a_file_system_without_a_path_can_be_used() {
        in_fresh_namespace(|| {
            let proc = DetachedMount::new(c"proc");
            let path = proc.path().unwrap();
            assert!(path.join("sys/net/ipv4").is_dir());
            assert_eq!(proc.path().unwrap(), path, "mounted once");
            assert_eq!(DetachedMount::new(c"no-such").path().unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }
}
