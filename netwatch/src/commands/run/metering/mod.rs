//! The metering thread of a run: owns the meter, the session and the feeds of all consumers. The
//! control loop sends it commands and never waits for it, so signals, timers and the guardian are
//! handled while this thread drains a large table or creates a report. This file is the control
//! loop's side, `thread` the thread itself.

mod thread;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::thread::MeteringThread;
use super::interim::InterimPrinter;
use super::signals::SignalStream;
use super::soak::SoakWatch;
use super::thresholds::{FailReasons, ThresholdWatch};
use crate::consumer::{Closing, Consumer, Feed};
use crate::error::{Error, Result};
use crate::flow::CounterBounds;
use crate::host::cgroup::UsageReader;
use crate::meter::LiveMeter;
use crate::packets::{FlowQuery, Identify};
use crate::process::ProcessEvent;
use crate::report::{EndedBy, ExitStatus, Interface, Report, ResourceUsage};
use crate::session::{FlowIdentity, IsolatedScope, Session};
use crate::terminal::print_error;
use crate::wire::Name;

/// What the metering thread needs to start.
pub(in crate::commands) struct MeteringSpec {
    pub meter: LiveMeter,
    pub session: Session<IsolatedScope>,
    pub interim: InterimPrinter,
    /// CPU and memory of the command; `None` without a cgroup.
    pub usage: Option<UsageReader>,
    /// `--soak`.
    pub soak: Option<SoakWatch>,
    /// `--fail-if`.
    pub thresholds: ThresholdWatch,
}

/// How a run ended, as far as its report states it.
#[derive(Debug)]
pub(in crate::commands) struct Conclusion {
    pub duration: Duration,
    pub exit: ExitStatus,
    pub ended_by: EndedBy,
    pub usage: Option<ResourceUsage>,
    /// What the interfaces counted; `None` if unknown.
    pub counters: Option<CounterBounds>,
    /// Published ports that only root may bind: the report notes the first that nothing bound.
    pub privileged_ports: Vec<u16>,
}

/// Starts a consumer, which reports through the sender that it can take more events.
type StartFeed = Box<dyn FnOnce(Sender<MeteringCommand>) -> Result<Feed> + Send>;

enum MeteringCommand {
    /// Start the session.
    Start {
        started_ns: u64,
    },
    Attach(StartFeed, OnFailure),
    /// Attach a consumer that also receives everything so far.
    AttachViewer(StartFeed),
    Note(String),
    SetResolvers(Vec<std::net::SocketAddr>),
    SetInterface(Interface),
    /// Processes and sockets that existed before the session.
    Found(Vec<ProcessEvent>, oneshot::Sender<()>),
    PrintInterim,
    Snapshot(Sender<Arc<Report>>),
    /// What is known about these flows.
    Identify(Vec<FlowQuery>, Sender<Vec<FlowIdentity>>),
    Conclude(Conclusion, oneshot::Sender<Arc<Report>>),
    /// Add names from reverse lookups to the final report.
    Resolve(Vec<(IpAddr, Name)>, oneshot::Sender<Arc<Report>>),
    /// A consumer can take more events.
    HasRoom,
    /// Finish the consumers and end the thread. Without a final report, the run failed.
    Finish,
}

/// What follows when a consumer fails. The failure is also a note of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum OnFailure {
    /// The run fails at its end.
    FailRun,
    /// The failure is printed, and the run continues: the user has asked for the consumer.
    Print,
    /// Nothing else.
    Note,
}

impl OnFailure {
    /// Prints the error if that is to follow. Returns whether it is.
    fn print(self, error: &Error) -> bool {
        let is_printed = self == Self::Print;
        if is_printed {
            print_error(error);
        }
        is_printed
    }
}

/// Why a consumer failed.
#[derive(Debug)]
struct ConsumerFailure {
    error: Error,
    /// It was printed, or the report has a note about it.
    is_reported: bool,
}

/// A consumer that is finishing.
#[derive(Debug)]
struct Finishing {
    /// `None` if its thread could not be started.
    closing: Option<Closing>,
    failure: Option<ConsumerFailure>,
    on_failure: OnFailure,
    is_essential: bool,
    deadline: Instant,
}

impl Finishing {
    /// Waits until the consumer is finished. Returns the error of a required consumer. Prints that
    /// of any other, unless it was printed or is a note of the report.
    fn wait(self) -> Result<()> {
        let closed = self.closing.map_or(Ok(()), |closing| closing.wait(self.deadline));
        let failed_to_close = closed.err().map(|error| ConsumerFailure { error, is_reported: false });
        match self.failure.or(failed_to_close) {
            _ if !self.is_essential => Ok(()),
            Some(failure) if self.on_failure == OnFailure::FailRun => Err(failure.error),
            Some(ConsumerFailure { error, is_reported: false }) => {
                print_error(&error);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn start_feed(consumer: impl Consumer) -> StartFeed {
    Box::new(|commands| {
        Feed::start(consumer, move || {
            // Fails only at the end of the run, when no events are left.
            let _ = commands.send(MeteringCommand::HasRoom);
        })
    })
}

/// The control loop's side of the metering thread.
pub(in crate::commands) struct Metering {
    commands: Sender<MeteringCommand>,
    thread: JoinHandle<Vec<Finishing>>,
    /// Closed when the thread ends, also by a panic.
    ended: oneshot::Receiver<()>,
    has_required: bool,
    fail_reasons: FailReasons,
}

impl Metering {
    /// Starts the metering thread.
    pub(in crate::commands) fn start(spec: MeteringSpec) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let fail_reasons = spec.thresholds.reasons();
        let metering = MeteringThread::new(spec, commands.clone());
        let (ends, ended) = oneshot::channel();
        let work = move || {
            let _ends: oneshot::Sender<()> = ends;
            metering.run(&receiver)
        };
        let thread = std::thread::Builder::new().name("meter".into()).spawn(work);
        let thread = thread.map_err(|error| Error::os("start thread", "meter", error))?;
        Ok(Self { commands, thread, ended, has_required: false, fail_reasons })
    }

    fn send(&self, command: MeteringCommand) {
        // Fails only if the thread panicked, and then `join` returns an error.
        let _ = self.commands.send(command);
    }

    /// Pending until the thread panics. To be called before [`Metering::conclude`] only.
    pub(in crate::commands) async fn panicked(&mut self) -> Error {
        // The sender sends nothing; it is dropped.
        let _ = (&mut self.ended).await;
        Error::other("meter", "the command", "the metering thread panicked")
    }

    /// Why the run fails, after [`Metering::conclude`].
    pub(in crate::commands) fn fail_reasons(&self) -> Vec<String> {
        self.fail_reasons.get()
    }

    /// Starts the session.
    pub(in crate::commands) fn begin(&self, started_ns: u64) {
        self.send(MeteringCommand::Start { started_ns });
    }

    /// Starts a consumer.
    pub(in crate::commands) fn attach(&mut self, consumer: impl Consumer, on_failure: OnFailure) {
        self.has_required |= on_failure == OnFailure::FailRun;
        self.send(MeteringCommand::Attach(start_feed(consumer), on_failure));
    }

    /// A function that attaches viewers from any thread.
    pub(in crate::commands) fn viewers<C: Consumer>(&self) -> impl Fn(C) + Send + 'static {
        let commands = self.commands.clone();
        move |viewer| {
            // Fails only if the run has ended; the viewer is dropped then.
            let _ = commands.send(MeteringCommand::AttachViewer(start_feed(viewer)));
        }
    }

    /// Adds a note to the report.
    pub(in crate::commands) fn note(&self, note: String) {
        self.send(MeteringCommand::Note(note));
    }

    /// Sets the resolvers of the host after a change.
    pub(in crate::commands) fn set_resolvers(&self, resolvers: Vec<std::net::SocketAddr>) {
        self.send(MeteringCommand::SetResolvers(resolvers));
    }

    /// Sets the facts about the interface after a change.
    pub(in crate::commands) fn set_interface(&self, interface: Interface) {
        self.send(MeteringCommand::SetInterface(interface));
    }

    /// Adds processes and sockets that existed before the session. Returns when what is known about
    /// these processes was read.
    pub(in crate::commands) async fn add_found(&self, found: Vec<ProcessEvent>) -> Result<()> {
        let (reply, added) = oneshot::channel();
        self.send(MeteringCommand::Found(found, reply));
        added.await.map_err(|_| Error::other("add", "existing sockets", "the metering thread panicked"))
    }

    /// Prints an interim report.
    pub(in crate::commands) fn print_interim(&self) {
        self.send(MeteringCommand::PrintInterim);
    }

    /// A function that creates snapshots from any thread. It returns `None` when the run has ended.
    pub(in crate::commands) fn snapshots(&self) -> impl Fn() -> Option<Arc<Report>> + Clone + Send + 'static {
        let commands = self.commands.clone();
        move || {
            let (reply, snapshot) = mpsc::channel();
            commands.send(MeteringCommand::Snapshot(reply)).ok()?;
            snapshot.recv().ok()
        }
    }

    /// A function that requests what is known about flows, from any thread. There is no answer when
    /// the run has ended.
    pub(in crate::commands) fn identities(&self) -> Identify {
        let commands = self.commands.clone();
        Box::new(move |flows| {
            let (reply, identities) = mpsc::channel();
            // Fails only if the thread panicked; then there is no answer either.
            let _ = commands.send(MeteringCommand::Identify(flows, reply));
            identities
        })
    }

    /// A function that adds a note to the report, from any thread.
    pub(in crate::commands) fn notes(&self) -> impl Fn(String) + Send + 'static {
        let commands = self.commands.clone();
        move |note| {
            // As above.
            let _ = commands.send(MeteringCommand::Note(note));
        }
    }

    /// Drains everything and creates the final report. Called when no packet can move any more.
    pub(in crate::commands) async fn conclude(&self, conclusion: Conclusion) -> Result<Arc<Report>> {
        let (reply, report) = oneshot::channel();
        self.send(MeteringCommand::Conclude(conclusion, reply));
        report.await.map_err(|_| Error::other("make", "the report", "the metering thread panicked"))
    }

    /// Adds names to the final report.
    pub(in crate::commands) async fn resolve(&self, names: Vec<(IpAddr, Name)>) -> Result<Arc<Report>> {
        let (reply, report) = oneshot::channel();
        self.send(MeteringCommand::Resolve(names, reply));
        report.await.map_err(|_| Error::other("add names to", "the report", "the metering thread panicked"))
    }

    /// Delivers the end of the run to the consumers; [`Metering::finish`] waits for them.
    pub(in crate::commands) fn finish_consumers(&self) {
        self.send(MeteringCommand::Finish);
    }

    /// Waits until all consumers are finished. Returns the first failure of a required one. A
    /// signal ends the wait.
    pub(in crate::commands) async fn finish(self, signals: &SignalStream<'_>) -> Result<()> {
        let (done, finished) = oneshot::channel();
        let has_required = self.has_required;
        // Fails only if a signal ended the wait.
        let wait = move || _ = done.send(self.wait_for_consumers());
        let thread = std::thread::Builder::new().name("finish".into()).spawn(wait);
        thread.map_err(|error| Error::os("start thread", "finish", error))?;
        tokio::select! {
            finished = finished => finished.unwrap_or_else(|_| Err(Error::other("finish", "the run", "a thread panicked"))),
            () = signals.interrupted_again() => {
                let why = "interrupted by a signal; the recording is incomplete";
                let error = Error::other("finish", "the run", why);
                if has_required {
                    return Err(error);
                }
                print_error(&error);
                Ok(())
            }
        }
    }

    fn wait_for_consumers(self) -> Result<()> {
        // Has no effect if it was sent before.
        self.send(MeteringCommand::Finish);
        let finishing = self.thread.join();
        let finishing = finishing.map_err(|_| Error::other("finish", "the run", "the metering thread panicked"))?;
        let waited: Vec<Result<()>> = finishing.into_iter().map(Finishing::wait).collect();
        waited.into_iter().collect()
    }
}
