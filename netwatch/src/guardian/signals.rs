//! What netwatch was started with, kept so that the command inherits exactly that.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::error::{Error, Result};

/// Signals whose dispositions netwatch or the guardian change for themselves.
const CHANGED: [Signal; 12] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCHLD,
    Signal::SIGWINCH,
];

/// Signal dispositions and mask as inherited from the caller.
#[derive(Debug, Clone)]
pub struct Inherited {
    mask: SigSet,
    ignored: Vec<Signal>,
}

impl Inherited {
    /// Reads them; to be called before anything is changed. Rust's runtime has set SIGPIPE to ignore by then, so that one is taken as default.
    pub fn read() -> Result<Self> {
        let mask = SigSet::thread_get_mask().map_err(|errno| Error::os("read", "the signal mask", errno))?;
        let ignored = CHANGED.into_iter().filter(|signal| *signal != Signal::SIGPIPE && is_ignored(*signal)).collect();
        Ok(Self { mask, ignored })
    }

    /// Whether the caller ignores this signal (as nohup does with HUP).
    pub fn ignores(&self, signal: Signal) -> bool {
        self.ignored.contains(&signal)
    }

    /// Makes them the calling process's own again. What netwatch blocks, and so this process too, has waited for this moment: blocked signals are
    /// kept even while they are ignored.
    pub(super) fn restore(&self) -> nix::Result<()> {
        for signal in CHANGED {
            set_disposition(signal, if self.ignored.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL })?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)
    }
}

/// Blocks these signals in the calling process, so that they wait for a signalfd.
pub fn block(signals: &[Signal]) -> Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(|errno| Error::os("block", "signals", errno))?;
    Ok(set)
}

/// The guardian outlives what the terminal sends to the whole foreground group.
pub(super) fn ignore_all_but_child() -> nix::Result<()> {
    CHANGED
        .into_iter()
        .filter(|signal| *signal != Signal::SIGCHLD)
        .try_for_each(|signal| set_disposition(signal, libc::SIG_IGN))
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: an all-zero sigaction is a valid value to be overwritten.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only reads the disposition into `action`.
    let got = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &mut action) };
    got == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn set_disposition(signal: Signal, disposition: libc::sighandler_t) -> nix::Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours.
    match unsafe { libc::signal(signal as i32, disposition) } {
        libc::SIG_ERR => Err(nix::errno::Errno::last()),
        _ => Ok(()),
    }
}
