//! `--tui` of `run` and `attach`: the live view of a run that this process starts, as another
//! netwatch on a pseudoterminal of its own. What is printed there becomes a view. That terminal has
//! no keyboard.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::protocol::socket_path;
use super::{TopEvent, screen, source};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::undo::{RunDir, RunId};

/// The flag that distinguishes the two processes.
const FLAG: &str = "--tui";
/// Interval at which the socket of the run is looked for.
const CONNECT_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of output that are read at once.
const OUTPUT_BYTES: usize = 64 * 1024;

/// The run that was started.
pub(super) struct OwnRun {
    child: Child,
    /// The terminal of the run.
    terminal: File,
}

impl OwnRun {
    /// Starts this command line again, without the flag, on a pseudoterminal of this size.
    pub(super) fn start((columns, rows): (u16, u16), events: &SyncSender<TopEvent>) -> Result<Self> {
        let failed = |what: &'static str| move |error: std::io::Error| Error::os("start", what, error);
        let size = window_size(columns, rows);
        let opened = |errno| Error::os("open", "a pseudoterminal", errno);
        let pty = openpty(&size, None).map_err(opened)?;
        // The run must not keep its own terminal open: it ends when this process has died.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(opened)?;
        }
        let own = std::env::current_exe().map_err(failed("netwatch"))?;
        let mut command = Command::new(own);
        command.args(arguments(std::env::args_os().skip(1)));
        let stdio = || pty.slave.try_clone().map(Stdio::from).map_err(failed("netwatch"));
        command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
        // SAFETY: two system calls between fork and exec.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().map_err(failed("netwatch"))?;
        // This process has no copy, so that the output ends with the last program of the run.
        drop((command, pty.slave));
        let terminal = File::from(pty.master);
        let output = terminal.try_clone().map_err(failed("netwatch"))?;
        let has_ended = Arc::new(AtomicBool::new(false));
        read_output(output, events.clone(), has_ended.clone())?;
        connect(child.id(), events.clone(), has_ended)?;
        Ok(Self { child, terminal })
    }

    /// Gives the terminal of the run the size of the own one. Failure is ignored: programs keep the
    /// old size.
    pub(super) fn resize(&self) {
        if let Ok((columns, rows)) = screen::size() {
            let size = window_size(columns, rows);
            // SAFETY: the call reads the size.
            unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }

    /// Whether the run continues.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the run as SIGTERM does.
    pub(super) fn end(&mut self) {
        // It is a child that was not waited for, if it runs.
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        }
    }

    /// Waits for the end. Returns the exit code of the command.
    pub(super) fn wait(&mut self) -> Result<Exit> {
        let status = self.child.wait().map_err(|error| Error::os("wait for", "the run", error))?;
        Ok(exit_of(status))
    }
}

fn window_size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::Signalled(signal.unwrap_or(libc::SIGKILL)),
    }
}

/// The words without the first `--tui`: the command can have one too, behind it. The view shows
/// more than a status line, so there is none unless the words contain another `--status`.
fn arguments(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_found = false;
    let mut words: Vec<OsString> =
        words.filter(|word| word != FLAG || std::mem::replace(&mut is_found, true)).collect();
    if let Some(run) = words.iter().position(|word| word == "run" || word == "attach") {
        words.insert(run + 1, "--status=off".into());
    }
    words
}

/// A session of its own, with the pseudoterminal as its terminal.
fn take_terminal() -> std::io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: standard input is the pseudoterminal; the call takes no pointer.
    let result = unsafe { libc::ioctl(std::io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn read_output(mut master: File, events: SyncSender<TopEvent>, has_ended: Arc<AtomicBool>) -> Result<()> {
    let work = move || {
        let mut buffer = vec![0; OUTPUT_BYTES];
        // EIO: the last program has closed the terminal.
        while let Ok(length @ 1..) = master.read(&mut buffer) {
            if events.send(TopEvent::Output(buffer[..length].to_vec())).is_err() {
                return;
            }
        }
        has_ended.store(true, Ordering::Release);
        let _ = events.send(TopEvent::OutputEnded);
    };
    let thread = thread::Builder::new().name("output".into()).spawn(work);
    thread.map(drop).map_err(|error| Error::os("start thread", "output", error))
}

/// Connects to the run when its set-up is complete, in a thread. If it fails before that, the
/// output has the reason.
fn connect(pid: u32, events: SyncSender<TopEvent>, has_ended: Arc<AtomicBool>) -> Result<()> {
    let work = move || {
        while !has_ended.load(Ordering::Acquire) {
            if let Some(stream) = socket_of(pid) {
                // Without updates the view shows the output only.
                let _ = source::open(stream).and_then(|updates| source::start(updates, events));
                return;
            }
            thread::sleep(CONNECT_INTERVAL);
        }
    };
    let thread = thread::Builder::new().name("connect".into()).spawn(work);
    thread.map(drop).map_err(|error| Error::os("start thread", "connect", error))
}

/// The socket of the run of this process.
fn socket_of(pid: u32) -> Option<UnixStream> {
    // Without the lock of all runs, for which others would have to wait.
    let is_own = |id: &RunId| RunDir::card_of(id).is_some_and(|card| card.pid.cast_unsigned() == pid);
    let id = RunDir::ids_beginning_with("").into_iter().find(is_own)?;
    UnixStream::connect(socket_path(&RunDir::path_of(&id))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flag_of_netwatch_is_removed() {
        let words = ["run", "--tui", "-q", "--", "app", "--tui"].map(OsString::from);
        assert_eq!(arguments(words.into_iter()), ["run", "--status=off", "-q", "--", "app", "--tui"]);
        let words = ["attach", "-N", "run", "--tui"].map(OsString::from);
        assert_eq!(arguments(words.into_iter()), ["attach", "--status=off", "-N", "run"]);
    }

    #[test]
    fn the_exit_code_is_that_of_the_run() {
        assert_eq!(exit_of(ExitStatus::from_raw(3 << 8)), Exit::Command(3));
        assert_eq!(exit_of(ExitStatus::from_raw(9)), Exit::Signalled(9));
    }
}
