//! What `replay` and `tail` have in common: what they print and write packets to, and what ends
//! them.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::{Error, Result};
use crate::escape::escape;
use crate::packets::{CaptureFacts, CapturePlace, CaptureWriter, PacketPrinter, Selection, ViewSpec};
use crate::rights;
use crate::settings::ViewSettings;
use crate::terminal::print_message;

/// The name of standard output in messages.
const STANDARD_OUTPUT: &str = "standard output";

/// Opens the file with the rights of the caller of sudo, who will own it.
pub(super) fn open(settings: &ViewSettings) -> Result<ViewSpec> {
    if settings.prints && is_standard_output(settings.file.as_deref()) {
        return Err(Error::other("write", STANDARD_OUTPUT, "lines and packets cannot both go there")
            .hint("write the packets to a file, or leave --packets out"));
    }
    let prints = || PacketPrinter::new(Box::new(io::stdout()), settings.style);
    Ok(ViewSpec {
        writer: settings.file.as_deref().map(|file| open_writer(settings, file)).transpose()?,
        printer: settings.prints.then(prints),
        only: settings.only.clone(),
        max_packets: settings.count,
        is_unbuffered: settings.unbuffered,
    })
}

fn open_writer(settings: &ViewSettings, file: &Path) -> Result<CaptureWriter> {
    let mut writer = if is_standard_output(Some(file)) {
        if settings.rotation.is_on() {
            return Err(Error::other("divide", STANDARD_OUTPUT, "it is not a file")
                .hint("leave out -C, -G and -W, or write to a file"));
        }
        let own = io::stdout().as_fd().try_clone_to_owned();
        CaptureWriter::stream(
            own.map_err(|error| Error::os("duplicate", STANDARD_OUTPUT, error))?.into(),
            STANDARD_OUTPUT,
        )?
    } else {
        let owner = rights::caller()?;
        let place = CapturePlace::open(file, (owner.uid, owner.gid), settings.force)?.telling(print_message);
        if settings.keylog {
            require_secrets(&place, file)?;
        }
        CaptureWriter::open(place, settings.rotation)?
    };
    writer.set_facts(with_selection(own_facts(), (true, true), &settings.only), Vec::new());
    Ok(writer)
}

fn is_standard_output(file: Option<&Path>) -> bool {
    file == Some(Path::new("-"))
}

/// Refuses a file that cannot contain the secrets of TLS connections.
pub(super) fn require_secrets(place: &CapturePlace, file: &Path) -> Result<()> {
    if place.is_pcapng() {
        return Ok(());
    }
    Err(Error::other("write keys to", file.display().to_string(), "pcap cannot contain them")
        .hint("write pcapng: give a name that does not end in .pcap"))
}

/// Prints what a file with secrets is.
pub(super) fn warn_of_secrets(what: &str) {
    print_message(&format!("{what} will contain the keys of TLS connections: keep it private, and not for long"));
}

/// The facts that every file of this netwatch states.
pub(super) fn own_facts() -> CaptureFacts {
    let uts = nix::sys::utsname::uname();
    let field = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    CaptureFacts {
        os: uts.map(|uts| format!("{} {}", field(uts.sysname()), field(uts.release()))).unwrap_or_default(),
        application: format!("netwatch {}", env!("CARGO_PKG_VERSION")),
        comment: String::new(),
    }
}

/// Adds lines to the comment of a file that does not have all packets: nothing else in it shows
/// that. A filter is part of the interface description.
pub(super) fn with_selection(facts: CaptureFacts, (egress, ingress): (bool, bool), only: &Selection) -> CaptureFacts {
    let direction = match (egress, ingress) {
        (true, false) => "direction: out".to_owned(),
        (false, true) => "direction: in".to_owned(),
        _ => String::new(),
    };
    let only = if only.is_everything() { String::new() } else { format!("only: {}", escape(&only.to_string())) };
    let lines: Vec<String> = [facts.comment, direction, only].into_iter().filter(|line| !line.is_empty()).collect();
    CaptureFacts { comment: lines.join("\n"), ..facts }
}

/// Whether the error means that the reader of the output has left, as in `| head`.
pub(super) fn is_closed_pipe(error: &Error) -> bool {
    error.errno() == Some(Errno::EPIPE)
}

/// Set by a signal, or when enough was read.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Makes the first signal end the reading, even of a pipe without data, and the second one end
/// netwatch. An ignored signal stays ignored (nohup).
pub(super) fn stop_on_signals() -> Result<()> {
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
