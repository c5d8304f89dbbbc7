//! Packets as lines and in files. In the capture of a run, a thread reads the packets of the ring
//! and finds out the process and the remote's name of each; an error ends the capture and not the
//! run. A view does the same with the frames of a capture that was made before.

mod files;
mod flow_cache;
mod identity;
mod interfaces;
mod judge;
mod key_log;
mod line;
mod line_queue;
mod only;
mod output;
mod place;
mod printer;
mod sink;
mod thread;
mod view;
mod writer;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use files::Rotation;
pub use identity::PacketIdentity;
pub use interfaces::CaptureInterfaces;
pub use judge::CaptureFilter;
pub use key_log::KeyLog;
pub use line::{DumpColumns, DumpStyle, LineStyle, TimeStyle};
pub use only::{OnlyCondition, Selection};
pub use place::CapturePlace;
pub use printer::PacketPrinter;
pub use view::{PacketView, ViewSpec, ViewedFrame};
pub use writer::{CaptureFacts, CaptureWriter};

use crate::capture::comment;
use crate::error::{Error, Result};
use crate::flow::{Direction, FlowKey, PerDirection};
use crate::meter::{PacketRing, PacketStats};
use crate::report::{Report, counted};
use crate::session::FlowIdentity;
use thread::PacketThread;

/// Time that the capture has after the run, in total, to write its packets and the end of its file.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// A flow of which the process and the name are wanted: its key, direction and time of a packet,
/// and the socket that sent its packets, if it is known.
pub type FlowQuery = (FlowKey, Direction, u64, Option<u64>);

/// Requests what is known about flows. The answer arrives when the meter has been polled.
pub type Identify = Box<dyn Fn(Vec<FlowQuery>) -> Receiver<Vec<FlowIdentity>> + Send>;

/// What the thread of a capture needs.
pub struct CaptureSpec {
    /// The ring.
    pub ring: PacketRing,
    /// The interfaces, to which more may be added.
    pub interfaces: CaptureInterfaces,
    /// Which packets are captured.
    pub filter: Option<CaptureFilter>,
    /// Writes the packets to files.
    pub writer: Option<CaptureWriter>,
    /// Secrets of TLS connections, which the files contain.
    pub keys: Option<KeyLog>,
    /// Prints a line for each packet.
    pub printer: Option<PacketPrinter>,
    /// The packets that are written and printed.
    pub only: Selection,
    /// State the name of the remote in a comment on each packet.
    pub states_names: bool,
    /// End the capture after this number of packets.
    pub max_packets: Option<u64>,
    /// Keep super-frames as they were observed.
    pub keeps_super_frames: bool,
    /// Write each batch of packets at once.
    pub is_unbuffered: bool,
    /// Requests processes and names.
    pub identify: Identify,
    /// Receives the error that ends the capture.
    pub on_error: Box<dyn Fn(EndedOutput, Error) + Send>,
}

/// The result of a capture.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Whether packets were filtered.
    pub has_filter: bool,
    /// Packets that were written.
    pub written: u64,
    /// Packets that were taken from the ring. Super-frames count once, as in the other counters.
    pub captured: u64,
    /// Those of them that `--only` left out.
    pub left_out: u64,
    /// Whether the capture ended at the requested number of packets.
    pub is_full: bool,
    /// Packets that were read from the ring after the capture had ended.
    pub skipped: u64,
    /// Counters of the programs.
    pub stats: PacketStats,
}

impl CaptureSummary {
    /// Sentences for the report about what is not in the file.
    pub fn notes(&self) -> Vec<String> {
        let PacketStats { ring_full, too_long, unreadable, .. } = self.stats;
        let kinds = [
            (ring_full, "not captured: the buffer was full (--capture-buffer)"),
            (unreadable, "not captured: their bytes could not be read"),
            (too_long, "longer than a record; only their first bytes were captured"),
        ];
        let note = |(PerDirection { egress, ingress }, what): (PerDirection<u64>, &str)| {
            (egress + ingress > 0).then(|| format!("{} out, {ingress} in were {what}", counted(egress, "packet")))
        };
        let filter = self.has_filter.then(|| format!("the capture has a filter: {}", self.balance()));
        kinds.into_iter().filter_map(note).chain(filter).collect()
    }

    /// What became of the packets that the programs observed.
    pub fn balance(&self) -> String {
        let Self { written, captured, left_out, is_full, skipped, stats, .. } = self;
        if *is_full {
            // The programs counted on, and the last batch may have had more packets.
            return format!("it ended after {} (--count), and later ones are not in it", counted(*written, "packet"));
        }
        let (seen, filtered, lost) = (stats.observed.both(), stats.filtered.both() + left_out, stats.lost().both());
        let captured = captured - left_out;
        let PerDirection { egress, ingress } = stats.lost();
        let directions = if lost > 0 { comment::losses((egress, ingress)) } else { String::new() };
        let skipped = if *skipped > 0 { format!(" + {skipped} after its end") } else { String::new() };
        let seen = counted(seen, "packet");
        format!("{seen} seen = {captured} captured + {filtered} filtered + {lost} lost{directions}{skipped}")
    }
}

/// What ended by an error, while the run continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedOutput {
    /// Lines and file, or the only one of them.
    Capture,
    /// The lines; the file continues.
    Lines,
}

/// An order to the thread.
enum CaptureCommand {
    /// Read every packet that is in the ring.
    Drain(oneshot::Sender<CaptureSummary>),
    /// Complete the file.
    Finish(Option<Arc<Report>>, oneshot::Sender<Result<()>>),
}

/// A capture that runs. Dropping it completes the file without a report.
#[derive(Debug)]
pub struct RunningCapture {
    commands: Sender<CaptureCommand>,
    wake: Arc<EventFd>,
    /// Receives the end of the capture, before that of the run.
    ended: oneshot::Receiver<()>,
    has_ended: bool,
    /// What remains of [`FINISH_TIMEOUT`].
    time_left: Duration,
}

impl RunningCapture {
    /// Starts the thread.
    pub fn start(spec: CaptureSpec) -> Result<Self> {
        let failed = |errno| Error::os("create", "an event descriptor", errno);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(failed)?);
        let (commands, receiver) = mpsc::channel();
        let (ends, ended) = oneshot::channel();
        let thread = PacketThread::new(spec, receiver, wake.clone(), ends)?;
        let spawned = std::thread::Builder::new().name("packets".into()).spawn(move || thread.run());
        spawned.map_err(|error| Error::os("start thread", "packets", error))?;
        Ok(Self { commands, wake, ended, has_ended: false, time_left: FINISH_TIMEOUT })
    }

    /// Pending until the capture ends before the run: by its number of packets or an error.
    pub async fn ended(&mut self) {
        if self.has_ended {
            std::future::pending::<()>().await;
        }
        // The sender sends nothing; it is dropped.
        let _ = (&mut self.ended).await;
        self.has_ended = true;
    }

    /// Reads everything that is in the ring. Called when no packet can move any more.
    /// After an error the file is incomplete, and `finish` would only wait again.
    pub async fn drain(&mut self) -> Result<CaptureSummary> {
        let (reply, summary) = oneshot::channel();
        self.send(CaptureCommand::Drain(reply));
        self.receive(summary).await
    }

    /// Completes the file with what the report contains.
    pub async fn finish(mut self, report: Option<Arc<Report>>) -> Result<()> {
        let (reply, finished) = oneshot::channel();
        self.send(CaptureCommand::Finish(report, reply));
        self.receive(finished).await?
    }

    /// Waits for the reply of the thread, which may be writing to a pipe without a reader.
    async fn receive<T>(&mut self, reply: oneshot::Receiver<T>) -> Result<T> {
        let failed = |cause: &str| Error::other("finish", "the capture", cause);
        let began = Instant::now();
        let received = tokio::time::timeout(self.time_left, reply).await;
        self.time_left = self.time_left.saturating_sub(began.elapsed());
        let late = "its output took no more packets for 10 s after the run; the rest is lost, and not counted";
        received.map_err(|_| failed(late))?.map_err(|_| failed("its thread panicked"))
    }

    fn send(&self, command: CaptureCommand) {
        // Both fail only if the thread panicked, and then there is no reply.
        let _ = self.commands.send(command);
        let _ = self.wake.write(1);
    }
}

impl Drop for RunningCapture {
    /// The thread notices that the channel is closed.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.commands = closed;
        // Fails only if the counter is full, and then the thread wakes up anyway.
        let _ = self.wake.write(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_that_is_full_has_no_balance() {
        let part = CaptureSummary { has_filter: true, written: 3, captured: 36, skipped: 6, ..Default::default() };
        assert!(part.balance().contains("36 captured"));
        let selected = CaptureSummary { left_out: 32, ..part };
        assert!(selected.balance().contains("4 captured + 32 filtered"), "{}", selected.balance());
        let lost = PerDirection { egress: 3, ingress: 2 };
        let lossy = CaptureSummary { stats: PacketStats { ring_full: lost, ..part.stats }, ..part };
        let comment = format!("balance: closed\ncapture: {}", lossy.balance());
        assert!(comment.contains(" + 5 lost (3 out, 2 in) + 6 after its end"), "{comment}");
        assert_eq!(comment::parse_losses(&comment), Some((3, 2)));
        assert_eq!(comment::parse_losses(&format!("capture: {}", part.balance())), Some((0, 0)));
        assert_eq!(comment::parse_losses("capture: 5 lost (3 out, 2"), None);
        let full = CaptureSummary { is_full: true, ..part };
        let note = "the capture has a filter: it ended after 3 packets (--count), and later ones are not in it";
        assert_eq!(full.notes(), [note]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_that_takes_nothing_is_an_error_after_ten_seconds_in_total() {
        let (commands, orders) = mpsc::channel();
        let (_ends, ended) = oneshot::channel();
        let wake = Arc::new(EventFd::new().expect("an event descriptor"));
        let mut capture = RunningCapture { commands, wake, ended, has_ended: false, time_left: FINISH_TIMEOUT };
        let began = Instant::now();
        for error in [capture.drain().await.expect_err("no reply"), capture.finish(None).await.expect_err("no reply")] {
            assert!(error.to_string().contains("took no more packets for 10 s"), "{error}");
        }
        assert_eq!(began.elapsed().as_secs(), FINISH_TIMEOUT.as_secs());
        drop(orders);
    }
}
