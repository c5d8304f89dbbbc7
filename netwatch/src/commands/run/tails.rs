//! Tails: other processes that watch the packets of the run. Each has a capture of its own, with a
//! ring and programs that are attached while it is connected. A slow tail therefore loses packets
//! in its own ring, where they are counted, and delays neither the run nor other tails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::Uid;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::RunPlan;
use super::capture::{self, CaptureHost, StartedCapture};
use super::metering::Metering;
use crate::commands::run_sockets::{self, RunListener};
use crate::commands::tail::protocol::{self, TailAnswer, TailRequest};
use crate::error::{Error, Result};
use crate::guardian::{MAX_CAPTURES, StartCapture};
use crate::meter::PacketRing;
use crate::packets::{CaptureFacts, CaptureFilter, CaptureSpec, CaptureWriter, KeyLog, RunningCapture, Selection};
use crate::target::user::Identity;
use crate::undo::RunId;

/// Time in which a process has to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that tails have to receive the last packets, at their end or that of the run.
const FINISH_TIMEOUT: Duration = Duration::from_millis(250);
/// Maximum size of the ring of a tail in bytes.
const MAX_RING_BYTES: u32 = 64 << 20;

/// What tails do; handled by the control loop.
pub(in crate::commands) enum TailEvent {
    /// A process asks for packets.
    Asked(TailRequest, UnixStream, TailSlot),
    /// The process of this connection has disconnected.
    Left(ConnectionId),
}

/// The tails of a run.
pub(in crate::commands) struct Tails {
    events: UnboundedReceiver<TailEvent>,
    running: BTreeMap<ConnectionId, RunningTail>,
    captured: TailCapture,
    /// `None` if it could not be started.
    _server: Option<RunListener>,
}

/// What all tails of a run have in common.
pub(in crate::commands) struct TailCapture {
    /// What each capture states.
    facts: CaptureFacts,
    /// The secrets of TLS connections, with `--keylog`.
    keys: Option<KeyLog>,
    /// Why there are none.
    no_keys: fn() -> Error,
}

impl TailCapture {
    /// For the run of a plan.
    pub(super) fn of(plan: &RunPlan, id: &RunId) -> Result<Self> {
        let keys = plan.keys.as_ref().map(KeyLog::duplicate).transpose()?;
        let no_keys =
            || Error::other("write keys of", "the run", "its command writes none").hint("start the run with --keylog");
        Ok(Self { facts: capture::facts(plan, id), keys, no_keys })
    }

    /// Without secrets of connections, for this reason.
    pub(in crate::commands) fn without_keys(facts: CaptureFacts, no_keys: fn() -> Error) -> Self {
        Self { facts, keys: None, no_keys }
    }
}

/// A tail with its capture.
struct RunningTail {
    capture: Option<RunningCapture>,
    stream: UnixStream,
    slot: TailSlot,
}

impl RunningTail {
    /// Sends the last packets and the statistics. A tail that was killed does not receive them.
    async fn finish(mut self) {
        if let Some(capture) = self.capture.take() {
            let _ = timeout(FINISH_TIMEOUT, capture.finish(None)).await;
        }
    }
}

impl Drop for RunningTail {
    fn drop(&mut self) {
        // It may have disconnected already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Tails {
    /// Listens in the run directory for processes of `owner` and of root. The result states whether
    /// that works.
    pub(in crate::commands) fn start(run_dir: &Path, owner: &Identity, captured: TailCapture) -> (Self, Result<()>) {
        let (sender, events) = unbounded_channel();
        let server = listen(run_dir, owner.uid, sender);
        let (server, outcome) = match server {
            Ok(server) => (Some(server), Ok(())),
            Err(error) => (None, Err(error)),
        };
        (Self { events, running: BTreeMap::new(), captured, _server: server }, outcome)
    }

    /// The next event. Pending indefinitely if there is no server.
    pub(in crate::commands) async fn event(&mut self) -> TailEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Starts or ends the capture of a tail. Fails only if the guardian is gone.
    pub(in crate::commands) async fn handle(
        &mut self,
        event: TailEvent,
        metering: &Metering,
        host: &mut impl CaptureHost,
    ) -> Result<()> {
        match event {
            TailEvent::Left(connection) => match self.running.remove(&connection) {
                Some(tail) => {
                    // Before the slot is free.
                    let stopped = host.stop_capture(tail.slot.number).await;
                    tokio::spawn(tail.finish());
                    stopped
                }
                // Its capture could not be started.
                None => Ok(()),
            },
            TailEvent::Asked(request, stream, slot) => {
                let number = slot.number;
                match self.start_tail(&request, &stream, number, metering, host).await {
                    Ok(capture) => {
                        let tail = RunningTail { capture: Some(capture), stream, slot };
                        self.running.insert(tail.slot.connection, tail);
                        Ok(())
                    }
                    Err(error) => {
                        refuse(&stream, error);
                        host.stop_capture(number).await
                    }
                }
            }
        }
    }

    async fn start_tail(
        &self,
        request: &TailRequest,
        stream: &UnixStream,
        slot: u16,
        metering: &Metering,
        host: &mut impl CaptureHost,
    ) -> Result<RunningCapture> {
        let TailRequest { snaplen, ring_bytes, egress, ingress, super_frames, .. } = *request;
        let TailRequest { filter, expression, .. } = request.clone();
        if ring_bytes > MAX_RING_BYTES {
            return Err(Error::other("start", "the capture", "the buffer of a tail can have at most 65536 KiB"));
        }
        let facts = &self.captured.facts;
        let keys = request.keylog.then(|| self.keys()).transpose()?;
        let start = StartCapture { slot, snaplen, ring_bytes, egress, ingress, filter: filter.clone() };
        let StartedCapture { maps, filter_error, interfaces } = host.start_capture(start, expression).await?;
        let is_in_kernel = filter_error.is_none();
        let failed = |error| Error::os("duplicate", "a file descriptor", error);
        let (own, ends) = (stream.try_clone().map_err(failed)?, stream.try_clone().map_err(failed)?);
        let CaptureFacts { os, comment, .. } = facts.clone();
        let names: Vec<String> = interfaces.all().into_iter().filter_map(|interface| interface.name).collect();
        let interface = names.join(", ");
        protocol::send(stream, &TailAnswer::Started { os, comment, interface, filter_error })?;
        let mut writer = CaptureWriter::stream(OwnedFd::from(own).into(), "the packets to the tail")?;
        writer.set_facts(facts.clone(), interfaces.all());
        RunningCapture::start(CaptureSpec {
            ring: PacketRing::open(maps, ring_bytes)?,
            interfaces,
            filter: filter.map(|program| CaptureFilter { program, is_in_kernel, snaplen }),
            writer: Some(writer),
            keys,
            printer: None,
            only: Selection::default(),
            states_names: true,
            max_packets: None,
            keeps_super_frames: super_frames,
            is_unbuffered: true,
            identify: metering.identities(),
            // Mostly EPIPE. The server notices the end of the connection.
            on_error: Box::new(move |_, _| _ = ends.shutdown(Shutdown::Both)),
        })
    }

    /// The secrets from now on.
    fn keys(&self) -> Result<KeyLog> {
        let mut keys = self.captured.keys.as_ref().ok_or_else(self.captured.no_keys)?.duplicate()?;
        keys.skip();
        Ok(keys)
    }

    /// Sends the last packets to all tails, and waits for at most [`FINISH_TIMEOUT`]. Called when
    /// no packet can move any more.
    pub(in crate::commands) async fn finish(&mut self) {
        self.refuse_further();
        let deadline = Instant::now() + FINISH_TIMEOUT;
        for (_, mut tail) in std::mem::take(&mut self.running) {
            if let Some(capture) = tail.capture.take() {
                // A tail that does not read, or has left, misses them.
                let _ = timeout_at(deadline, capture.finish(None)).await;
            }
        }
    }

    /// Answers those that asked and those that will ask: nothing would start their captures.
    fn refuse_further(&mut self) {
        self.events.close();
        while let Ok(event) = self.events.try_recv() {
            refuse_at_end(event);
        }
    }
}

/// Answers a process that asked for packets when the run was ending.
fn refuse_at_end(event: TailEvent) {
    if let TailEvent::Asked(_, stream, _) = event {
        refuse(&stream, Error::other("attach to", "the run", "it is ending"));
    }
}

/// Answers why there are no packets, and closes the connection.
fn refuse(stream: &UnixStream, why: Error) {
    // Both fail if it has disconnected already.
    let _ = protocol::send(stream, &TailAnswer::Refused(why));
    let _ = stream.shutdown(Shutdown::Both);
}

/// Distinguishes all connections to a run.
type ConnectionId = u64;

/// One of the slots of captures, until it is dropped.
pub(in crate::commands) struct TailSlot {
    number: u16,
    connection: ConnectionId,
    free: Arc<Mutex<BTreeSet<u16>>>,
}

impl TailSlot {
    fn take(free: &Arc<Mutex<BTreeSet<u16>>>, connection: ConnectionId) -> Option<Self> {
        let number = free.lock().unwrap_or_else(PoisonError::into_inner).pop_first()?;
        Some(Self { number, connection, free: free.clone() })
    }
}

impl Drop for TailSlot {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number);
    }
}

fn listen(run_dir: &Path, owner: Uid, events: UnboundedSender<TailEvent>) -> Result<RunListener> {
    RunListener::start((&protocol::socket_path(run_dir), owner), "tails", move |listener, is_stopped| {
        accept(listener, owner, is_stopped, &events);
    })
}

/// Serves each connection in a thread of its own. There are at most as many as slots.
fn accept(listener: &UnixListener, owner: Uid, is_stopped: &AtomicBool, events: &UnboundedSender<TailEvent>) {
    // Slot 0 is that of the run's own capture.
    let free = Arc::new(Mutex::new((1..MAX_CAPTURES).collect::<BTreeSet<u16>>()));
    for (connection, stream) in (0..).zip(run_sockets::served(listener.incoming(), owner, is_stopped)) {
        let Some(slot) = TailSlot::take(&free, connection) else {
            let why = format!("{} tails are attached already", MAX_CAPTURES - 1);
            refuse(&stream, Error::other("attach to", "the run", why));
            continue;
        };
        let events = events.clone();
        // Without a thread the connection is closed.
        drop(thread::Builder::new().name("tail".into()).spawn(move || serve(stream, slot, &events)));
    }
}

/// Passes the request on, and waits for the end of the connection.
fn serve(stream: UnixStream, slot: TailSlot, events: &UnboundedSender<TailEvent>) {
    let connection = slot.connection;
    let Ok(mut own) = stream.try_clone() else { return };
    if own.set_read_timeout(Some(REQUEST_TIMEOUT)).is_err() {
        return;
    }
    let Ok(request) = protocol::receive(&own) else { return };
    // Fails only at the end of the run.
    if let Err(SendError(event)) = events.send(TailEvent::Asked(request, stream, slot)) {
        return refuse_at_end(event);
    }
    let _ = own.set_read_timeout(None);
    // The process sends nothing more.
    while own.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    // As above.
    let _ = events.send(TailEvent::Left(connection));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> TailRequest {
        TailRequest {
            snaplen: 96,
            ring_bytes: 1,
            egress: true,
            ingress: true,
            super_frames: false,
            keylog: false,
            filter: None,
            expression: None,
        }
    }

    fn slot() -> TailSlot {
        TailSlot::take(&Arc::new(Mutex::new([1].into())), 0).expect("a free slot")
    }

    fn assert_is_refused(stream: &UnixStream) {
        match protocol::receive(stream).expect("an answer") {
            TailAnswer::Refused(error) => assert_eq!(error.to_string(), "cannot attach to the run: it is ending"),
            started => panic!("{started:?}"),
        }
    }

    #[test]
    fn a_tail_that_comes_at_the_end_is_answered() {
        let (sender, events) = unbounded_channel();
        let captured = TailCapture::without_keys(CaptureFacts::default(), || unreachable!("none are requested"));
        let mut tails = Tails { events, running: BTreeMap::new(), captured, _server: None };
        let ((waiting, of_waiting), (late, of_late)) = (pair(), pair());
        assert!(sender.send(TailEvent::Asked(request(), of_waiting, slot())).is_ok());
        tails.refuse_further();
        assert_is_refused(&waiting);
        protocol::send(&late, &request()).expect("sent");
        serve(of_late, slot(), &sender);
        assert_is_refused(&late);
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair of sockets")
    }
}
