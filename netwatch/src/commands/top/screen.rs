//! The terminal of a dashboard: its modes, its keyboard and its screen.

use std::io::{self, Stdout, Write};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind,
    KeyModifiers, MouseButton, MouseEventKind,
};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};

use super::TopEvent;
use crate::commands::view::STOP;
use crate::dashboard::{Dashboard, Input, Key};
use crate::error::{Error, Result};

/// Rows that a step of the wheel scrolls.
const WHEEL_ROWS: isize = 3;
/// Interval at which a change of the size is noticed.
const INPUT_INTERVAL: Duration = Duration::from_millis(100);

/// The terminal in the modes of a dashboard, until it is left or dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Columns and rows of the terminal.
pub(super) fn size() -> Result<(u16, u16)> {
    ratatui::crossterm::terminal::size().map_err(failed)
}

fn failed(error: io::Error) -> Error {
    Error::os("draw on", "the terminal", error)
}

impl Screen {
    /// Changes the modes of the terminal. A panic of any thread restores them before it is
    /// reported.
    pub(super) fn enter() -> Result<Self> {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            report(info);
        }));
        enable_raw_mode().map_err(failed)?;
        let entered = execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, Hide);
        let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        let terminal = terminal.inspect_err(|_| restore()).map_err(failed)?;
        Ok(Self { terminal })
    }

    /// Draws what has changed, in one piece on terminals that can do that.
    pub(super) fn draw(&mut self, dashboard: &mut Dashboard) -> Result<()> {
        let begun = queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate);
        let drawn = begun.and_then(|()| self.terminal.draw(|frame| dashboard.draw(frame.buffer_mut())).map(drop));
        let ended = execute!(self.terminal.backend_mut(), EndSynchronizedUpdate);
        drawn.and(ended).map_err(failed)
    }

    /// Restores the terminal.
    pub(super) fn leave(self) {}
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the modes of the terminal. Failure is ignored: the terminal is gone.
fn restore() {
    let _ = execute!(io::stdout(), EndSynchronizedUpdate, DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

/// Starts the thread that reads keys and the mouse. It ends with the process, or when the terminal
/// is gone, which closes the dashboard.
pub(super) fn read_inputs(events: SyncSender<TopEvent>) -> Result<()> {
    let work = move || {
        while let Ok(read) = next_inputs() {
            for event in read.iter().filter_map(translated) {
                if events.send(event).is_err() {
                    return;
                }
            }
        }
        STOP.store(true, Ordering::Relaxed);
    };
    let thread = thread::Builder::new().name("keyboard".into()).spawn(work);
    thread.map(drop).map_err(|error| Error::os("start thread", "keyboard", error))
}

/// What was read after at most [`INPUT_INTERVAL`]. An error if the terminal is gone: crossterm
/// would never stop trying to read from it.
fn next_inputs() -> io::Result<Vec<TerminalEvent>> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::try_from(INPUT_INTERVAL).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let is_gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    if polled[0].revents().is_some_and(|events| events.intersects(is_gone)) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut read = Vec::new();
    // Also changes of the size, which crossterm learns from a signal.
    while event::poll(Duration::ZERO)? {
        read.push(event::read()?);
    }
    Ok(read)
}

/// The event for a dashboard. `None` if it means nothing.
fn translated(read: &TerminalEvent) -> Option<TopEvent> {
    match read {
        TerminalEvent::Resize(..) => Some(TopEvent::Resized),
        TerminalEvent::Key(pressed) if pressed.kind != KeyEventKind::Release => key(*pressed).map(TopEvent::input),
        TerminalEvent::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Input::Click(mouse.column, mouse.row)),
            MouseEventKind::ScrollDown => Some(Input::Scroll(WHEEL_ROWS)),
            MouseEventKind::ScrollUp => Some(Input::Scroll(-WHEEL_ROWS)),
            _ => None,
        }
        .map(TopEvent::Input),
        _ => None,
    }
}

impl TopEvent {
    fn input(key: Key) -> Self {
        Self::Input(Input::Key(key))
    }
}

fn key(pressed: KeyEvent) -> Option<Key> {
    let has_control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c' | 'd') if has_control => Key::Function(10),
        KeyCode::Char(_) if has_control => return None,
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::F(number) => Key::Function(number),
        _ => return None,
    })
}
