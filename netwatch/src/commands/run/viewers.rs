//! Dashboards (`netwatch top`) that watch the run: each is a consumer of the session's events, so a
//! slow or stuck one delays only itself. They read only.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Uid;
use serde::Serialize;

use crate::commands::run_sockets::{self, RunListener};
use crate::commands::top::protocol::{ViewerGreeting, socket_path};
use crate::consumer::{Consumer, StreamEnd};
use crate::dashboard::{Update, WANTED};
use crate::error::{Error, Result};
use crate::session::{Event, EventKinds};
use crate::target::user::Identity;

/// Dashboards that can be attached at the same time.
const MAX_VIEWERS: usize = 8;
/// At the end of the run, a dashboard that reads nothing for this time is left behind.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes per write to the socket.
const BUFFER_BYTES: usize = 64 * 1024;

/// Listens in the run directory for dashboards of `owner` and of root. `attach_viewer` passes a
/// viewer to the session.
pub(super) fn serve(
    run_dir: &Path,
    owner: &Identity,
    attach_viewer: impl Fn(Viewer) + Send + 'static,
) -> Result<RunListener> {
    let owner = owner.uid;
    RunListener::start((&socket_path(run_dir), owner), "viewers", move |listener, is_stopped| {
        accept(listener.incoming(), owner, is_stopped, &attach_viewer);
    })
}

fn accept(
    incoming: impl Iterator<Item = io::Result<UnixStream>>,
    owner: Uid,
    is_stopped: &Arc<AtomicBool>,
    attach_viewer: &impl Fn(Viewer),
) {
    // Each viewer holds a copy.
    let places = Arc::new(());
    for stream in run_sockets::served(incoming, owner, is_stopped) {
        if Arc::strong_count(&places) > MAX_VIEWERS {
            let why = format!("{MAX_VIEWERS} dashboards are attached already");
            // It may have disconnected already. The buffer of a new socket has room for a line.
            let _ = write_line(&mut &stream, &ViewerGreeting::Refused(why));
            continue;
        }
        if stream.set_nonblocking(true).is_ok() {
            let out = ViewerSocket { stream, run_has_ended: is_stopped.clone() };
            attach_viewer(Viewer { out: BufWriter::with_capacity(BUFFER_BYTES, out), _place: places.clone() });
        }
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Waits for a dashboard that does not read, but not after the end of the run.
struct ViewerSocket {
    stream: UnixStream,
    run_has_ended: Arc<AtomicBool>,
}

impl Write for ViewerSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let timeout = PollTimeout::try_from(READ_TIMEOUT).unwrap_or(PollTimeout::MAX);
        loop {
            match (&self.stream).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
            let has_ended = self.run_has_ended.load(Ordering::Acquire);
            match poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)], timeout) {
                Ok(0) if has_ended => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A dashboard that is attached.
pub(super) struct Viewer {
    out: BufWriter<ViewerSocket>,
    _place: Arc<()>,
}

impl Viewer {
    fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for update in events.iter().filter_map(Update::of) {
            write_line(&mut self.out, &update)?;
        }
        self.out.flush()
    }
}

impl Consumer for Viewer {
    fn name(&self) -> &'static str {
        "viewer"
    }

    fn wants(&self) -> EventKinds {
        WANTED
    }

    fn is_essential(&self) -> bool {
        false
    }

    fn start(&mut self) -> Result<()> {
        let greeted = write_line(&mut self.out, &ViewerGreeting::own()).and_then(|()| self.out.flush());
        greeted.map_err(|error| Error::os("write to", "a dashboard", error))
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        self.write(&events).map_err(|error| Error::os("write to", "a dashboard", error))
    }

    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        self.out.flush().map_err(|error| Error::os("write to", "a dashboard", error))
    }
}
