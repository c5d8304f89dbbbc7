//! The loop while the command lives: what the guardian, the clock, the signals and the kernel have to say, one at a time.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use super::RunExit;
use super::live::Live;
use super::network::HostEvent;
use super::signals::{SignalAction, SignalStream};
use crate::error::{Error, Result};
use crate::guardian::{GuardianClient, Reply};
use crate::report::EndedBy;
use crate::settings::Linger;

/// How long a command has between TERM and KILL when `--duration` ends it.
const DURATION_GRACE: Duration = Duration::from_secs(5);
/// "Never", for a timer that has to exist.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// By itself or by a signal.
    pub exit: RunExit,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Processes that were still there and had to be ended.
    pub left_over: u32,
}

/// Why it never ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotStarted {
    /// What to say.
    pub message: String,
    /// 125, 126 or 127.
    pub code: u8,
}

/// What the user asked for that concerns the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunLimits {
    /// `--duration`.
    pub duration: Option<Duration>,
    /// `--linger`.
    pub linger: Option<Linger>,
}

/// The loop's state.
pub(super) struct ControlLoop<'a> {
    line: &'a mut GuardianClient,
    live: &'a mut Live,
    limits: RunLimits,
    exit: Option<RunExit>,
    ended_by: EndedBy,
    terminated_once: bool,
    /// The next moment at which patience ends: `--duration`, its grace, or `--linger`.
    deadline: Instant,
    /// The rest has been asked to end.
    ending: bool,
}

impl<'a> ControlLoop<'a> {
    pub(super) fn new(line: &'a mut GuardianClient, live: &'a mut Live, limits: RunLimits) -> Self {
        let deadline = Instant::now() + limits.duration.unwrap_or(NEVER);
        Self {
            line,
            live,
            limits,
            exit: None,
            ended_by: EndedBy::Command,
            terminated_once: false,
            deadline,
            ending: false,
        }
    }

    /// Until the last process that is to be waited for has ended.
    pub(super) async fn run(mut self, signals: &SignalStream<'_>) -> Result<Result<Ending, NotStarted>> {
        loop {
            tokio::select! {
                reply = self.line.reply() => match self.hear(reply?)? {
                    Heard::More => {}
                    Heard::Ended(processes) => return Ok(Ok(self.ending(processes))),
                    Heard::NotStarted(why) => return Ok(Err(why)),
                },
                action = signals.next() => self.act(action?)?,
                () = sleep_until(self.deadline) => self.lose_patience()?,
                event = self.live.network.host_event() => self.follow_host(event),
            }
        }
    }

    /// A change of the host that could not be followed is no reason to end the command.
    fn follow_host(&mut self, event: HostEvent) {
        let followed = match event {
            HostEvent::Failed(error) => Err(error),
            HostEvent::ResolvConfChanged => {
                self.live.metering.set_resolvers(self.live.network.resolvers());
                self.line.write_resolver(self.live.network.resolv_conf())
            }
        };
        self.live.note(followed);
    }

    fn ending(&self, processes: u32) -> Ending {
        Ending {
            exit: self.exit.unwrap_or(RunExit::Signal(libc::SIGKILL)),
            ended_by: self.ended_by,
            left_over: processes,
        }
    }

    fn hear(&mut self, reply: Option<Reply>) -> Result<Heard> {
        match reply {
            None => {
                return Err(Error::other("watch", "the command", "the guardian process was killed")
                    .hint("the command was ended; run `netwatch clean`"));
            }
            Some(Reply::Prepared { .. } | Reply::LinkDown(_) | Reply::Undone(_)) => {}
            Some(Reply::ResolverWritten(written)) => self.live.note(written),
            Some(Reply::Started) => self.live.begin_recording(),
            Some(Reply::NotStarted { message, code }) => return Ok(Heard::NotStarted(NotStarted { message, code })),
            Some(Reply::Exited { code }) => self.command_ended(RunExit::Code(i32::from(code)))?,
            Some(Reply::Signalled { signal }) => self.command_ended(RunExit::Signal(signal))?,
            Some(Reply::AllGone) if self.ending => {}
            Some(Reply::AllGone) => return Ok(Heard::Ended(0)),
            Some(Reply::Killed { processes }) => return Ok(Heard::Ended(processes)),
        }
        Ok(Heard::More)
    }

    /// The command's own process has ended; its children may live on.
    fn command_ended(&mut self, exit: RunExit) -> Result<()> {
        self.exit = Some(exit);
        match self.limits.linger {
            None => self.end_rest(),
            Some(Linger::Forever) => {
                self.deadline = Instant::now() + NEVER;
                Ok(())
            }
            Some(Linger::For(time)) => {
                self.deadline = Instant::now() + time;
                Ok(())
            }
        }
    }

    fn end_rest(&mut self) -> Result<()> {
        self.ending = true;
        self.deadline = Instant::now() + NEVER;
        self.line.kill()
    }

    /// `--duration` is over: TERM. Its grace, or `--linger`, is over: everything ends.
    fn lose_patience(&mut self) -> Result<()> {
        if self.exit.is_some() || self.ended_by == EndedBy::Duration {
            return self.end_rest();
        }
        self.ended_by = EndedBy::Duration;
        self.deadline = Instant::now() + DURATION_GRACE;
        self.line.signal(Signal::SIGTERM)
    }

    fn act(&mut self, action: SignalAction) -> Result<()> {
        match action {
            SignalAction::Nothing => Ok(()),
            SignalAction::Interim => {
                self.live.metering.print_interim();
                Ok(())
            }
            SignalAction::Forward(signal) => self.forward(signal),
        }
    }

    /// The first TERM or HUP is the command's to handle; a second one means it. While lingering there is no command to ask.
    fn forward(&mut self, signal: Signal) -> Result<()> {
        let ends = matches!(signal, Signal::SIGTERM | Signal::SIGHUP);
        if ends && self.ended_by == EndedBy::Command {
            self.ended_by = EndedBy::Signal(signal as i32);
        }
        if self.exit.is_some() || (ends && self.terminated_once) {
            return self.end_rest();
        }
        self.terminated_once |= ends;
        self.line.signal(signal)
    }
}

/// What a reply means for the loop.
enum Heard {
    More,
    Ended(u32),
    NotStarted(NotStarted),
}
