//! Snapshots of a live run for other processes, through a socket in the run directory. A reader
//! connects and receives the bytes of a recording. It sends nothing, and a slow reader does not
//! delay the run. Only root can connect.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::Uid;

use super::run_sockets::{self, RunListener};
use crate::error::{Error, Result};
use crate::record::{self, Recorded};
use crate::report::Report;
use crate::undo::{RunDir, RunId};

/// Maximum number of readers that are served at the same time; further ones wait.
const MAX_READERS: usize = 8;
/// A connection is closed if the reader receives nothing for this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a run has to create a snapshot, and to serve earlier readers.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which the server checks whether it was stopped while all readers are being served.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("snapshot.sock")
}

/// Serves snapshots of the run with this directory. `take` creates a snapshot, or returns `None` if
/// the run has ended. Threads that still write at the end of the run end with the process.
pub(super) fn serve(
    run_dir: &Path,
    take: impl Fn() -> Option<Arc<Report>> + Clone + Send + 'static,
) -> Result<RunListener> {
    RunListener::start((&socket_path(run_dir), Uid::effective()), "snapshot", move |listener, is_stopped| {
        accept(listener.incoming(), is_stopped, &take);
    })
}

/// Serves readers until the server is stopped.
fn accept(
    incoming: impl Iterator<Item = io::Result<UnixStream>>,
    is_stopped: &AtomicBool,
    take: &(impl Fn() -> Option<Arc<Report>> + Clone + Send + 'static),
) {
    let readers = Arc::new(Readers::default());
    for reader in run_sockets::served(incoming, Uid::effective(), is_stopped) {
        let Some(place) = readers.wait_for_place(is_stopped) else { return };
        let take = take.clone();
        let serve = move || {
            let _place = place;
            // Fails if the reader has disconnected.
            let _ = send(&reader, &take);
        };
        // Without a thread the connection is closed, which drops the place too.
        drop(thread::Builder::new().name("snapshot".into()).spawn(serve));
    }
}

/// The readers that are being served.
#[derive(Debug, Default)]
struct Readers {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Readers {
    /// Waits until fewer than [`MAX_READERS`] are being served. `None` if the server was stopped.
    fn wait_for_place(self: &Arc<Self>, is_stopped: &AtomicBool) -> Option<ReaderPlace> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= MAX_READERS {
            if is_stopped.load(Ordering::Acquire) {
                return None;
            }
            let waited = self.changed.wait_timeout(count, STOP_INTERVAL);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *count += 1;
        Some(ReaderPlace(self.clone()))
    }
}

/// The place of a reader that is being served, until it is dropped.
struct ReaderPlace(Arc<Readers>);

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_one();
    }
}

fn send(mut reader: &UnixStream, take: &impl Fn() -> Option<Arc<Report>>) -> Result<()> {
    let failed = |error| Error::os("send", "a snapshot", error);
    reader.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed)?;
    let Some(report) = take() else { return Ok(()) };
    reader.write_all(&record::to_bytes(&report)?).map_err(failed)
}

/// Reads a snapshot of the live run with this id. `None` if there is no such run or the caller has
/// no access to it.
pub(super) fn read(id: &str) -> Option<Result<Recorded>> {
    let path = socket_path(&RunDir::path_of(&RunId::parse(id)?));
    let stream = UnixStream::connect(&path).ok()?;
    Some(receive(stream, &path))
}

/// Reads a snapshot of the live run whose id begins with this text. `None` if there is no such run
/// or the caller has no access to it.
pub(super) fn read_by_prefix(prefix: &str) -> Option<Result<Recorded>> {
    // Fewer digits are the number of a stored run.
    if prefix.len() < record::MIN_ID_DIGITS && prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let paths = RunDir::ids_beginning_with(prefix).into_iter().map(|id| socket_path(&RunDir::path_of(&id)));
    receive_only(paths.collect(), prefix)
}

/// The snapshot of the only run that listens on one of these sockets.
fn receive_only(paths: Vec<PathBuf>, prefix: &str) -> Option<Result<Recorded>> {
    // The directory of a killed run remains until it is undone: its socket refuses connections.
    let connect = |path: PathBuf| Some((UnixStream::connect(&path).ok()?, path));
    let mut live: Vec<(UnixStream, PathBuf)> = paths.into_iter().filter_map(connect).collect();
    if live.len() > 1 {
        let cause = format!("{} runs in progress have an id that begins like this", live.len());
        return Some(Err(Error::other("find run", prefix, cause).hint("give more characters")));
    }
    live.pop().map(|(stream, path)| receive(stream, &path))
}

fn receive(mut stream: UnixStream, path: &Path) -> Result<Recorded> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::other("read", path.display().to_string(), "the run is busy")
            .hint("other readers may not have read their snapshots; try again later"),
        _ => Error::os("read", path.display().to_string(), error),
    };
    stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() {
        return Err(Error::other("read", path.display().to_string(), "the run has just ended"));
    }
    record::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Arc<Report> {
        let replay = crate::report::Replay { format: "pcap", ..Default::default() };
        let scope = crate::session::CaptureScope { replay: Some(replay) };
        let mut session = crate::session::Session::new(scope, Default::default());
        Arc::new(session.conclude(0, None, None))
    }

    #[test]
    fn readers_receive_the_report_while_another_one_is_stuck() {
        let dir = tempfile::tempdir().expect("a directory");
        let server = serve(dir.path(), || Some(snapshot())).expect("listening");
        let path = socket_path(dir.path());
        let connect = || UnixStream::connect(&path).expect("connected");
        // A reader that never reads.
        let _stuck = connect();
        for _ in 0..3 {
            let read = receive(connect(), &path).expect("received");
            assert_eq!(read.report, *snapshot());
        }
        drop(server);
        assert!(UnixStream::connect(&path).is_err(), "the server is gone");
    }

    #[test]
    fn further_readers_wait_while_all_places_are_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let (wait, go_on) = (Arc::new(AtomicBool::new(true)), Arc::new(Readers::default()));
        let is_waiting = wait.clone();
        let take = move || {
            while is_waiting.load(Ordering::Acquire) {
                let count = go_on.count.lock().expect("no panic");
                drop(go_on.changed.wait_timeout(count, STOP_INTERVAL).expect("no panic"));
            }
            Some(snapshot())
        };
        let _server = serve(dir.path(), take).expect("listening");
        let path = socket_path(dir.path());
        let connect = || UnixStream::connect(&path).expect("connected");
        let readers: Vec<UnixStream> = (0..2 * MAX_READERS).map(|_| connect()).collect();
        wait.store(false, Ordering::Release);
        for reader in readers {
            assert_eq!(receive(reader, &path).expect("received").report, *snapshot());
        }
    }

    #[test]
    fn an_error_of_accept_does_not_end_the_server() {
        let (reader, served) = UnixStream::pair().expect("a pair of sockets");
        let incoming = [Err(io::Error::from_raw_os_error(libc::EMFILE)), Ok(served)];
        accept(incoming.into_iter(), &AtomicBool::new(false), &|| Some(snapshot()));
        let read = receive(reader, Path::new("snapshot.sock")).expect("received");
        assert_eq!(read.report, *snapshot());
    }

    #[test]
    fn a_prefix_selects_the_only_live_run() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
        let paths = || dirs.iter().map(|dir| socket_path(dir.path())).collect::<Vec<_>>();
        let start = |dir: &tempfile::TempDir| serve(dir.path(), || Some(snapshot())).expect("listening");
        assert!(receive_only(paths(), "0df").is_none(), "no run is live");
        // The socket of a run that is gone remains.
        drop(start(&dirs[0]));
        let _live = start(&dirs[1]);
        let read = receive_only(paths(), "0df").expect("a live run").expect("received");
        assert_eq!(read.report, *snapshot());
        let _second = start(&dirs[2]);
        let error = receive_only(paths(), "0df").expect("two live runs").expect_err("ambiguous");
        assert!(error.to_string().contains("2 runs in progress have an id that begins like this"), "{error}");
        assert!(read_by_prefix("12").is_none(), "a number");
    }

    #[test]
    fn reading_fails_for_a_run_that_has_just_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let _server = serve(dir.path(), || None).expect("listening");
        let path = socket_path(dir.path());
        let error = receive(UnixStream::connect(&path).expect("connected"), &path).expect_err("nothing to read");
        assert!(error.to_string().contains("just ended"), "{error}");
    }
}
