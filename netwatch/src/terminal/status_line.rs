//! A line at the bottom of the terminal while the command writes nothing to it. The command owns
//! the terminal, so the line never shares a row with its output: the last row is taken out of the
//! region that scrolls while the line is shown, as apt does for its progress bar. That anything
//! else was written is reported by inotify on the terminal's device.

mod quiet;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

use self::quiet::Quiet;
use super::show::terminal_size;

/// Standard error. The link opens the same device again, with flags of its own.
const STDERR: &str = "/proc/self/fd/2";
/// A smaller terminal has no line.
const MIN_ROWS: usize = 4;
const MIN_COLUMNS: usize = 40;

/// The line that is shown, if there is one.
static SHOWN: Mutex<Option<ShownLine>> = Mutex::new(None);

/// A line on the terminal.
#[derive(Debug)]
struct ShownLine {
    tty: Arc<File>,
    rows: usize,
}

impl ShownLine {
    fn erase(&self) {
        write(&self.tty, &erasure(self.rows));
    }
}

/// Removes the line, before something else is written to the terminal. It appears again when
/// nothing was written for a while.
pub(crate) fn erase() {
    if let Some(shown) = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        shown.erase();
    }
}

/// Failure is ignored: the line is missing then. Never blocks, so a part can be missing too.
fn write(mut tty: &File, text: &str) {
    let _ = tty.write(text.as_bytes());
}

/// Writes a text in the last row. Before the first one, the cursor leaves that row, and everything
/// above becomes the region that scrolls (DECSTBM). The cursor returns to where the command left
/// it (DECSC, DECRC).
fn drawing(rows: usize, text: &str, is_first: bool) -> String {
    let above = rows - 1;
    let region = if is_first { format!("\x1bD\x1b[A\x1b7\x1b[1;{above}r") } else { "\x1b7".to_owned() };
    format!("{region}\x1b[{rows};1H\x1b[0m\x1b[2m{text}\x1b[0m\x1b[K\x1b8")
}

/// Clears the last row and lets everything scroll again.
fn erasure(rows: usize) -> String {
    format!("\x1b7\x1b[r\x1b[{rows};1H\x1b[0m\x1b[2K\x1b8")
}

/// Shows a text at the bottom of the terminal of standard error, until it is dropped.
#[derive(Debug)]
pub(crate) struct StatusLine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    text: Mutex<Option<String>>,
    is_ended: AtomicBool,
    /// Wakes the thread.
    wake: EventFd,
}

impl StatusLine {
    /// `None` if standard error is not a terminal, or one on which the line cannot be drawn.
    pub(crate) fn start() -> Option<Self> {
        let is_plain = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if is_plain || !io::stderr().is_terminal() {
            return None;
        }
        let watch = TerminalWatch::open().ok()?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
        let shared = Arc::new(Shared { text: Mutex::default(), is_ended: AtomicBool::new(false), wake });
        let drawer = LineDrawer { shared: shared.clone(), watch, quiet: Quiet::new(Instant::now()), text: None };
        let thread = thread::Builder::new().name("status-line".into()).spawn(move || drawer.run()).ok()?;
        Some(Self { shared, thread: Some(thread) })
    }

    /// Sets the text. Never blocks.
    pub(crate) fn set(&self, text: String) {
        *self.shared.text.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        // Fails only if the thread has not read it for 2^64 times.
        let _ = self.shared.wake.write(1);
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread affects only the line.
            let _ = thread.join();
        }
        erase();
    }
}

/// The terminal, and what reports that something was written to it or read from it.
struct TerminalWatch {
    tty: Arc<File>,
    inotify: Inotify,
}

impl TerminalWatch {
    fn open() -> io::Result<Self> {
        // An open file of its own, because the flags of standard error are shared with the command.
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let tty = OpenOptions::new().write(true).custom_flags(flags).open(STDERR)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(STDERR, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ACCESS)?;
        // Programs that write to /dev/tty write to another file. On a machine without it, none do.
        let _ = inotify.add_watch("/dev/tty", AddWatchFlags::IN_MODIFY);
        Ok(Self { tty: Arc::new(tty), inotify })
    }

    /// Whether something was written or read since the last call.
    fn take_activity(&self) -> bool {
        let mut was_active = false;
        while let Ok(events) = self.inotify.read_events() {
            was_active |= !events.is_empty();
        }
        was_active
    }

    /// The size of the terminal in rows and columns, if the line can be drawn on it now: it has
    /// room, netwatch is in the foreground, and the command reads lines. Programs that draw on the
    /// whole terminal, and shells that edit a line, switch that off.
    fn drawable_size(&self) -> Option<(usize, usize)> {
        let is_in_foreground = tcgetpgrp(&*self.tty).is_ok_and(|group| group == getpgrp());
        let reads_lines = LocalFlags::ICANON | LocalFlags::ECHO;
        let is_line_mode = tcgetattr(&*self.tty).is_ok_and(|modes| modes.local_flags.contains(reads_lines));
        let size = terminal_size(&*self.tty).filter(|(rows, columns)| *rows >= MIN_ROWS && *columns >= MIN_COLUMNS);
        size.filter(|_| is_in_foreground && is_line_mode)
    }
}

/// The state of the thread.
struct LineDrawer {
    shared: Arc<Shared>,
    watch: TerminalWatch,
    quiet: Quiet,
    text: Option<String>,
}

impl LineDrawer {
    fn run(mut self) {
        while !self.shared.is_ended.load(Ordering::Acquire) {
            self.wait();
            let now = Instant::now();
            if self.watch.take_activity() {
                self.quiet.note_activity(now);
            }
            let text = self.shared.text.lock().unwrap_or_else(PoisonError::into_inner).take();
            let is_new = text.is_some();
            self.text = text.or(self.text.take());
            let is_shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            match self.quiet.is_quiet(now) {
                true if is_new || !is_shown => self.draw(),
                false if is_shown && self.quiet.has_to_hide(now) => erase(),
                _ => {}
            }
        }
    }

    /// Waits for activity, for a text, or until the line can appear or has to disappear.
    fn wait(&self) {
        let (inotify, wake) = (self.watch.inotify.as_fd(), self.shared.wake.as_fd());
        let mut polled = [PollFd::new(inotify, PollFlags::POLLIN), PollFd::new(wake, PollFlags::POLLIN)];
        let timeout = self.quiet.timeout(Instant::now());
        let timeout = timeout.map_or(PollTimeout::NONE, |time| time.try_into().unwrap_or(PollTimeout::MAX));
        // EINTR is a wait that ended early.
        let _ = poll(&mut polled, timeout);
        // EAGAIN: it was not woken.
        let _ = self.shared.wake.read();
    }

    fn draw(&mut self) {
        let (Some(text), size) = (&self.text, self.watch.drawable_size()) else { return };
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|shown| size.is_none_or(|(rows, _)| rows != shown.rows)) {
            shown.take().iter().for_each(ShownLine::erase);
        }
        let Some((rows, columns)) = size else { return };
        let text: String = text.chars().take(columns - 1).collect();
        write(&self.watch.tty, &drawing(rows, &text, shown.is_none()));
        *shown = Some(ShownLine { tty: self.watch.tty.clone(), rows });
        drop(shown);
        // Its own writing.
        self.watch.take_activity();
    }
}
