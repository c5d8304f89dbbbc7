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

/// What is on the terminal.
static SHOWN: Mutex<Shown> = Mutex::new(Shown::Nothing);

/// What netwatch has drawn on the terminal.
#[derive(Debug)]
enum Shown {
    Nothing,
    Line(Arc<File>, ShownLine),
    /// The thread that prints texts erases the line. It waits while the terminal is stopped (^S).
    Erasing,
}

impl Shown {
    /// Erases the line. Returns whether there is none now.
    fn erase(&mut self) -> bool {
        let is_erased = match self {
            Self::Nothing => true,
            Self::Line(tty, line) => line.erase(terminal_size(&**tty).map(|(rows, _)| rows), &mut &**tty),
            Self::Erasing => false,
        };
        if is_erased {
            *self = Self::Nothing;
        }
        is_erased
    }
}

/// A line on the terminal.
#[derive(Debug, PartialEq)]
struct ShownLine {
    /// Rows of the terminal when it was drawn.
    rows: usize,
    /// The end of a text of which the terminal took only the beginning.
    rest: Vec<u8>,
}

impl ShownLine {
    /// Draws a line where there is none. `None` if nothing was written.
    fn draw(rows: usize, text: &str, out: &mut impl Write) -> Option<Self> {
        let text = drawing(rows, text, true);
        match write_part(out, text.as_bytes()) {
            0 => None,
            written => Some(Self { rows, rest: text.as_bytes()[written..].to_vec() }),
        }
    }

    /// Draws the line again, with another text.
    fn redraw(&mut self, text: &str, out: &mut impl Write) {
        let text = drawing(self.rows, text, false);
        let written = write_part(out, text.as_bytes());
        if written > 0 {
            self.rest = text.as_bytes()[written..].to_vec();
        }
    }

    /// What erases the line from a terminal that has so many rows now.
    fn erasure(&self, rows_now: Option<usize>) -> Vec<u8> {
        // After a change of the size, another text may be in that row.
        let row = Some(self.rows).filter(|rows| rows_now.is_none_or(|now| now == *rows));
        [&self.rest, erasure(row).as_bytes()].concat()
    }

    /// Returns whether everything was written. Otherwise it has to be called again.
    fn erase(&mut self, rows_now: Option<usize>, out: &mut impl Write) -> bool {
        let text = self.erasure(rows_now);
        let written = write_part(out, &text);
        if written > 0 {
            self.rest = text[written..].to_vec();
        }
        written == text.len()
    }
}

/// Removes the line, before something else is written to the terminal. It appears again when
/// nothing was written for a while. Never blocks: while the terminal is stopped, the line stays.
pub(crate) fn erase() {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner).erase();
}

/// Removes the line, through a writer of the same terminal that waits until it can write.
pub(super) fn erase_with(out: &mut impl Write) -> io::Result<()> {
    let shown = || SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = match std::mem::replace(&mut *shown(), Shown::Erasing) {
        Shown::Line(tty, line) => line.erasure(terminal_size(&*tty).map(|(rows, _)| rows)),
        Shown::Nothing | Shown::Erasing => Vec::new(),
    };
    let written = out.write_all(&text);
    *shown() = Shown::Nothing;
    written
}

/// Returns the number of bytes that the terminal took, without blocking: 0 if it is stopped, or
/// gone.
fn write_part(out: &mut impl Write, text: &[u8]) -> usize {
    out.write(text).unwrap_or(0)
}

/// Writes a text in the last row. Before the first one, the cursor leaves that row, and everything
/// above becomes the region that scrolls (DECSTBM). The cursor returns to where the command left
/// it (DECSC, DECRC).
fn drawing(rows: usize, text: &str, is_first: bool) -> String {
    let above = rows - 1;
    let region = if is_first { format!("\x1bD\x1b[A\x1b7\x1b[1;{above}r") } else { "\x1b7".to_owned() };
    format!("{region}\x1b[{rows};1H\x1b[0m\x1b[2m{text}\x1b[0m\x1b[K\x1b8")
}

/// Lets everything scroll again, and clears a row.
fn erasure(row: Option<usize>) -> String {
    let clear = row.map(|row| format!("\x1b[{row};1H\x1b[0m\x1b[2K")).unwrap_or_default();
    format!("\x1b7\x1b[r{clear}\x1b8")
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
            let is_shown = !matches!(*SHOWN.lock().unwrap_or_else(PoisonError::into_inner), Shown::Nothing);
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
        // A line of another size, or only a part of one.
        let fits = |line: &ShownLine| line.rest.is_empty() && size.is_some_and(|(rows, _)| rows == line.rows);
        if !matches!(&*shown, Shown::Line(_, line) if fits(line)) && !shown.erase() {
            return;
        }
        let Some((rows, columns)) = size else { return };
        let text: String = text.chars().take(columns - 1).collect();
        let tty = &self.watch.tty;
        match &mut *shown {
            Shown::Line(_, line) => line.redraw(&text, &mut &**tty),
            _ => {
                if let Some(line) = ShownLine::draw(rows, &text, &mut &**tty) {
                    *shown = Shown::Line(tty.clone(), line);
                }
            }
        }
        drop(shown);
        // Its own writing.
        self.watch.take_activity();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that takes so many more bytes.
    struct Terminal {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.text.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_stays_shown_until_its_erasure_is_written() {
        let mut terminal = Terminal { room: 1_000, text: Vec::new() };
        let mut line = ShownLine::draw(24, "text", &mut terminal).expect("drawn");
        terminal.room = 0;
        assert!(!line.erase(Some(24), &mut terminal) && line.rest.is_empty());
        terminal.room = 1_000;
        assert!(line.erase(Some(24), &mut terminal));
        assert!(terminal.text.ends_with(erasure(Some(24)).as_bytes()));
    }

    #[test]
    fn a_stopped_terminal_has_no_line_and_keeps_the_old_text() {
        let mut terminal = Terminal { room: 0, text: Vec::new() };
        assert_eq!(ShownLine::draw(24, "text", &mut terminal), None);
        let mut line = ShownLine { rows: 24, rest: Vec::new() };
        line.redraw("other", &mut terminal);
        assert!(line.rest.is_empty() && terminal.text.is_empty());
    }

    #[test]
    fn the_rest_of_a_sequence_is_written_before_anything_else() {
        let whole = [drawing(24, "text", true), erasure(Some(24))].concat();
        for room in 1..drawing(24, "text", true).len() {
            let mut terminal = Terminal { room, text: Vec::new() };
            let mut line = ShownLine::draw(24, "text", &mut terminal).expect("a part was drawn");
            assert!(!line.erase(Some(24), &mut terminal));
            terminal.room = 1_000;
            assert!(line.erase(Some(24), &mut terminal));
            assert_eq!(String::from_utf8_lossy(&terminal.text), whole, "{room}");
        }
    }

    #[test]
    fn after_a_change_of_the_size_only_the_region_is_reset() {
        let line = ShownLine { rows: 24, rest: Vec::new() };
        assert_eq!(line.erasure(Some(30)), b"\x1b7\x1b[r\x1b8");
        assert_eq!(line.erasure(Some(24)), line.erasure(None));
        assert!(line.erasure(Some(24)).ends_with(b"\x1b[24;1H\x1b[0m\x1b[2K\x1b8"));
    }
}
