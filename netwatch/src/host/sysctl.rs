//! Reading and writing the network sysctls of the thread's own network namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{AccessFlags, access};

use super::detached_mount::DetachedMount;
use crate::error::{Error, Result};

/// A detached /proc. As in the visible one, its sysctls are those of the thread's own network
/// namespace.
static PRIVATE_PROC: DetachedMount = DetachedMount::new(c"proc");

/// A value to write. Keys are paths below `/proc/sys/net`, because an interface name may contain a
/// dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlSetting {
    /// Path below `/proc/sys/net`.
    pub key: String,
    /// The value as text.
    pub value: String,
}

impl SysctlSetting {
    /// A value for a key.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// Writes it.
    pub fn write(&self) -> Result<()> {
        self.try_write().map_err(|error| self.explain(error))
    }

    /// As [`SysctlSetting::write`]; succeeds if the interface no longer exists.
    pub fn write_if_there(&self) -> Result<()> {
        match self.try_write() {
            Err(error) if is_gone(&error) => Ok(()),
            result => result.map_err(|error| self.explain(error)),
        }
    }

    /// Writes it unless it is set, for an interface or a namespace that netwatch created. A
    /// read-only /proc/sys does not matter, because it protects the host's settings and not these.
    pub fn write_own(&self) -> Result<()> {
        if read(&self.key)?.as_ref() == Some(&self.value) {
            return Ok(());
        }
        let written = match self.try_write() {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                PRIVATE_PROC.path().and_then(|proc| self.write_to(&proc.join("sys/net").join(&self.key)))
            }
            written => written,
        };
        written.map_err(|error| self.explain(error))
    }

    fn try_write(&self) -> io::Result<()> {
        self.write_to(&path(&self.key))
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        // With the newline, an empty value is written too.
        OpenOptions::new().write(true).open(path)?.write_all(format!("{}\n", self.value).as_bytes())
    }

    fn explain(&self, error: io::Error) -> Error {
        let read_only = matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM));
        let error = Error::os("set", format!("{}={}", path(&self.key).display(), self.value), error);
        if read_only {
            error.hint("/proc/sys cannot be written here; in a container, mount it writable (--privileged) or have the host set it")
        } else {
            error
        }
    }
}

/// `None` if there is no such key, as for an interface that was just removed.
pub fn read(key: &str) -> Result<Option<String>> {
    match read_at_once(&path(key)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(Error::os("read", path(key).display().to_string(), error)),
    }
}

/// Reads a value by one read(2). For some values (`ip_local_reserved_ports`) the kernel returns
/// nothing to a second read, so the first one needs a buffer for the whole value
/// (`proc_do_large_bitmap`, kernel/sysctl.c).
fn read_at_once(path: &Path) -> io::Result<String> {
    let mut bytes = vec![0; 64 << 10];
    let length = File::open(path)?.read(&mut bytes)?;
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether /proc/sys lets this process change the value.
pub fn is_writable(key: &str) -> bool {
    access(&path(key), AccessFlags::W_OK).is_ok()
}

/// Whether there is such a key.
pub fn exists(key: &str) -> bool {
    path(key).exists()
}

/// The interfaces that have switches in this family (`ipv4`, `ipv6`), except `lo` and the
/// interfaces of runs, which need no register.
pub fn interfaces(family: &str) -> Result<Vec<String>> {
    let path = path(&format!("{family}/conf"));
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::os("read", path.display().to_string(), error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !is_special(name)).collect();
    names.sort_unstable();
    Ok(names)
}

fn is_special(name: &str) -> bool {
    ["all", "default", "lo"].contains(&name) || name.strip_prefix("nw").and_then(crate::undo::RunId::parse).is_some()
}

/// Identifies the network namespace until the machine restarts; unlike the inode, it is never
/// reused.
pub fn netns_cookie() -> Result<u64> {
    let fail = |error: io::Error| Error::os("read", "network namespace cookie", error);
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| fail(errno.into()))?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: cookie and length are valid for writes, and length is the size of cookie.
    let result = unsafe {
        use std::os::fd::AsRawFd;
        let value = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, &raw mut length)
    };
    if result == 0 { Ok(cookie) } else { Err(fail(io::Error::last_os_error()).hint("needs Linux 5.14")) }
}

/// The inode of the namespace, as in `/proc/*/ns/net`.
pub fn netns_inode() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    fs::metadata(path).map(|data| data.ino()).map_err(|error| Error::os("read", path, error))
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(key)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
