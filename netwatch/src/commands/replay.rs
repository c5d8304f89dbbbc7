//! `netwatch replay`: counts the packets in a capture and reports them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{filter, open_output};
use crate::capture::{Capture, CaptureEnd};
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::replay::{self, LocalAddresses, ReplayObserver, ReplayPlan, Replayed, ResolveNames};
use crate::settings::ReplaySettings;
use crate::terminal::{Progress, Show, print_error, print_with};

/// Exits with [`Exit::Negative`] if the capture is damaged; the part before the damage is reported.
pub(super) fn replay(settings: &ReplaySettings) -> Result<Exit> {
    let plan = plan(settings)?;
    let mut capture = Capture::open(&settings.file, &STOP)?;
    let output = open_output(settings.output.as_deref())?;
    let show = Show::on(&io::stdout(), settings.json, settings.quiet, settings.color);
    stop_on_signals()?;
    let mut progress = Progress::new(capture.size());
    let replayed = match settings.quiet {
        true => replay::replay(&mut capture, &plan, &mut ())?,
        false => replay::replay(&mut capture, &plan, &mut progress)?,
    };
    drop(progress);
    print_with(|out| show.write_screen(&replayed.report, output.is_some(), out))?;
    if let Some(output) = output {
        output.write(|out| show.write_file(&replayed.report, out))?;
    }
    Ok(exit(&replayed))
}

impl ReplayObserver for Progress {
    fn progress(&mut self, offset: u64) {
        self.set_position(offset);
    }
}

fn plan(settings: &ReplaySettings) -> Result<ReplayPlan> {
    let local = LocalAddresses::new(settings.local.iter().map(String::as_str))
        .map_err(|cause| Error::other("use", "--local", cause))?;
    let resolve: ResolveNames = |addresses| reverse::names(addresses.into_iter());
    let resolve = settings.resolve.then_some(resolve);
    let filter = settings.filter.as_ref().map(filter::of_replay).transpose()?;
    let ReplaySettings { kernel: by_kernel, max_flows, idle_timeout, .. } = *settings;
    Ok(ReplayPlan { local, by_kernel, filter, max_flows, idle_timeout, resolve })
}

fn exit(replayed: &Replayed) -> Exit {
    match &replayed.end {
        CaptureEnd::Whole | CaptureEnd::Stopped { .. } => Exit::Success,
        CaptureEnd::Broken(broken) => {
            print_error(&broken.error);
            Exit::Negative
        }
    }
}

/// Set by a signal. The report then notes how far the capture was read.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Makes the first signal end the reading, even of a pipe without data, and the second one end
/// netwatch. An ignored signal stays ignored (nohup).
fn stop_on_signals() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let failed = |errno| Error::os("handle", signal.as_str(), errno);
        // SAFETY: the handler only stores to an atomic.
        let previous = unsafe { sigaction(signal, &action) }.map_err(failed)?;
        if matches!(previous.handler(), SigHandler::SigIgn) {
            // SAFETY: restores the previous action.
            unsafe { sigaction(signal, &previous) }.map_err(failed)?;
        }
    }
    Ok(())
}
