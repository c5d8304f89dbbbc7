//! `netwatch replay`: counts the packets in a capture and reports them.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::load::open_capture;
use super::view::{STOP, stop_on_signals};
use super::{filter, open_output, refuse_input, view};
use crate::capture::{CaptureEnd, CapturedFrame};
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::packets::{PacketView, ViewedFrame};
use crate::replay::{self, FrameFacts, LocalAddresses, ReplayObserver, ReplayPlan, Replayed, ResolveNames};
use crate::settings::ReplaySettings;
use crate::terminal::{Progress, Show, print_error, print_with};

/// Exits with [`Exit::Negative`] if the capture is damaged; the part before the damage is reported.
pub(super) fn replay(settings: &ReplaySettings) -> Result<Exit> {
    let plan = plan(settings)?;
    let mut capture = open_capture(&settings.file, &STOP)?;
    for output in [&settings.output, &settings.view.file].into_iter().flatten() {
        refuse_input(output, &settings.file)?;
    }
    let output = open_output(settings.output.as_deref(), &[])?;
    let show = Show::on(&io::stdout(), settings.json, settings.quiet, settings.color);
    let is_stdout_taken = settings.view.prints || settings.view.file.as_deref() == Some(Path::new("-"));
    let view = view::open(&settings.view)?;
    stop_on_signals()?;
    let progress = (!settings.quiet && !is_stdout_taken).then(|| Progress::new(capture.size()));
    let is_active = view.writer.is_some() || view.printer.is_some();
    let ends_with_view = output.is_none() && is_stdout_taken;
    let view = is_active.then(|| PacketView::new(view));
    let mut observer = ReplayView { progress, view, ends_with_view, lost: 0 };
    let replayed = match replay::replay(&mut capture, &plan, &mut observer) {
        Err(error) if view::is_closed_pipe(&error) => return Ok(Exit::Success),
        replayed => replayed?,
    };
    let (view, lost) = (observer.view.take(), observer.lost);
    drop(observer);
    match view.map_or(Ok(()), |view| view.finish(capture.dropped().saturating_sub(lost), "")) {
        // The report does not depend on the reader of the lines.
        Err(error) if view::is_closed_pipe(&error) => {}
        finished => finished?,
    }
    if !is_stdout_taken {
        print_with(|out| show.write_screen(&replayed.report, output.is_some(), out))?;
    }
    if let Some(output) = output {
        output.write(|out| show.write_file(&replayed.report, out))?;
    }
    Ok(exit(&replayed))
}

/// Shows the progress, and prints and writes frames.
struct ReplayView {
    progress: Option<Progress>,
    view: Option<PacketView>,
    /// Only what the view prints or writes is wanted.
    ends_with_view: bool,
    /// Packets that were lost before one of the frames.
    lost: u64,
}

impl ReplayObserver for ReplayView {
    fn progress(&mut self, offset: u64) {
        if let Some(progress) = &mut self.progress {
            progress.set_position(offset);
        }
    }

    fn frame(&mut self, frame: &CapturedFrame<'_>, known: &FrameFacts<'_>) -> Result<()> {
        let Some(view) = &mut self.view else { return Ok(()) };
        let FrameFacts { direction, flow, .. } = *known;
        self.lost = self.lost.saturating_add(frame.lost_before);
        view.frame(ViewedFrame { frame, direction, flow, identity: known.identity(frame.time_ns).into() })?;
        if view.is_full() && self.ends_with_view {
            STOP.store(true, Ordering::Relaxed);
        }
        Ok(())
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
