//! `netwatch tail`: prints or writes the packets of a live run of another terminal.

pub mod protocol;

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use protocol::{TailAnswer, TailRequest};

use super::view::{self, STOP, stop_on_signals};
use super::{filter, run_sockets};
use crate::capture::{Capture, CaptureEnd, CapturedFrame, comment};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::exit::Exit;
use crate::flow::Direction;
use crate::meter::PacketFlows;
use crate::packets::{CaptureFacts, PacketIdentity, PacketView, ViewSpec, ViewedFrame};
use crate::report::counted;
use crate::rights;
use crate::settings::{FilterOption, TailSettings};
use crate::terminal::{print_error, print_message};
use crate::undo::RunId;

/// Time in which the run sends its last packets after a signal.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the file of a tail states if the end of the stream is missing.
const INCOMPLETE: &str = "incomplete: the last packets are missing, and losses among them are not counted";

/// The requested number of packets was printed.
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Runs until the run ends, the requested number of packets was printed, or a signal arrives.
pub(super) fn tail(settings: &TailSettings) -> Result<Exit> {
    let request = request(settings)?;
    let (id, stream) = run_sockets::connect(settings.run.as_deref().unwrap_or_default(), protocol::socket_path)?;
    let sent = protocol::send(&stream, &request);
    // A run that refuses the connection does not wait for the request.
    let answer = protocol::receive(&stream).or_else(|error| sent.and(Err(error)));
    let (os, comment, filter_error) = match answer.map_err(|error| without_answer(&id, error))? {
        TailAnswer::Refused(error) => return Err(error),
        TailAnswer::Started { os, comment, filter_error, .. } => (os, comment, filter_error),
    };
    if let Some(cause) = filter_error {
        // What `run` notes.
        let cause = escape(&cause);
        print_message(&format!("the capture is filtered by netwatch and not by the kernel: {cause}"));
    }
    // Packets wait in the buffer of the run meanwhile.
    let mut spec = view::open(&settings.view)?;
    let facts = CaptureFacts { os, comment, ..view::own_facts() };
    set_facts(&mut spec, view::with_selection(facts, (settings.egress, settings.ingress), &settings.view.only));
    if settings.view.keylog {
        view::warn_of_secrets("what -w writes");
    }
    stop_on_signals()?;
    let (end, is_complete) = match follow(spec, &id, stream) {
        Err(error) if view::is_closed_pipe(&error) => return Ok(Exit::Success),
        end => end?,
    };
    match end {
        // The run sent the rest after a signal, or had no time for it.
        _ if STOP.load(Ordering::Relaxed) => {}
        end if !is_complete && is_cut(&end) => {
            let cause = "the run was killed, or this tail did not read its last packets in time";
            print_error(&Error::other("read", format!("run {id}"), cause).hint("the last packets are missing"));
            return Ok(Exit::Negative);
        }
        CaptureEnd::Whole => print_message(&format!("run {id} has ended")),
        CaptureEnd::Stopped { .. } => {}
        CaptureEnd::Broken(broken) => {
            print_error(&broken.error);
            return Ok(Exit::Negative);
        }
    }
    Ok(Exit::Success)
}

/// Why a run did not answer: it ends when the tail arrives, for example.
fn without_answer(id: &RunId, error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPIPE | Errno::ECONNRESET) => {
            Error::other("attach to", format!("run {id}"), "it ended before it answered")
        }
        _ => error,
    }
}

fn request(settings: &TailSettings) -> Result<TailRequest> {
    let caller = rights::caller()?;
    // SAFETY: a tail has a single thread.
    let filter = settings.filter.as_ref().map(|filter| unsafe { filter::of_run(filter, &caller) }).transpose()?;
    let expression = match &settings.filter {
        Some(FilterOption::Expression(text)) => Some(text.clone()),
        _ => None,
    };
    let TailSettings { snaplen, egress, ingress, super_frames, .. } = *settings;
    let (ring_bytes, keylog) = (settings.buffer * 1024, settings.view.keylog);
    Ok(TailRequest { snaplen, ring_bytes, egress, ingress, super_frames, keylog, filter, expression })
}

/// The file states what the run states, and what the tail selects.
fn set_facts(spec: &mut ViewSpec, facts: CaptureFacts) {
    if let Some(writer) = &mut spec.writer {
        writer.set_facts(facts, Vec::new());
    }
}

/// The end, and whether the run sent all packets: then it sent what it ends a capture with.
fn follow(spec: ViewSpec, id: &RunId, stream: UnixStream) -> Result<(CaptureEnd, bool)> {
    let stream = TailStream { stream, stop: &STOP, leaves_by: None };
    let mut capture = Capture::live(&format!("run {id}"), stream, &ENOUGH)?;
    let mut view = PacketView::new(spec);
    let (mut lost, mut flows) = (0_u64, PacketFlows::default());
    let end = capture.each(|frame| {
        lost = lost.saturating_add(frame.lost_before);
        view.frame(viewed(frame, &mut flows))?;
        if view.is_full() {
            ENOUGH.store(true, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let (written, left_out) = view.counts();
    let all_lost = lost.max(capture.dropped());
    let is_complete = capture.has_end();
    let lacks_end = !is_complete && is_cut(&end);
    view.finish(all_lost - lost, if lacks_end { INCOMPLETE } else { "" })?;
    let losses = capture.losses().filter(|(egress, ingress)| egress.saturating_add(*ingress) == all_lost);
    let counts = match lacks_end {
        true => cut_counts_text(written, all_lost, left_out),
        false => counts_text(written, all_lost, losses, left_out),
    };
    print_message(&counts);
    Ok((end, is_complete))
}

/// Whether the stream ended, possibly inside a packet. What follows is unknown unless the
/// statistics came.
fn is_cut(end: &CaptureEnd) -> bool {
    match end {
        CaptureEnd::Whole => true,
        CaptureEnd::Broken(broken) => broken.is_cut,
        CaptureEnd::Stopped { .. } => false,
    }
}

/// The stream of a run. After a signal, the run sends what its ring contains, and the statistics.
struct TailStream {
    stream: UnixStream,
    /// Set by the signal.
    stop: &'static AtomicBool,
    /// When the tail ends without them; `None` before a signal.
    leaves_by: Option<Instant>,
}

impl TailStream {
    /// Reports to the run that the tail ends.
    fn leave(&mut self) -> io::Result<Instant> {
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(LEAVE_TIMEOUT))?;
        Ok(*self.leaves_by.insert(Instant::now() + LEAVE_TIMEOUT))
    }
}

impl Read for TailStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                let leaves_by = self.leaves_by.map_or_else(|| self.leave(), Ok)?;
                if Instant::now() >= leaves_by {
                    return Ok(0);
                }
            }
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.leaves_by.is_some() && error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                read => return read,
            }
        }
    }
}

/// What tcpdump prints at its end, with the losses of each direction if they are known.
fn counts_text(written: u64, lost: u64, losses: Option<(u64, u64)>, left_out: u64) -> String {
    let directions = losses.filter(|_| lost > 0).map_or(String::new(), comment::losses);
    let left_out = if left_out > 0 { format!(", {left_out} left out by --only") } else { String::new() };
    format!("{} captured, {lost} lost{directions}{left_out}", counted(written, "packet"))
}

/// The counts without the end of the run: how much is missing is unknown.
fn cut_counts_text(written: u64, lost: u64, left_out: u64) -> String {
    let lost = if lost > 0 { format!(", {lost} lost before the last of them") } else { String::new() };
    let left_out = if left_out > 0 { format!(", {left_out} left out by --only") } else { String::new() };
    format!("{} captured{lost}{left_out}; an unknown number after them is missing", counted(written, "packet"))
}

/// Process and name are in the comments of the frame.
fn viewed<'a>(frame: &'a CapturedFrame<'a>, flows: &mut PacketFlows) -> ViewedFrame<'a> {
    let direction = frame.is_egress().map(|is_egress| if is_egress { Direction::Egress } else { Direction::Ingress });
    let flow = direction.and_then(|direction| flows.read(frame.bytes, frame.orig_len, direction, frame.time_ns));
    ViewedFrame { frame, direction, flow: flow.map(|flow| flow.key), identity: PacketIdentity::default() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_run_that_ends_first_is_named() {
        let (tail, run) = UnixStream::pair().expect("a pair of sockets");
        drop(run);
        let error = protocol::receive::<TailAnswer>(&tail).expect_err("closed");
        let id = RunId::random().expect("random bytes");
        let wanted = format!("cannot attach to run {id}: it ended before it answered");
        assert_eq!(without_answer(&id, error).to_string(), wanted);
    }

    #[test]
    fn after_a_signal_the_rest_is_read_for_a_while() {
        static SIGNALED: AtomicBool = AtomicBool::new(true);
        for is_answered in [true, false] {
            let (stream, mut run) = UnixStream::pair().expect("a pair of sockets");
            run.write_all(b"sent, ").expect("sent");
            let served = std::thread::spawn(move || {
                assert_eq!(run.read(&mut [0]).expect("the tail shuts its end down"), 0);
                if is_answered {
                    run.write_all(b"rest").expect("sent");
                }
                (!is_answered).then_some(run)
            });
            let mut text = String::new();
            let began = Instant::now();
            let mut stream = TailStream { stream, stop: &SIGNALED, leaves_by: None };
            stream.read_to_string(&mut text).expect("read");
            assert_eq!(text, if is_answered { "sent, rest" } else { "sent, " });
            assert!(began.elapsed() < 3 * LEAVE_TIMEOUT);
            drop(served.join().expect("no panic"));
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_packet_lacks_its_end() {
        static NEVER_STOPPED: AtomicBool = AtomicBool::new(false);
        // A section header, and a block of which a part is missing.
        let head = [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28, 1, 32, 1].map(u32::to_le_bytes);
        for (length, is_broken) in [(28, false), (36, true), (40, true)] {
            let input = io::Cursor::new(head.concat()[..length].to_vec());
            let mut capture = Capture::live("run", input, &NEVER_STOPPED).expect("a head");
            let end = capture.each(|_| Ok(())).expect("read");
            assert_eq!(matches!(end, CaptureEnd::Broken(_)), is_broken, "{length} bytes: {end:?}");
            assert!(is_cut(&end) && !capture.has_end(), "{length} bytes: {end:?}");
        }
        let wanted = "3 packets captured, 2 lost before the last of them; an unknown number after them is missing";
        assert_eq!(cut_counts_text(3, 2, 0), wanted);
    }

    #[test]
    fn the_counts_name_what_is_missing() {
        assert_eq!(counts_text(3, 0, Some((0, 0)), 0), "3 packets captured, 0 lost");
        assert_eq!(counts_text(1, 2, None, 1), "1 packet captured, 2 lost, 1 left out by --only");
        assert_eq!(counts_text(1, 3, Some((1, 2)), 0), "1 packet captured, 3 lost (1 out, 2 in)");
    }
}
