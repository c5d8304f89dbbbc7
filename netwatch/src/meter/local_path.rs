//! Whether there is a local socket at a path of a process. The kernel answers from what it has
//! cached: a file system that does not respond must not delay metering.

use std::fs::{self, File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::proc::mountinfo;

/// Whether there is a local socket at the path, as this process sees it. `None` if that cannot be
/// determined: the process has ended, the path is relative, or the kernel has to ask a file system.
pub(super) fn has_socket(pid: u32, path: &str) -> Option<bool> {
    if !path.starts_with('/') {
        return None;
    }
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{pid}/root")).ok()?;
    match cached(&root, Path::new(path), OFlag::empty()) {
        Ok(file) => Some(status(&file)?.is_socket),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Some(false),
        Err(Errno::EAGAIN) => is_absent(pid, &root, Path::new(path)).then_some(false),
        Err(_) => None,
    }
}

/// Opens a path whose parts are all cached; EAGAIN if one is not.
fn cached(root: &File, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    // Absolute symbolic links, such as /var/run, are those of the process.
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
    openat2(root, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags).resolve(resolve))
}

/// Whether the path leads through a file, or to a name that a tmpfs does not have. A tmpfs, such as
/// /run, keeps each name that exists in the cache, and no other.
fn is_absent(pid: u32, root: &File, path: &Path) -> bool {
    for (name, folder) in path.ancestors().zip(path.ancestors().skip(1)) {
        match cached(root, folder, OFlag::O_DIRECTORY) {
            Ok(folder) => {
                return cached(root, name, OFlag::O_NOFOLLOW).err() == Some(Errno::EAGAIN)
                    && is_in_memory(pid, &folder);
            }
            Err(Errno::EAGAIN) => {}
            Err(error) => return error == Errno::ENOTDIR,
        }
    }
    false
}

/// File systems that behave like a tmpfs: /dev has the socket of syslog.
const IN_MEMORY: [&str; 3] = ["tmpfs", "devtmpfs", "ramfs"];

/// Whether a file is one of a tmpfs. The mounts of the process tell, without asking the file
/// system.
fn is_in_memory(pid: u32, file: &OwnedFd) -> bool {
    let mount = status(file).map(|status| status.mount);
    let table = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mountinfo::parse(&table)
        .iter()
        .any(|found| Some(u64::from(found.id)) == mount && IN_MEMORY.contains(&&*found.file_system))
}

/// What the kernel has cached about a file.
struct FileStatus {
    is_socket: bool,
    mount: u64,
}

fn status(file: &OwnedFd) -> Option<FileStatus> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_TYPE | libc::STATX_MNT_ID;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, and the structure has room for the result.
    let result = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, found.as_mut_ptr()) };
    Errno::result(result).ok()?;
    // SAFETY: all bytes are initialized, with zeros or by the kernel.
    let found = unsafe { found.assume_init() };
    let is_socket = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFSOCK;
    Some(FileStatus { is_socket, mount: found.stx_mnt_id })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is there is found, and what is not is known to be absent.
    fn check_folder(folder: &tempfile::TempDir) {
        let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        let _listener = UnixListener::bind(path("there.sock")).expect("bound");
        fs::write(path("file"), "").expect("written");
        symlink(path("there.sock"), path("link")).expect("linked");
        let names = ["there.sock", "link", "file", "gone.sock", "no/gone.sock", "no/no/gone.sock", "file/x"];
        // The process has looked for it, too.
        let looked = names.map(|name| fs::metadata(path(name)).is_ok());
        assert_eq!(looked, [true, true, true, false, false, false, false]);
        let found = names.map(|name| has_socket(std::process::id(), &path(name)));
        assert_eq!(found, [true, true, false, false, false, false, false].map(Some));
    }

    #[test]
    fn looks_up_paths_in_the_root_of_the_process() {
        check_folder(&tempfile::tempdir().expect("a folder"));
        assert_eq!(has_socket(std::process::id(), "relative.sock"), None);
        assert_eq!(has_socket(u32::MAX, "/"), None, "the process has ended");
    }

    #[test]
    fn a_tmpfs_caches_no_name_that_does_not_exist() {
        let in_memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let shown = in_memory.path().to_owned();
        check_folder(&in_memory);
        let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/").expect("a folder");
        let gone = cached(&root, &shown.join("gone.sock"), OFlag::empty());
        assert_eq!(gone.map(drop), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_is_not_cached_elsewhere_is_unknown() {
        let name = format!("/proc/self/fdinfo/{}", u32::MAX);
        assert_eq!(has_socket(std::process::id(), &name), None, "proc(5) is not asked");
    }
}
