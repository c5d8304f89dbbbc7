//! `netwatch top`: the live view of a run in progress of another terminal. The view itself is in
//! [`crate::dashboard`]; here are the connection to the run, the keyboard and the terminal.

mod own_run;
pub mod protocol;
mod screen;
mod source;

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::run_sockets;
use super::view::{STOP, stop_on_signals};
use crate::dashboard::{Dashboard, Input, Update};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::exit::Exit;
use crate::settings::{ColorChoice, TopSettings};
use crate::terminal::{Show, print};
use own_run::OwnRun;
use screen::Screen;

/// Batches that wait to be drawn. When there are more, the run merges changes.
const MAX_WAITING: usize = 4;
/// Interval at which a signal is noticed.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which a run that continues after the view was closed is ended again. A recording may
/// take some seconds.
const END_INTERVAL: Duration = Duration::from_secs(10);

/// What happens while a dashboard is shown.
enum TopEvent {
    Updates(Vec<Update>),
    /// The run sends nothing more, for this reason.
    Disconnected(String),
    Input(Input),
    /// The terminal has another size.
    Resized,
    /// Output of the own command.
    Output(Vec<u8>),
    /// The own command and its run have ended.
    OutputEnded,
}

fn require_terminal() -> Result<()> {
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        return Ok(());
    }
    let error = Error::other("show", "the run", "standard input and output are not a terminal");
    Err(error.hint("`netwatch run --status=json` writes lines for logs"))
}

/// `--tui` of `run` and `attach`: starts the run on a terminal of its own and shows it until the
/// user quits. A command that still runs is ended then. Exits as the run did.
pub(super) fn run_in_view(color: ColorChoice) -> Result<Exit> {
    require_terminal()?;
    let show = Show::on(&io::stdout(), false, false, color);
    let mut dashboard = Dashboard::with_output(show.summary_options().color);
    stop_on_signals()?;
    let (sender, events) = mpsc::sync_channel(MAX_WAITING);
    let size = screen::size()?;
    let mut run = OwnRun::start(size, &sender)?;
    let mut screen = Screen::enter()?;
    screen::read_inputs(sender)?;
    let shown = show_until_closed(&mut dashboard, &mut screen, &events, || run.resize());
    // Nothing is drawn while it waits, and keys cause signals again.
    screen.leave();
    wait_for_output(&mut dashboard, &mut run, &events)?;
    let exit = run.wait()?;
    let last: String =
        dashboard.last_output(size.1.into()).into_iter().map(|line| format!("{}\n", escape(&line))).collect();
    print(last)?;
    shown.map(|()| exit)
}

/// Ends the run, unless it has ended, and waits for its last output, such as the summary. The run
/// is ended again by a signal and at intervals: a second SIGTERM kills what ignored the first.
fn wait_for_output(dashboard: &mut Dashboard, run: &mut OwnRun, events: &Receiver<TopEvent>) -> Result<()> {
    // The first signal removed the handler.
    STOP.store(false, Ordering::Relaxed);
    stop_on_signals()?;
    let mut ends_at = Instant::now() + if dashboard.has_ended() { END_INTERVAL } else { Duration::ZERO };
    while !dashboard.output_has_ended() {
        if STOP.swap(false, Ordering::Relaxed) || Instant::now() >= ends_at {
            run.end();
            stop_on_signals()?;
            ends_at = Instant::now() + END_INTERVAL;
        }
        match events.recv_timeout(SIGNAL_INTERVAL) {
            Ok(event) => _ = handle(dashboard, event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// Runs until the user quits.
pub(super) fn top(settings: &TopSettings) -> Result<Exit> {
    require_terminal()?;
    let (_, stream) = run_sockets::connect(settings.run.as_deref().unwrap_or_default(), protocol::socket_path)?;
    let updates = source::open(stream)?;
    let show = Show::on(&io::stdout(), false, false, settings.color);
    let mut dashboard = Dashboard::new(show.summary_options().color);
    stop_on_signals()?;
    let (sender, events) = mpsc::sync_channel(MAX_WAITING);
    source::start(updates, sender.clone())?;
    let mut screen = Screen::enter()?;
    screen::read_inputs(sender)?;
    let shown = show_until_closed(&mut dashboard, &mut screen, &events, || ());
    screen.leave();
    shown.map(|()| Exit::Success)
}

fn show_until_closed(
    dashboard: &mut Dashboard,
    screen: &mut Screen,
    events: &Receiver<TopEvent>,
    on_resize: impl Fn(),
) -> Result<()> {
    screen.draw(dashboard)?;
    while !dashboard.is_closed() && !STOP.load(Ordering::Relaxed) {
        let first = match events.recv_timeout(SIGNAL_INTERVAL) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // Everything that waits is drawn at once.
        let mut is_changed = false;
        for event in std::iter::once(first).chain(events.try_iter()) {
            if matches!(event, TopEvent::Resized) {
                on_resize();
            }
            is_changed |= handle(dashboard, event);
        }
        if is_changed {
            screen.draw(dashboard)?;
        }
    }
    Ok(())
}

/// Returns whether there is something new to draw.
fn handle(dashboard: &mut Dashboard, event: TopEvent) -> bool {
    match event {
        TopEvent::Updates(updates) => dashboard.apply(updates),
        TopEvent::Disconnected(why) => {
            dashboard.apply([Update::Ended(why)]);
            true
        }
        TopEvent::Input(input) => {
            dashboard.input(input);
            true
        }
        TopEvent::Resized => true,
        TopEvent::Output(output) => {
            dashboard.add_output(&output);
            true
        }
        TopEvent::OutputEnded => {
            dashboard.end_output();
            true
        }
    }
}
