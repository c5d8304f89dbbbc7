//! The capture of a run (`-w`): its file is opened before the run starts; the guardian attaches the
//! programs when everything else is set up.

use std::path::Path;

use super::RunPlan;
use super::metering::Metering;
use super::network::Network;
use crate::capture::CapturedInterface;
use crate::capture::write::ETHERNET;
use crate::commands::view::{own_facts, require_secrets, warn_of_secrets, with_selection};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::guardian::{GuardianClient, StartCapture};
use crate::meter::PacketRing;
use crate::packets::{
    CaptureFacts, CaptureFilter, CapturePlace, CaptureSpec, CaptureWriter, EndedOutput, KeyLog, LineStyle,
    PacketPrinter, RunningCapture,
};
use crate::settings::{CaptureOptions, FilterOption, LineTarget};
use crate::target::user::Identity;
use crate::terminal::{print_error, print_message};
use crate::undo::RunId;

/// The slot of the run's own capture; tails have others.
pub(super) const OWN_SLOT: u16 = 0;

/// Opens the file, with the rights of its owner.
pub(super) fn open(settings: &CaptureOptions, keylog: bool, owner: &Identity) -> Result<Option<CaptureWriter>> {
    let Some(file) = &settings.file else { return Ok(None) };
    if file == Path::new("-") {
        return Err(
            Error::other("write", "standard output", "it belongs to the command").hint("write to a named pipe instead")
        );
    }
    let place = CapturePlace::open(file, (owner.uid, owner.gid), settings.force)?.telling(print_message);
    if keylog {
        require_secrets(&place, file)?;
    }
    CaptureWriter::open(place, settings.rotation()).map(Some)
}

/// Creates the file of `--keylog` and sets SSLKEYLOGFILE for the command.
pub(super) fn create_key_log(plan: &mut RunPlan, run_dir: &Path) -> Result<()> {
    if !plan.settings.keylog {
        return Ok(());
    }
    let (keys, path) = KeyLog::create(run_dir, (plan.user.uid, plan.user.gid))?;
    plan.command.set_variable("SSLKEYLOGFILE", path.as_os_str());
    plan.keys = Some(keys);
    match plan.capture.is_some() {
        true => warn_of_secrets("the file of -w"),
        false => print_message(
            "no file has the keys of TLS connections without -w; `netwatch tail --keylog -w FILE` writes them",
        ),
    }
    Ok(())
}

/// Opens what lines are printed to, with the rights of the owner of the file.
pub(super) fn open_lines(settings: &CaptureOptions, owner: &Identity) -> Result<Option<PacketPrinter>> {
    let style = LineStyle::default();
    match &settings.lines {
        None => Ok(None),
        Some(LineTarget::StandardError) => Ok(Some(PacketPrinter::new(Box::new(std::io::stderr()), style))),
        Some(LineTarget::File(path)) => {
            let place = |path| CapturePlace::open(path, (owner.uid, owner.gid), settings.force);
            let lines = place(path)?;
            if let Some(file) = &settings.file {
                lines.require_other_than(&place(file)?)?;
            }
            PacketPrinter::to_file(lines.telling(print_message), style).map(Some)
        }
    }
}

/// Starts the capture that the plan contains, before the command's first instruction.
pub(super) async fn start(
    plan: &mut RunPlan,
    id: &RunId,
    network: &Network,
    metering: &Metering,
    guardian: &mut GuardianClient,
) -> Result<Option<RunningCapture>> {
    let Some(settings) = plan.settings.capture.clone() else { return Ok(None) };
    let mut writer = plan.capture.take();
    if let Some(writer) = &mut writer {
        let mut facts = facts(plan, id);
        let expression = match &settings.filter {
            Some(FilterOption::Expression(text)) => Some(text.clone()),
            Some(FilterOption::Code(path)) => {
                facts.comment += &format!("\nfilter code: {}", escape(&path.display().to_string()));
                None
            }
            None => None,
        };
        let facts = with_selection(facts, (settings.egress, settings.ingress), &settings.only);
        writer.set_facts(facts, vec![interface(network.link.name(), settings.snaplen, expression)]);
    }
    let CaptureOptions { snaplen, egress, ingress, .. } = settings;
    let ring_bytes = settings.buffer * 1024;
    let filter = plan.filter.take();
    let request = StartCapture { slot: OWN_SLOT, snaplen, ring_bytes, egress, ingress, filter: filter.clone() };
    let (maps, filter_error) = guardian.start_capture(request).await?;
    if let Some(cause) = &filter_error {
        metering.note(format!("the capture is filtered by netwatch and not by the kernel: {cause}"));
    }
    let note = metering.notes();
    let is_in_kernel = filter_error.is_none();
    let spec = CaptureSpec {
        ring: PacketRing::open(maps, ring_bytes)?,
        filter: filter.map(|program| CaptureFilter { program, is_in_kernel, snaplen }),
        writer,
        keys: plan.keys.take(),
        printer: plan.lines.take(),
        only: settings.only,
        states_names: false,
        max_packets: settings.count,
        keeps_super_frames: settings.super_frames,
        is_unbuffered: settings.unbuffered,
        identify: metering.identities(),
        on_error: Box::new(move |ended, error| {
            let (incomplete, hint) = match ended {
                EndedOutput::Capture => ("the capture is", "the capture has ended; the run continues"),
                EndedOutput::Lines => ("the lines of packets are", "the file and the run continue"),
            };
            note(format!("{incomplete} incomplete: {error}"));
            print_error(&error.hint(hint));
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

/// What each file of a capture of the run states.
pub(super) fn facts(plan: &RunPlan, id: &RunId) -> CaptureFacts {
    let command = escape(&plan.shown_command().join(" ")).into_owned();
    let comment = format!("command: {command}\nuser: {}\nrun: {id}", plan.user.name);
    CaptureFacts { comment, ..own_facts() }
}

/// The interface of every capture of a run.
pub(super) fn interface(name: &str, snaplen: u32, filter: Option<String>) -> CapturedInterface {
    const DESCRIPTION: &str = "the host's end of the link of the command's network namespace";
    let (name, description) = (Some(name.to_owned()), Some(DESCRIPTION.to_owned()));
    CapturedInterface { name, description, filter, link_number: ETHERNET, snaplen }
}
