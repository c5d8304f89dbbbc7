//! The control loop of a run: handles replies of the guardian, signals, timers and changes of the
//! host while the command runs.

use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::time::{Instant, sleep_until};

use super::live::Live;
use super::network::HostEvent;
use super::signals::{SignalAction, SignalStream};
use super::{RunExit, capture};
use crate::error::{Error, Result};
use crate::guardian::{GuardianClient, Reply};
use crate::host::firewall::RepairedFirewall;
use crate::report::EndedBy;
use crate::settings::Linger;

/// Time between TERM and KILL when `--duration` ends the command.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the guardian to kill all processes before netwatch checks whether it is stopped.
const KILL_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of a timer that must exist but not expire: 100 years.
const NO_DEADLINE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// The exit status of the command.
    pub exit: RunExit,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Number of remaining processes that had to be killed.
    pub left_over: u32,
}

/// Why the command did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotStarted {
    /// The error message.
    pub message: String,
    /// Exit code of netwatch: 125, 126 or 127.
    pub code: u8,
}

/// Settings that limit the duration of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunLimits {
    /// `--duration`.
    pub duration: Option<Duration>,
    /// `--linger`.
    pub linger: Option<Linger>,
}

/// State of the control loop.
pub(super) struct ControlLoop<'a> {
    guardian: &'a mut GuardianClient,
    live: &'a mut Live,
    limits: RunLimits,
    exit: Option<RunExit>,
    ended_by: EndedBy,
    /// Signals that the command received, forwarded or from the terminal.
    received: SigSet,
    terminated_once: bool,
    /// When the current timeout expires: `--duration`, [`TERM_TIMEOUT`] or `--linger`.
    deadline: Instant,
    /// The guardian was ordered to kill the remaining processes.
    is_killing: bool,
}

impl<'a> ControlLoop<'a> {
    pub(super) fn new(guardian: &'a mut GuardianClient, live: &'a mut Live, limits: RunLimits) -> Self {
        let deadline = Instant::now() + limits.duration.unwrap_or(NO_DEADLINE);
        Self {
            guardian,
            live,
            limits,
            exit: None,
            ended_by: EndedBy::Command,
            received: SigSet::empty(),
            terminated_once: false,
            deadline,
            is_killing: false,
        }
    }

    /// Runs until the last process of the command has ended.
    pub(super) async fn run(mut self, signals: &SignalStream<'_>) -> Result<Result<Ending, NotStarted>> {
        loop {
            tokio::select! {
                reply = self.guardian.reply() => match self.handle_reply(reply?)? {
                    ReplyOutcome::Continue => {}
                    ReplyOutcome::Ended { killed } => return Ok(Ok(self.ending(killed))),
                    ReplyOutcome::NotStarted(why) => return Ok(Err(why)),
                },
                action = signals.next() => self.handle_signal(action?)?,
                () = sleep_until(self.deadline) => self.handle_timeout()?,
                event = self.live.network.host_event() => self.handle_host_event(event)?,
                () = capture::ended(&mut self.live.capture) => self.guardian.stop_capture(capture::OWN_SLOT)?,
                event = self.live.tails.event() => self.live.handle_tail(event, self.guardian).await?,
                error = self.live.metering.panicked() => return Err(error),
            }
        }
    }

    /// Adapts the run to a change of the host. Failure here does not end the command; it becomes a
    /// note. A panic of the host thread ends it.
    fn handle_host_event(&mut self, event: HostEvent) -> Result<()> {
        let adapted = match event {
            HostEvent::Panicked => {
                return Err(Error::other("follow", "changes of the host", "the host thread panicked"));
            }
            HostEvent::Failed(error) => Err(error),
            HostEvent::FirewallChanged(since) => self.live.firewall.changed(since, self.guardian),
            HostEvent::ResolvConfChanged(file) => {
                self.live.metering.set_resolvers(file.resolvers);
                self.guardian.write_resolver(file.text)
            }
        };
        self.live.note(adapted);
        Ok(())
    }

    fn note_firewall(&mut self, repaired: Result<RepairedFirewall>) {
        match self.live.firewall.repaired(repaired, self.guardian) {
            Ok(notes) => notes.into_iter().for_each(|note| self.live.metering.note(note)),
            Err(error) => self.live.note(Err(error)),
        }
    }

    fn ending(&self, killed: u32) -> Ending {
        Ending { exit: self.exit.unwrap_or(RunExit::Signal(libc::SIGKILL)), ended_by: self.ended_by, left_over: killed }
    }

    fn handle_reply(&mut self, reply: Option<Reply>) -> Result<ReplyOutcome> {
        match reply {
            None => {
                return Err(Error::other("watch", "the command", "the guardian process was killed")
                    .hint("the command was ended; run `netwatch clean`"));
            }
            Some(
                Reply::Prepared { .. }
                | Reply::LinkDown(_)
                | Reply::MemoryCreated(_)
                | Reply::CaptureStarted(_)
                | Reply::Undone(_),
            ) => {}
            Some(Reply::Refused(error)) => self.live.note(Err(error)),
            Some(Reply::FirewallRepaired(repaired)) => self.note_firewall(repaired),
            Some(Reply::ResolverWritten(written)) => self.live.note(written),
            Some(Reply::Started) => self.live.begin_recording(),
            Some(Reply::NotStarted { message, code }) => {
                return Ok(ReplyOutcome::NotStarted(NotStarted { message, code }));
            }
            Some(Reply::Exited { code }) => self.handle_exit(RunExit::Code(i32::from(code)))?,
            Some(Reply::Signalled { signal }) => self.handle_exit(RunExit::Signal(signal))?,
            Some(Reply::AllGone) if self.is_killing => {}
            Some(Reply::AllGone) => return Ok(ReplyOutcome::Ended { killed: 0 }),
            Some(Reply::Killed { processes }) => return Ok(ReplyOutcome::Ended { killed: processes }),
        }
        Ok(ReplyOutcome::Continue)
    }

    /// The main process of the command has ended; its descendants may still run.
    fn handle_exit(&mut self, exit: RunExit) -> Result<()> {
        self.exit = Some(exit);
        let received = self.received.iter().find(|signal| ends_by(exit, *signal));
        if let (EndedBy::Command, Some(signal)) = (self.ended_by, received) {
            self.ended_by = EndedBy::Signal(signal as i32);
        }
        match self.limits.linger {
            None => self.kill_rest(),
            Some(Linger::Forever) => {
                self.deadline = Instant::now() + NO_DEADLINE;
                Ok(())
            }
            Some(Linger::For(time)) => {
                self.deadline = Instant::now() + time;
                Ok(())
            }
        }
    }

    /// Requests the guardian to kill all remaining processes, and then checks at intervals that the
    /// guardian itself is not stopped.
    fn kill_rest(&mut self) -> Result<()> {
        self.deadline = Instant::now() + KILL_CHECK_INTERVAL;
        if self.is_killing {
            self.guardian.revive();
            return Ok(());
        }
        self.is_killing = true;
        self.guardian.kill()
    }

    /// After `--duration`, sends TERM. After [`TERM_TIMEOUT`] or `--linger`, kills everything.
    fn handle_timeout(&mut self) -> Result<()> {
        if self.is_killing || self.exit.is_some() || self.ended_by == EndedBy::Duration {
            return self.kill_rest();
        }
        self.ended_by = EndedBy::Duration;
        self.deadline = Instant::now() + TERM_TIMEOUT;
        self.guardian.signal(Signal::SIGTERM)
    }

    fn handle_signal(&mut self, action: SignalAction) -> Result<()> {
        match action {
            // A stop has happened when the signal is received here.
            SignalAction::Nothing | SignalAction::Stop => Ok(()),
            SignalAction::FromTerminal(signal) => {
                self.received.add(signal);
                self.guardian.revive();
                Ok(())
            }
            SignalAction::Interim => {
                self.live.metering.print_interim();
                Ok(())
            }
            SignalAction::Forward(signal) => {
                self.guardian.revive();
                self.forward(signal)
            }
        }
    }

    /// Forwards a signal to the command. A second TERM or HUP kills everything, and so does any
    /// signal after the exit of the command, because then there is no process to forward it to.
    fn forward(&mut self, signal: Signal) -> Result<()> {
        if self.exit.is_some() {
            return self.kill_rest();
        }
        let ends = matches!(signal, Signal::SIGTERM | Signal::SIGHUP);
        if ends && self.terminated_once {
            if self.ended_by == EndedBy::Command {
                self.ended_by = EndedBy::Signal(signal as i32);
            }
            return self.kill_rest();
        }
        self.terminated_once |= ends;
        self.received.add(signal);
        self.guardian.signal(signal)
    }
}

/// Whether a command that received this signal exited because of it: it was killed, or reports so
/// by its exit code, as shells do. One that handles the signal may continue, as interactive shells
/// do, or end with a code of its own: then it has ended by itself.
fn ends_by(exit: RunExit, signal: Signal) -> bool {
    exit == RunExit::Signal(signal as i32) || exit == RunExit::Code(128 + signal as i32)
}

/// What the control loop does after a reply.
enum ReplyOutcome {
    Continue,
    /// All processes have ended; so many of them had to be killed.
    Ended {
        killed: u32,
    },
    NotStarted(NotStarted),
}
