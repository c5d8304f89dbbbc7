//! The capture of a run (`-w`): its file is opened before the run starts; the guardian attaches the
//! programs when everything else is set up.

use std::path::Path;

use super::RunPlan;
use super::metering::Metering;
use super::network::Network;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::guardian::{GuardianClient, StartCapture};
use crate::meter::PacketRing;
use crate::packets::{
    CaptureFacts, CaptureFilter, CapturePlace, CaptureSpec, CaptureWriter, PacketPrinter, Rotation, RunningCapture,
};
use crate::settings::{CaptureOptions, FilterOption};
use crate::target::user::Identity;
use crate::terminal::print_error;
use crate::undo::RunId;

/// Opens the file, with the rights of its owner.
pub(super) fn open(settings: &CaptureOptions, owner: &Identity) -> Result<Option<CaptureWriter>> {
    let Some(file) = &settings.file else { return Ok(None) };
    if file == Path::new("-") {
        return Err(
            Error::other("write", "standard output", "it belongs to the command").hint("write to a named pipe instead")
        );
    }
    let place = CapturePlace::open(file, (owner.uid, owner.gid), settings.force)?;
    let rotation =
        Rotation { max_bytes: settings.file_size, max_time: settings.file_time, max_files: settings.file_count };
    CaptureWriter::open(place, rotation).map(Some)
}

/// Starts the capture that the plan contains, before the command's first instruction.
pub(super) async fn start(
    plan: &mut RunPlan,
    id: &RunId,
    network: &Network,
    metering: &Metering,
    line: &mut GuardianClient,
) -> Result<Option<RunningCapture>> {
    let Some(settings) = plan.settings.capture.clone() else { return Ok(None) };
    let mut writer = plan.capture.take();
    if let Some(writer) = &mut writer {
        writer.set_facts(facts(plan, &settings, id, network));
    }
    let CaptureOptions { snaplen, egress, ingress, .. } = settings;
    let ring_bytes = settings.buffer * 1024;
    let filter = plan.filter.take();
    let request = StartCapture { snaplen, ring_bytes, egress, ingress, filter: filter.clone() };
    let (maps, filter_error) = line.start_capture(request).await?;
    if let Some(cause) = &filter_error {
        metering.note(format!("the capture is filtered by netwatch and not by the kernel: {cause}"));
    }
    let note = metering.notes();
    let is_in_kernel = filter_error.is_none();
    let spec = CaptureSpec {
        ring: PacketRing::open(maps, ring_bytes)?,
        filter: filter.map(|program| CaptureFilter { program, is_in_kernel, snaplen }),
        writer,
        printer: settings.prints.then(|| PacketPrinter::new(Box::new(std::io::stderr()))),
        max_packets: settings.count,
        keeps_super_frames: settings.super_frames,
        is_unbuffered: settings.unbuffered,
        identify: metering.identities(),
        on_error: Box::new(move |error| {
            print_error(error);
            note(format!("the capture is incomplete: {error}"));
        }),
    };
    RunningCapture::start(spec).map(Some)
}

/// Pending until the capture ends before the run, or indefinitely.
pub(super) async fn ended(capture: &mut Option<RunningCapture>) {
    match capture {
        Some(capture) => capture.ended().await,
        None => std::future::pending().await,
    }
}

fn facts(plan: &RunPlan, settings: &CaptureOptions, id: &RunId, network: &Network) -> CaptureFacts {
    let uts = nix::sys::utsname::uname();
    let field = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let os = uts.map(|uts| format!("{} {}", field(uts.sysname()), field(uts.release()))).unwrap_or_default();
    let (filter, code) = match &settings.filter {
        Some(FilterOption::Expression(text)) => (Some(text.clone()), String::new()),
        Some(FilterOption::Code(path)) => (None, format!("\nfilter code: {}", escape(&path.display().to_string()))),
        None => (None, String::new()),
    };
    let command = plan.command.shown().join(" ");
    CaptureFacts {
        os,
        application: format!("netwatch {}", env!("CARGO_PKG_VERSION")),
        comment: format!("command: {}\nuser: {}\nrun: {id}{code}", escape(&command), plan.user.name),
        interface: network.link.name().to_owned(),
        snaplen: settings.snaplen,
        filter,
    }
}
