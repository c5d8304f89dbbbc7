//! Signals that netwatch receives, and what to do about each.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::faults;
use crate::guardian::{InheritedSignals, block_signals, ignore_file_size_signal};
use crate::readiness::{Watched, watch};
use crate::terminal::{end_stderr, erase_status_line, print_error};
use crate::undo::Exclusive;

/// Signals that netwatch handles while the command runs.
const HANDLED_SIGNALS: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTSTP];

/// Pause between two checks whether the lock of all runs is still held, before netwatch stops.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Time after the end of the command in which a signal is regarded as a repetition of the one that
/// ended it.
const REPEAT_DELAY: Duration = Duration::from_millis(250);

/// Interval at which signals are received while output is awaited.
const WAIT_INTERVAL: Duration = Duration::from_millis(20);

/// Time for output after a second signal that ends a process.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// What to do about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum SignalAction {
    /// Nothing: the caller ignores it.
    Nothing,
    /// Nothing to forward: the command has received it as well, from the terminal.
    FromTerminal(Signal),
    /// Forward it to the command.
    Forward(Signal),
    /// Print interim counters.
    Interim,
    /// Stop (^Z).
    Stop,
}

/// The blocked signals, received by a signalfd. Signals that the caller of netwatch ignores stay
/// ignored, for netwatch and for the command: `nohup` and non-interactive shells rely on that.
pub(in crate::commands) struct HeldSignals {
    held: Rc<SignalFd>,
    ignored: Vec<Signal>,
    interrupted_by: Cell<Option<Signal>>,
    /// Received signals that end a process by default.
    endings: Cell<u32>,
    /// End of the command plus [`REPEAT_DELAY`].
    repeats_until: Cell<Option<Instant>>,
    /// SIGTSTP has arrived while this process held the lock of all runs.
    has_to_stop: Cell<bool>,
}

/// Blocks signals during a session. If a signal interrupts the set-up, netwatch exits as a command
/// would have. `failure` is the exit code after an error, which is printed.
pub(in crate::commands) fn held(
    failure: Exit,
    work: impl FnOnce(InheritedSignals, &HeldSignals) -> Result<Exit>,
) -> Exit {
    let failed = |error: Error| {
        print_error(&error);
        failure
    };
    let (signals, inherited) = match hold() {
        Ok(held) => held,
        Err(error) => return failed(error),
    };
    let done = work(inherited, &signals);
    let interrupted = signals.interrupted_by().map(|signal| Ok(Exit::Signalled(signal as i32)));
    let exit = interrupted.unwrap_or(done).unwrap_or_else(failed);
    if let Some(written) = end_stderr() {
        // What is not read is lost when a signal ends the wait; the exit code is that of the run.
        let _is_written = signals.wait(&written);
    }
    exit
}

fn hold() -> Result<(HeldSignals, InheritedSignals)> {
    let inherited = InheritedSignals::read()?;
    ignore_file_size_signal()?;
    Ok((HeldSignals::hold(&inherited)?, inherited))
}

/// The signal mask before a run, for subcommands that do something with its report afterwards.
#[derive(Debug)]
pub(in crate::commands) struct SignalMask(SigSet);

impl SignalMask {
    pub(in crate::commands) fn read() -> Result<Self> {
        SigSet::thread_get_mask().map(Self).map_err(|errno| Error::os("read", "the signal mask", errno))
    }

    /// After the run: signals have their default effect again, so they end a subcommand whose
    /// output is not read. Those that have arrived were about the run, and are discarded. USR1
    /// requests interim counters of the run and would end netwatch, so it stays blocked.
    pub(in crate::commands) fn restore(mut self) -> Result<()> {
        let of_the_run = HANDLED_SIGNALS.into_iter().filter(|signal| *signal != Signal::SIGTSTP).collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let arrived = SignalFd::with_flags(&of_the_run, flags).map_err(receive_error)?;
        while arrived.read_signal().map_err(receive_error)?.is_some() {}
        self.0.add(Signal::SIGUSR1);
        self.0.thread_set_mask().map_err(|errno| Error::os("restore", "the signal mask", errno))
    }
}

impl HeldSignals {
    /// Blocks the signals, so that none is lost from here on. Must be called before any fork,
    /// thread or runtime.
    pub(in crate::commands) fn hold(inherited: &InheritedSignals) -> Result<Self> {
        let set = block_signals(&HANDLED_SIGNALS)?;
        let held = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(receive_error)?;
        let ignored = HANDLED_SIGNALS.into_iter().filter(|signal| inherited.ignores(*signal)).collect();
        let (interrupted_by, endings) = (Cell::new(None), Cell::new(0));
        let (repeats_until, has_to_stop) = (Cell::new(None), Cell::new(false));
        Ok(Self { held: Rc::new(held), ignored, interrupted_by, endings, repeats_until, has_to_stop })
    }

    /// Called before each step of the set-up: fails if a signal has arrived.
    pub(in crate::commands) fn step(&self, name: &str) -> Result<()> {
        faults::point(name)?;
        self.check_interrupted()
    }

    /// Fails if a signal has arrived that ends a process by default (INT, QUIT, TERM, HUP). The
    /// command, to which it would be forwarded, does not run yet.
    pub(in crate::commands) fn check_interrupted(&self) -> Result<()> {
        match self.next_ending()? {
            Some(signal) => {
                self.interrupted_by.set(Some(signal));
                Err(Error::other("set up", "the run", format!("interrupted by {signal}")))
            }
            None => Ok(()),
        }
    }

    /// The next pending signal that ends a process by default.
    fn next_ending(&self) -> Result<Option<Signal>> {
        while let Some(info) = self.held.read_signal().map_err(receive_error)? {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(signal) if self.ignored.contains(&signal) => {}
                Ok(Signal::SIGUSR1) | Err(_) => {}
                Ok(Signal::SIGTSTP) => self.has_to_stop.set(true),
                Ok(signal) => {
                    self.endings.set(self.endings.get().saturating_add(1));
                    return Ok(Some(signal));
                }
            }
        }
        self.stop_unless_locked();
        Ok(None)
    }

    /// Until when a signal can repeat the one that ended the command: a terminal or a service
    /// manager may send that one to netwatch as well, and it must not discard the report. The time
    /// counts from the first call, after the end of the command or of a failed set-up.
    pub(in crate::commands) fn repeats_until(&self) -> Instant {
        let until = self.repeats_until.get().unwrap_or_else(|| Instant::now() + REPEAT_DELAY);
        self.repeats_until.set(Some(until));
        until
    }

    /// Stops netwatch as SIGTSTP does, unless it holds the lock of all runs, whose ends would wait
    /// for it to continue. Returns after SIGCONT.
    fn stop_unless_locked(&self) {
        if self.has_to_stop.get() && !Exclusive::is_held_here() {
            self.has_to_stop.set(false);
            erase_status_line();
            // The default action of SIGTSTP, not SIGSTOP: a process group that no shell could
            // continue is not stopped. Fails only for signals that do not exist.
            let signal: SigSet = [Signal::SIGTSTP].into_iter().collect();
            let _ = signal.thread_unblock().and_then(|()| raise(Signal::SIGTSTP)).and_then(|()| signal.thread_block());
        }
    }

    /// At the end of a run: waits until output that may not be read is written. `done` then
    /// receives a value, or is disconnected. A signal ends the wait, and so does
    /// [`LAST_OUTPUT_TIMEOUT`] if there were two before; the result is then `None`. A repetition of
    /// the signal that ended the command is ignored.
    pub(in crate::commands) fn wait<T>(&self, done: &Receiver<T>) -> Option<Result<T, RecvError>> {
        let (started, repeats_until) = (Instant::now(), self.repeats_until());
        loop {
            match done.recv_timeout(WAIT_INTERVAL) {
                Ok(value) => return Some(Ok(value)),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(RecvError)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_interrupted = matches!(self.next_ending(), Ok(Some(_))) && Instant::now() >= repeats_until;
            if is_interrupted || (self.endings.get() > 1 && started.elapsed() > LAST_OUTPUT_TIMEOUT) {
                return None;
            }
        }
    }

    /// The signal that ended the set-up.
    pub(in crate::commands) fn interrupted_by(&self) -> Option<Signal> {
        self.interrupted_by.get()
    }

    /// Registers the signals with the runtime, in which this is called.
    pub(in crate::commands) fn listen(&self) -> Result<SignalStream<'_>> {
        Ok(SignalStream { signals: watch(Rc::clone(&self.held), "signals")?, held: self })
    }
}

/// Signals as a stream of actions.
pub(in crate::commands) struct SignalStream<'a> {
    signals: AsyncFd<Watched<Rc<SignalFd>>>,
    held: &'a HeldSignals,
}

impl<'a> SignalStream<'a> {
    /// The signals, for the steps of the set-up, which are not asynchronous.
    pub(in crate::commands) fn held(&self) -> &'a HeldSignals {
        self.held
    }

    /// During the set-up: waits until [`HeldSignals::check_interrupted`] fails.
    pub(in crate::commands) async fn stopped(&self) -> Error {
        loop {
            let ready = self.signals.readable().await.map_err(receive_error);
            match ready.and_then(|mut ready| self.held.check_interrupted().map(|()| ready.clear_ready())) {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    }

    /// At the end of a run: waits for a signal that ends a process by default. Never returns if
    /// signals cannot be received.
    pub(in crate::commands) async fn interrupted(&self) {
        loop {
            let Ok(mut ready) = self.signals.readable().await else { return std::future::pending().await };
            match self.held.next_ending() {
                Ok(Some(_)) => return,
                Ok(None) => ready.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// [`Self::interrupted`], but not before this time. A signal that arrives earlier counts.
    pub(in crate::commands) async fn interrupted_after(&self, delay: Duration) {
        sleep(delay).await;
        self.interrupted().await;
    }

    /// While the run is concluded: waits for a signal that is no repetition of the one that ended
    /// the command.
    pub(in crate::commands) async fn interrupted_again(&self) {
        let repeats_until = self.held.repeats_until();
        loop {
            self.interrupted().await;
            if Instant::now() >= repeats_until {
                return;
            }
        }
    }

    /// Waits for `work` until [`Self::interrupted_again`] returns. The error is that of `operation`
    /// on `object`.
    pub(in crate::commands) async fn unless_interrupted<T>(
        &self,
        operation: &'static str,
        object: &str,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            value = work => Ok(value),
            () = self.interrupted_again() => Err(Error::other(operation, object, "interrupted by a signal")),
        }
    }

    /// During the set-up: waits for `work` until [`HeldSignals::check_interrupted`] fails.
    pub(in crate::commands) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            value = work => Ok(value),
            error = self.stopped() => Err(error),
        }
    }

    /// The next signal that the command has not received as well.
    pub(in crate::commands) async fn next_for_netwatch(&self) -> Result<()> {
        while matches!(self.next().await?, SignalAction::FromTerminal(_)) {}
        Ok(())
    }

    /// The next action. Ignored signals are skipped, and netwatch stops at SIGTSTP.
    pub(in crate::commands) async fn next(&self) -> Result<SignalAction> {
        loop {
            while self.held.has_to_stop.get() {
                self.held.stop_unless_locked();
                sleep(LOCK_CHECK_INTERVAL).await;
            }
            let mut ready = self.signals.readable().await.map_err(receive_error)?;
            match self.held.held.read_signal() {
                Ok(Some(info)) => match action(info.ssi_signo, info.ssi_code, &self.held.ignored) {
                    SignalAction::Nothing => {}
                    SignalAction::Stop => self.held.has_to_stop.set(true),
                    action => {
                        if matches!(action, SignalAction::Forward(Signal::SIGTERM | Signal::SIGHUP)) {
                            self.held.endings.set(self.held.endings.get().saturating_add(1));
                        }
                        return Ok(action);
                    }
                },
                Ok(None) => ready.clear_ready(),
                Err(errno) => return Err(receive_error(errno)),
            }
        }
    }
}

fn receive_error(cause: impl Into<std::io::Error>) -> Error {
    Error::os("receive", "signals", cause)
}

/// The terminal sends signals to the whole foreground group, the command included, with the code
/// `SI_KERNEL`. A process that calls kill(2) reaches netwatch only.
fn action(number: u32, code: i32, ignored: &[Signal]) -> SignalAction {
    let Ok(signal) = Signal::try_from(number as i32) else { return SignalAction::Nothing };
    let from_terminal = code == libc::SI_KERNEL;
    match signal {
        signal if ignored.contains(&signal) => SignalAction::Nothing,
        Signal::SIGUSR1 => SignalAction::Interim,
        Signal::SIGTSTP => SignalAction::Stop,
        Signal::SIGINT | Signal::SIGQUIT if from_terminal => SignalAction::FromTerminal(signal),
        signal => SignalAction::Forward(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_each_signal_to_an_action() {
        let table = [
            (libc::SIGINT, libc::SI_KERNEL, SignalAction::FromTerminal(Signal::SIGINT)),
            (libc::SIGINT, libc::SI_USER, SignalAction::Forward(Signal::SIGINT)),
            (libc::SIGQUIT, libc::SI_KERNEL, SignalAction::FromTerminal(Signal::SIGQUIT)),
            (libc::SIGQUIT, libc::SI_TKILL, SignalAction::Forward(Signal::SIGQUIT)),
            (libc::SIGTERM, libc::SI_USER, SignalAction::Forward(Signal::SIGTERM)),
            // A terminal that hangs up signals the session leader only.
            (libc::SIGHUP, libc::SI_KERNEL, SignalAction::Forward(Signal::SIGHUP)),
            (libc::SIGUSR1, libc::SI_USER, SignalAction::Interim),
            (libc::SIGTSTP, libc::SI_KERNEL, SignalAction::Stop),
        ];
        for (signal, code, expected) in table {
            assert_eq!(action(signal as u32, code, &[]), expected, "{signal} {code}");
        }
        assert_eq!(action(libc::SIGHUP as u32, libc::SI_USER, &[Signal::SIGHUP]), SignalAction::Nothing);
    }
}
