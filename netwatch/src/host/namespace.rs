//! The network namespace of a run: creates it, keeps it open, and runs work inside it. `link` and
//! `route` configure it; `named` gives it a name.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::named::NamedNamespace;
use super::netlink::Netlink;
use crate::error::{self, Error, Result};
use crate::undo::Journal;

/// A network namespace with sockets inside it. It exists as long as this value, a process in it, or
/// its name exists. Then the kernel removes it in the background, together with the link.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    route: Option<Netlink>,
    sock_diag: Option<Netlink>,
    name: Option<NamedNamespace>,
}

impl Namespace {
    /// Creates a network namespace; with a name, `ip netns exec` can join it. The calling thread
    /// stays in its own namespace.
    pub fn create(name: Option<&str>, journal: &Journal) -> Result<Self> {
        // Checked first, so that a taken or malformed name leaves nothing behind.
        if let Some(name) = name {
            super::named::validate(name)?;
        }
        let (file, route, sock_diag) = in_thread(make)??;
        let name = name.map(|name| NamedNamespace::create(name, &file, journal)).transpose()?;
        Ok(Self { file, route: Some(route), sock_diag: Some(sock_diag), name })
    }

    /// The rtnetlink socket inside the namespace. Fails if it was taken.
    pub fn route(&mut self) -> Result<&mut Netlink> {
        self.route.as_mut().ok_or_else(route_is_taken)
    }

    /// Takes the rtnetlink socket inside the namespace, for another thread.
    pub fn take_route(&mut self) -> Result<Netlink> {
        self.route.take().ok_or_else(route_is_taken)
    }

    /// Takes the sock_diag socket inside the namespace, for another thread. `None` if it was taken.
    pub fn take_sock_diag(&mut self) -> Option<Netlink> {
        self.sock_diag.take()
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(NamedNamespace::name)
    }

    /// Its name, for which a resolv.conf can be provided.
    pub fn named(&self) -> Option<&NamedNamespace> {
        self.name.as_ref()
    }

    /// Runs `work` in a thread inside the namespace and waits for it.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::os("enter network namespace", "", errno).hint(error::needs("CAP_SYS_ADMIN")))?;
            Ok(work())
        })?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn route_is_taken() -> Error {
    Error::other("use", "the rtnetlink socket of the network namespace", "another thread has it")
}

/// Runs `work` in a thread in a new network namespace, which is removed afterwards. Used to try
/// operations that would otherwise change the host.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    in_thread(|| make().map(|_held| work()))?
}

/// Creates a namespace; the returned file keeps it open. Must run in a separate thread.
fn make() -> Result<(File, Netlink, Netlink)> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Error::os("create network namespace", "", errno).hint("needs CAP_SYS_ADMIN and a kernel with CONFIG_NET_NS")
    })?;
    let path = "/proc/thread-self/ns/net";
    let file = File::open(path).map_err(|error| Error::os("open", path, error))?;
    Ok((file, Netlink::route()?, Netlink::sock_diag()?))
}

/// Runs `work` in a short-lived thread: `unshare` and `setns` change the calling thread only, and
/// the main thread must stay in the host's namespace.
pub(super) fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|error| Error::os("start thread", "netns", error))?;
        thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::host::testing::in_fresh_namespace;
    use crate::undo::{Exclusive, RunDir};

    fn inode_here() -> u64 {
        std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
    }

    #[test]
    fn is_a_new_namespace_and_the_caller_stays_in_its_own() {
        in_fresh_namespace(|| {
            let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
            let before = inode_here();
            let namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
            assert_eq!(inode_here(), before);
            let inside = namespace.run_in(inode_here).unwrap();
            assert_ne!(inside, before);
            assert_eq!(namespace.file.metadata().unwrap().ino(), inside);
            assert_eq!(Journal::read(run.path()).unwrap(), []);
        });
    }
}
