//! The sockets in the run directories: how a run listens on them, and how `tail` and `top` find a
//! run in progress.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, shutdown, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Uid;

use crate::error::{Error, Result};
use crate::undo::{RunDir, RunId};

/// Pause after an error of accept(2), such as EMFILE, so that the thread does not use a whole CPU
/// until the cause is gone.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Listens on a socket in the run directory until it is dropped.
#[derive(Debug)]
pub(super) struct RunListener {
    listener: OwnedFd,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RunListener {
    /// Listens for processes of `owner` and of root. `serve` runs in a thread of its own: it
    /// accepts connections, as [`served`] does, until the flag is set.
    pub(super) fn start(
        (path, owner): (&Path, Uid),
        thread_name: &str,
        serve: impl FnOnce(&UnixListener, &Arc<AtomicBool>) + Send + 'static,
    ) -> Result<Self> {
        let failed = |error| Error::os("listen on", path.display().to_string(), error);
        let listener = listen_for(path, owner).map_err(failed)?;
        let handle = listener.try_clone().map_err(failed)?.into();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = is_stopped.clone();
        let thread = thread::Builder::new().name(thread_name.into()).spawn(move || serve(&listener, &stopped));
        let thread = thread.map_err(|error| Error::os("start thread", thread_name, error))?;
        Ok(Self { listener: handle, is_stopped, thread: Some(thread) })
    }
}

impl Drop for RunListener {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // accept(2) returns at once.
        if shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the thread has no consequences at this point.
            let _ = thread.join();
        }
    }
}

/// Listens on a new socket to which only root and `owner` can connect.
fn listen_for(path: &Path, owner: Uid) -> io::Result<UnixListener> {
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The file gets the mode of the socket, minus the umask (unix_bind in net/unix/af_unix.c), so
    // there is no moment in which others could connect.
    fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    chown(path, Some(owner.as_raw()), None)?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener.into())
}

/// The connections of processes that may be served, until `is_stopped`. An error of one connection
/// does not affect the next.
pub(super) fn served(
    incoming: impl Iterator<Item = io::Result<UnixStream>>,
    owner: Uid,
    is_stopped: &AtomicBool,
) -> impl Iterator<Item = UnixStream> {
    let running = incoming.take_while(|_| !is_stopped.load(Ordering::Acquire));
    let accepted = running.filter_map(|stream| stream.inspect_err(|_| thread::sleep(RETRY_DELAY)).ok());
    accepted.filter(move |stream| is_served(stream, owner))
}

/// Whether the process at the other end may be served: it belongs to root, `owner`, or the user of
/// this process.
fn is_served(stream: &UnixStream, owner: Uid) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| {
        let uid = Uid::from_raw(peer.uid());
        uid.is_root() || uid == owner || uid == Uid::effective()
    })
}

/// Connects to the only run in progress whose id begins with this text. `socket` is the path of its
/// socket in the run directory.
pub(super) fn connect(prefix: &str, socket: impl Fn(&Path) -> PathBuf) -> Result<(RunId, UnixStream)> {
    let mut refused = false;
    let mut live = Vec::new();
    for id in RunDir::ids_beginning_with(prefix) {
        match UnixStream::connect(socket(&RunDir::path_of(&id))) {
            Ok(stream) => live.push((id, stream)),
            // Killed runs have a directory too, until they are undone.
            Err(error) => refused |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if live.len() > 1 {
        let ids: Vec<&str> = live.iter().map(|(id, _)| id.as_str()).collect();
        let cause = format!("{} runs are in progress: {}", live.len(), ids.join(", "));
        return Err(Error::other("find", "the run", cause).hint("name one of them"));
    }
    live.pop().ok_or_else(|| match refused {
        true => Error::other("attach to", "the run", "it belongs to another user").hint("run with sudo"),
        false if prefix.is_empty() => {
            Error::other("find", "a run", "none is in progress").hint("start one with `sudo netwatch run COMMAND`")
        }
        false => Error::other("find", "the run", "no run in progress has this id")
            .hint("`sudo netwatch list` lists the runs in progress"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn others_cannot_connect_with_any_umask() {
        const NAME: &str = "NETWATCH_TEST_SOCKET";
        let Some(path) = std::env::var_os(NAME) else {
            // The umask belongs to the whole process, so another one changes it.
            let dir = tempfile::tempdir().expect("a directory");
            let own = std::env::current_exe().expect("a path");
            let mut again = Command::new("sh");
            again.args([
                "-c",
                "umask 0; exec \"$0\" --exact commands::run_sockets::tests::others_cannot_connect_with_any_umask",
            ]);
            let ended = again.arg(own).env(NAME, dir.path().join("socket")).output().expect("sh starts");
            let printed = String::from_utf8_lossy(&ended.stdout);
            return assert!(ended.status.success() && printed.contains("1 passed"), "{printed}");
        };
        let path = PathBuf::from(path);
        let listener = listen_for(&path, Uid::effective()).expect("listening");
        assert_eq!(path.metadata().expect("a file").mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).expect("connected");
        let (stream, _) = listener.accept().expect("accepted");
        assert!(is_served(&stream, Uid::from_raw(65534)), "this user");
    }
}
