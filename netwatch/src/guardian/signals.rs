//! The signal dispositions and the mask that netwatch inherits from its caller, kept so that the
//! command inherits exactly those.
//!
//! A signal that the caller ignores stays ignored, for netwatch and for the command. `nohup` and
//! non-interactive shells rely on that: under `nohup` SIGHUP is inherited ignored, in a background
//! job of a non-interactive shell SIGINT and SIGQUIT are.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::error::{Error, Result};

/// Signals whose dispositions netwatch or the guardian change for themselves.
const CHANGED_SIGNALS: [Signal; 13] = [
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
    Signal::SIGXFSZ,
];

/// Signal dispositions and mask as inherited from the caller.
#[derive(Debug, Clone)]
pub struct InheritedSignals {
    mask: SigSet,
    ignored: Vec<Signal>,
}

impl InheritedSignals {
    /// Reads them, before anything is changed. Rust's runtime has set SIGPIPE to ignored by then,
    /// so SIGPIPE is taken as default.
    pub fn read() -> Result<Self> {
        let mask = SigSet::thread_get_mask().map_err(|errno| Error::os("read", "the signal mask", errno))?;
        let is_inherited = |signal: &Signal| *signal != Signal::SIGPIPE && is_ignored(*signal);
        Ok(Self { mask, ignored: CHANGED_SIGNALS.into_iter().filter(is_inherited).collect() })
    }

    /// Whether the caller ignores this signal.
    pub fn ignores(&self, signal: Signal) -> bool {
        self.ignored.contains(&signal)
    }

    /// Restores them in the calling process. Dispositions before the mask: a blocked signal stays
    /// pending even while it is ignored, and is delivered when the mask is restored.
    pub(super) fn restore(&self) -> nix::Result<()> {
        for signal in CHANGED_SIGNALS {
            set_disposition(signal, if self.ignored.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL })?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)
    }
}

/// Blocks these signals in the calling process, so that they wait for a signalfd.
pub fn block_signals(signals: &[Signal]) -> Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(|errno| Error::os("block", "signals", errno))?;
    Ok(set)
}

/// A write beyond the limit for the size of files is then an error (EFBIG, setrlimit(2)), and does
/// not kill the process.
pub fn ignore_file_size_signal() -> Result<()> {
    let signal = Signal::SIGXFSZ;
    set_disposition(signal, libc::SIG_IGN).map_err(|errno| Error::os("ignore", signal.as_str(), errno))
}

/// Rust's runtime handles SIGSEGV and SIGBUS to report a stack overflow, and swallows the first
/// that another process sends. They end this process from here on, as they end any program.
pub fn reset_fault_signals() -> Result<()> {
    let signals = [Signal::SIGSEGV, Signal::SIGBUS];
    signals.into_iter().filter(|signal| !is_ignored(*signal)).try_for_each(|signal| {
        set_disposition(signal, libc::SIG_DFL).map_err(|errno| Error::os("reset", signal.as_str(), errno))
    })
}

/// Signals to the whole foreground group of a terminal do not reach the guardian, but other
/// processes may send them; it ignores them, so that it outlives the command. SIGCHLD is set to its
/// default: where it is inherited ignored, the kernel discards the exit status of the command.
pub(super) fn ignore_all_but_child() -> nix::Result<()> {
    set_disposition(Signal::SIGCHLD, libc::SIG_DFL)?;
    CHANGED_SIGNALS
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
    // SAFETY: SIG_IGN and SIG_DFL install no handler.
    match unsafe { libc::signal(signal as i32, disposition) } {
        libc::SIG_ERR => Err(nix::errno::Errno::last()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Runs this in a forked process, because dispositions belong to the whole process. True if it
    /// returns true.
    fn in_child(test: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child only makes signal system calls and exits.
        match unsafe { fork() }.expect("fork") {
            // SAFETY: ends the child without running destructors of the test.
            ForkResult::Child => unsafe { libc::_exit(i32::from(!test())) },
            ForkResult::Parent { child } => waitpid(child, None) == Ok(WaitStatus::Exited(child, 0)),
        }
    }

    #[test]
    fn ignored_signals_stay_ignored_and_the_others_become_default() {
        let ignored = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
        assert!(in_child(|| {
            let inherit = |signal: Signal| if ignored.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL };
            CHANGED_SIGNALS.into_iter().for_each(|signal| set_disposition(signal, inherit(signal)).expect("set"));
            let inherited = InheritedSignals::read().expect("read");
            ignore_all_but_child().expect("ignore");
            inherited.restore().expect("restore");
            CHANGED_SIGNALS.into_iter().all(|signal| is_ignored(signal) == ignored.contains(&signal))
                && inherited.ignores(Signal::SIGHUP)
                && !inherited.ignores(Signal::SIGTERM)
        }));
    }
}
