//! The capture of a run (`-w`): its file is opened before the run starts; the guardian attaches the
//! programs when everything else is set up.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::RunPlan;
use super::metering::Metering;
use super::network::Network;
use super::signals::SignalStream;
use crate::capture::CapturedInterface;
use crate::capture::write::ETHERNET;
use crate::commands::filter;
use crate::commands::view::{own_facts, require_secrets, warn_of_secrets, with_selection};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::filter::FilterProgram;
use crate::guardian::{GuardianClient, StartCapture};
use crate::meter::PacketRing;
use crate::packets::{
    CaptureFacts, CaptureFilter, CaptureInterfaces, CapturePlace, CaptureSpec, CaptureWriter, EndedOutput, KeyLog,
    LineStyle, PacketPrinter, RunningCapture,
};
use crate::report::Report;
use crate::settings::{CaptureOptions, FilterOption, LineTarget};
use crate::target::user::Identity;
use crate::terminal::{print_error, print_message};
use crate::undo::RunId;

/// The slot of the run's own capture; tails have others.
pub(in crate::commands) const OWN_SLOT: u16 = 0;

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

/// What was opened for a capture that has not started.
pub(in crate::commands) struct OpenedCapture {
    pub options: CaptureOptions,
    /// `-w`.
    pub writer: Option<CaptureWriter>,
    pub filter: Option<FilterProgram>,
    /// `--packets`.
    pub lines: Option<PacketPrinter>,
}

/// A capture whose programs are attached.
pub(in crate::commands) struct StartedCapture {
    /// The descriptors of the ring and of its counters.
    pub maps: [OwnedFd; 2],
    /// Why the kernel does not apply the filter, if so.
    pub filter_error: Option<String>,
    pub interfaces: CaptureInterfaces,
}

/// What attaches capture programs.
pub(in crate::commands) trait CaptureHost {
    /// Attaches the programs of a capture. `expression` is that of its filter.
    async fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture>;

    /// Detaches the programs of the capture in this slot, which can have another capture
    /// afterwards.
    async fn stop_capture(&mut self, slot: u16) -> Result<()>;
}

/// The guardian, and the name of the interface.
pub(super) struct GuardedLink<'a>(pub &'a mut GuardianClient, pub &'a str);

impl CaptureHost for GuardedLink<'_> {
    async fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture> {
        let interfaces = CaptureInterfaces::one(interface(self.1, capture.snaplen, expression));
        let (maps, filter_error) = self.0.start_capture(capture).await?;
        Ok(StartedCapture { maps, filter_error, interfaces })
    }

    async fn stop_capture(&mut self, slot: u16) -> Result<()> {
        // The guardian handles requests in order.
        self.0.stop_capture(slot)
    }
}

impl OpenedCapture {
    /// Opens everything with the rights of the owner, who owns the files.
    ///
    /// # Safety
    /// The process has a single thread.
    pub(in crate::commands) unsafe fn open(options: CaptureOptions, owner: &Identity) -> Result<Self> {
        // SAFETY: guaranteed by the caller.
        let filter = options.filter.as_ref().map(|filter| unsafe { filter::of_run(filter, owner) }).transpose()?;
        if options.file.as_deref() == Some(Path::new("-")) {
            let error = Error::other("write packets to", "standard output", "they go to a file or a named pipe");
            return Err(error.hint("`netwatch tail -w -` writes packets of the session to standard output"));
        }
        let writer = open(&options, false, owner)?;
        let lines = open_lines(&options, owner)?;
        Ok(Self { options, writer, filter, lines })
    }

    /// What is requested of [`CaptureHost::start_capture`].
    pub(in crate::commands) fn request(&self) -> (StartCapture, Option<String>) {
        let CaptureOptions { snaplen, egress, ingress, .. } = self.options;
        let (ring_bytes, filter) = (self.options.buffer * 1024, self.filter.clone());
        let expression = match &self.options.filter {
            Some(FilterOption::Expression(text)) => Some(text.clone()),
            Some(FilterOption::Code(_)) | None => None,
        };
        (StartCapture { slot: OWN_SLOT, snaplen, ring_bytes, egress, ingress, filter }, expression)
    }

    /// Starts the thread that reads the packets. Its errors end the capture and not the session.
    pub(in crate::commands) fn run(
        self,
        started: StartedCapture,
        mut facts: CaptureFacts,
        keys: Option<KeyLog>,
        metering: &Metering,
    ) -> Result<RunningCapture> {
        let StartedCapture { maps, filter_error, interfaces } = started;
        let Self { options, mut writer, filter, lines } = self;
        if let Some(writer) = &mut writer {
            if let Some(FilterOption::Code(path)) = &options.filter {
                facts.comment += &format!("\nfilter code: {}", escape(&path.display().to_string()));
            }
            let facts = with_selection(facts, (options.egress, options.ingress), &options.only);
            writer.set_facts(facts, interfaces.all());
        }
        if let Some(cause) = &filter_error {
            metering.note(format!("the capture is filtered by netwatch and not by the kernel: {cause}"));
        }
        let note = metering.notes();
        let (is_in_kernel, snaplen) = (filter_error.is_none(), options.snaplen);
        RunningCapture::start(CaptureSpec {
            ring: PacketRing::open(maps, options.buffer * 1024)?,
            interfaces,
            filter: filter.map(|program| CaptureFilter { program, is_in_kernel, snaplen }),
            writer,
            keys,
            printer: lines,
            only: options.only,
            states_names: false,
            max_packets: options.count,
            keeps_super_frames: options.super_frames,
            is_unbuffered: options.unbuffered,
            identify: metering.identities(),
            on_error: Box::new(move |ended, error| {
                let (incomplete, hint) = match ended {
                    EndedOutput::Capture => ("the capture is", "the capture has ended; the run continues"),
                    EndedOutput::Lines => ("the lines of packets are", "the file and the run continue"),
                };
                note(format!("{incomplete} incomplete: {error}"));
                print_error(&error.hint(hint));
            }),
        })
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
    let Some(options) = plan.settings.capture.clone() else { return Ok(None) };
    let facts = facts(plan, id);
    let (writer, filter, lines) = (plan.capture.take(), plan.filter.take(), plan.lines.take());
    let opened = OpenedCapture { options, writer, filter, lines };
    let (request, expression) = opened.request();
    let started = GuardedLink(guardian, network.link.name()).start_capture(request, expression).await?;
    opened.run(started, facts, plan.keys.take(), metering).map(Some)
}

/// Waits until the capture has written every packet. A signal ends the wait and the capture.
pub(in crate::commands) async fn drain(
    running: &mut Option<RunningCapture>,
    metering: &Metering,
    signals: &SignalStream<'_>,
) {
    let Some(capture) = running else { return };
    match signals.unless_interrupted("finish", "the capture", capture.drain()).await {
        Ok(Ok(summary)) => summary.notes().into_iter().for_each(|note| metering.note(note)),
        Err(error) | Ok(Err(error)) => {
            *running = None;
            print_error(&error);
            metering.note(format!("the capture is incomplete: {error}"));
        }
    }
}

/// Waits until the capture has completed its file. A signal ends the wait.
pub(in crate::commands) async fn finish(
    running: Option<RunningCapture>,
    report: Arc<Report>,
    signals: &SignalStream<'_>,
) {
    let Some(capture) = running else { return };
    let finished = signals.unless_interrupted("finish", "the capture", capture.finish(Some(report))).await;
    if let Err(error) = finished.flatten() {
        print_error(&error);
    }
}

/// Pending until the capture ends before the run, or indefinitely.
pub(in crate::commands) async fn ended(capture: &mut Option<RunningCapture>) {
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
fn interface(name: &str, snaplen: u32, filter: Option<String>) -> CapturedInterface {
    captured(name, "the host's end of the link of the command's network namespace", snaplen, filter)
}

/// An interface with Ethernet.
pub(in crate::commands) fn captured(
    name: &str,
    description: &str,
    snaplen: u32,
    filter: Option<String>,
) -> CapturedInterface {
    let (name, description) = (Some(name.to_owned()), Some(description.to_owned()));
    CapturedInterface { name, description, filter, link_number: ETHERNET, snaplen }
}
