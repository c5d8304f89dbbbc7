//! Signals to netwatch, with where they came from.

use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::guardian::{Inherited, block};
use crate::readiness::{Watched, watch};

/// What netwatch listens to while the command runs.
const HEARD: [Signal; 5] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1];

/// What is to be done about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The command has it already (terminal) or its caller wants it ignored.
    Nothing,
    /// Pass it on.
    Forward(Signal),
    /// Print interim counters.
    Interim,
}

/// A signalfd over everything that netwatch listens to.
pub(super) struct Signals {
    blocked: SignalFd,
    ignored: Vec<Signal>,
}

impl Signals {
    /// Blocks the signals, so that none is lost from here on. Before any fork, thread or runtime.
    pub(super) fn hold(inherited: &Inherited) -> Result<Self> {
        let set = block(&HEARD)?;
        let blocked = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Error::os("listen to", "signals", errno))?;
        let ignored = HEARD.into_iter().filter(|signal| inherited.ignores(*signal)).collect();
        Ok(Self { blocked, ignored })
    }

    /// Inside the runtime.
    pub(super) fn listen(self) -> Result<Listening> {
        Ok(Listening { signals: watch(self.blocked, "signals")?, ignored: self.ignored })
    }
}

/// Signals as a stream of actions.
pub(super) struct Listening {
    signals: AsyncFd<Watched<SignalFd>>,
    ignored: Vec<Signal>,
}

impl Listening {
    /// A signal that came before the command could get it and that ends a process by default: INT, QUIT, TERM or HUP.
    pub(super) fn already(&self) -> Result<Option<Signal>> {
        loop {
            match self.signals.get_ref().read_signal() {
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(signal) if signal != Signal::SIGUSR1 && !self.ignored.contains(&signal) => {
                        return Ok(Some(signal));
                    }
                    _ => {}
                },
                Ok(None) => return Ok(None),
                Err(errno) => return Err(Error::os("listen to", "signals", errno)),
            }
        }
    }

    /// The next thing to do.
    pub(super) async fn next(&self) -> Result<Action> {
        loop {
            let mut ready = self.signals.readable().await.map_err(|error| Error::os("listen to", "signals", error))?;
            match ready.get_inner().read_signal() {
                Ok(Some(info)) => match action(info.ssi_signo, info.ssi_code, &self.ignored) {
                    Action::Nothing => {}
                    action => return Ok(action),
                },
                Ok(None) => ready.clear_ready(),
                Err(errno) => return Err(Error::os("listen to", "signals", errno)),
            }
        }
    }
}

/// The terminal driver signals the whole foreground group, the command included; its signals come from the kernel (`SI_KERNEL`).
/// Whoever uses kill(2) reaches netwatch alone.
fn action(number: u32, code: i32, ignored: &[Signal]) -> Action {
    let Ok(signal) = Signal::try_from(number as i32) else { return Action::Nothing };
    let from_terminal = code == libc::SI_KERNEL;
    match signal {
        signal if ignored.contains(&signal) => Action::Nothing,
        Signal::SIGUSR1 => Action::Interim,
        Signal::SIGINT | Signal::SIGQUIT if from_terminal => Action::Nothing,
        signal => Action::Forward(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_signal_does() {
        let table = [
            (libc::SIGINT, libc::SI_KERNEL, Action::Nothing),
            (libc::SIGINT, libc::SI_USER, Action::Forward(Signal::SIGINT)),
            (libc::SIGQUIT, libc::SI_KERNEL, Action::Nothing),
            (libc::SIGQUIT, libc::SI_TKILL, Action::Forward(Signal::SIGQUIT)),
            (libc::SIGTERM, libc::SI_USER, Action::Forward(Signal::SIGTERM)),
            // A terminal that hangs up tells the session leader only.
            (libc::SIGHUP, libc::SI_KERNEL, Action::Forward(Signal::SIGHUP)),
            (libc::SIGUSR1, libc::SI_USER, Action::Interim),
        ];
        for (signal, code, expected) in table {
            assert_eq!(action(signal as u32, code, &[]), expected, "{signal} {code}");
        }
        assert_eq!(action(libc::SIGHUP as u32, libc::SI_USER, &[Signal::SIGHUP]), Action::Nothing);
    }
}
