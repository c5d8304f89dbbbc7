//! Replay: meters a capture file as a run is metered, by the same parser and the same rules of
//! accounting in user space, or by the classifier in the kernel.

mod ethernet;
mod filter;
mod inject;
mod kernel;
mod local;
mod processes;
mod tally;

pub use filter::ReplayFilter;
pub use local::LocalAddresses;

use std::net::IpAddr;
use std::time::Duration;

use netwatch_common::flow::EGRESS;
use netwatch_common::observation::Observation;
use netwatch_common::parse::{Hook, Linked};

use crate::capture::{Capture, CaptureEnd, CapturedFrame};
use crate::error::Result;
use crate::flow::{Amount, Direction, FlowKey, Increment, ObservationPoint};
use crate::meter::host::{CountedFrame, HostMeter};
use crate::meter::{DrainProgress, Meter, name_sample_from_capture};
use crate::report::{self, Report};
use crate::session::{CaptureScope, FlowIdentity, Observed, Scope, Session, SessionConfig};
use crate::wire::Name;
use filter::FrameFilter;
use kernel::KernelEngine;
use processes::CommentedProcesses;
use tally::CaptureTally;

/// The settings of a replay.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// The addresses of the target.
    pub local: LocalAddresses,
    /// Whether the classifier in the kernel counts the frames.
    pub by_kernel: bool,
    /// Which frames are counted.
    pub filter: Option<ReplayFilter>,
    /// Maximum number of flows that are counted individually; packets of further flows are counted
    /// by protocol.
    pub max_flows: u32,
    /// A packet after a pause of this length in the capture begins another flow, except for TCP.
    /// Without effect on the classifier, for which all frames arrive at once.
    pub idle_timeout: Duration,
    /// Looks up names of addresses without a name, if wanted.
    pub resolve: Option<ResolveNames>,
}

/// A function that looks up names of addresses.
pub type ResolveNames = fn(Vec<IpAddr>) -> Vec<(IpAddr, Name)>;

/// The result of a replay.
#[derive(Debug)]
pub struct Replayed {
    /// The report.
    pub report: Report,
    /// How much of the file was read.
    pub end: CaptureEnd,
}

/// Observes the frames of a replay.
pub trait ReplayObserver {
    /// A packet was counted. Not called by the engine in the kernel, which does not return packets.
    fn counted(&mut self, _packet: &CountedFrame<'_>) {}

    /// A frame was counted in user space. An error ends the replay.
    fn frame(&mut self, _frame: &CapturedFrame<'_>, _known: &FrameFacts<'_>) -> Result<()> {
        Ok(())
    }

    /// A frame could not be given to the kernel.
    fn left_out(&mut self, _frame: &CapturedFrame<'_>) {}

    /// The file was read up to this offset, bytes. Called regularly.
    fn progress(&mut self, _offset: u64) {}
}

/// What is known about a frame when it was counted.
#[derive(Debug)]
pub struct FrameFacts<'a> {
    /// The direction, if it is known.
    pub direction: Option<Direction>,
    /// Its flow, if it belongs to one.
    pub flow: Option<FlowKey>,
    session: &'a CaptureSession,
}

impl<'a> FrameFacts<'a> {
    fn of(counted: &CountedFrame<'_>, stated: Option<Hook>, session: &'a CaptureSession) -> Self {
        let flow = counted.flow();
        let seen = counted.seen;
        let direction = |is_egress| if is_egress { Direction::Egress } else { Direction::Ingress };
        let direction = match flow.map(|flow| flow.point) {
            Some(ObservationPoint::Link) => Some(direction(seen.direction == EGRESS)),
            // Neither end is known to be the target: the end that opened the flow counts as local.
            Some(ObservationPoint::Loopback) => Some(direction(seen.direction == seen.opened_by)),
            None => stated.map(|hook| direction(hook == Hook::FromTarget)),
        };
        Self { direction, flow: flow.map(|flow| CaptureScope::default().orient_key(flow)), session }
    }

    /// The process and the name of the remote, as far as they are known at this time.
    pub fn identity(&self, time_ns: u64) -> FlowIdentity {
        let identify = |(flow, direction)| self.session.identify(flow, direction, time_ns, None);
        self.flow.zip(self.direction).map(identify).unwrap_or_default()
    }
}

/// Observes nothing.
impl ReplayObserver for () {}

/// A meter that receives the frames of a capture.
trait ReplayEngine {
    /// Counts a frame. `stated` is the hook that follows from the direction in the file.
    fn count(
        &mut self,
        frame: &Linked<'_>,
        stated: Option<Hook>,
        time_ns: u64,
        session: &mut CaptureSession,
    ) -> Result<FrameOutcome>;

    /// Delivers the remaining observations and counts.
    fn finish(&mut self, session: &mut CaptureSession) -> Result<()>;

    /// The frames that were not counted, and notes with the reasons.
    fn left_out(&self) -> (Amount, Vec<String>) {
        (Amount::default(), Vec::new())
    }
}

/// The session of a capture.
type CaptureSession = Session<CaptureScope>;

/// The result of counting a frame.
struct FrameOutcome {
    seen: Observation,
    fate: FrameFate,
}

/// What an engine did with a frame.
enum FrameFate {
    /// It was counted in user space.
    Counted,
    /// It was given to the kernel, which reports its observations when it is polled.
    GivenToKernel,
    /// It could not be given to the kernel.
    LeftOut,
}

/// Counts every frame of a capture. If the file is damaged, the frames before the damage are
/// counted.
pub fn replay(capture: &mut Capture, plan: &ReplayPlan, observer: &mut impl ReplayObserver) -> Result<Replayed> {
    if plan.by_kernel {
        let engine = KernelEngine::new(plan)?;
        return with(engine, capture, plan, observer);
    }
    let engine =
        InMemoryEngine { host: HostMeter::new(plan.max_flows as usize, plan.idle_timeout), local: plan.local.clone() };
    with(engine, capture, plan, observer)
}

/// Number of frames between two calls of [`ReplayObserver::progress`].
const PROGRESS_INTERVAL: u64 = 4096;

fn with(
    mut engine: impl ReplayEngine,
    capture: &mut Capture,
    plan: &ReplayPlan,
    observer: &mut impl ReplayObserver,
) -> Result<Replayed> {
    let mut session = Session::new(CaptureScope::default(), session_config(plan));
    let mut tally = CaptureTally::new(&plan.local);
    let mut processes = CommentedProcesses::default();
    let mut filter = FrameFilter::new(plan.filter.as_ref());
    let mut missing = 0_u64;
    let end = capture.each(|frame| {
        missing = missing.saturating_add(frame.lost_before);
        if !filter.accepts(frame)? {
            return Ok(());
        }
        let linked = frame.linked();
        let stated = frame.is_egress().map(|is_egress| if is_egress { Hook::FromTarget } else { Hook::ToTarget });
        let outcome = engine.count(&linked, stated, frame.time_ns, &mut session)?;
        tally.add(frame, &linked, &outcome.seen);
        match outcome.fate {
            FrameFate::Counted => {
                let counted = CountedFrame { seen: &outcome.seen, frame: &linked };
                if let Some(quoted) = counted.icmp_error(frame.time_ns) {
                    session.observe(Observed::IcmpError(quoted));
                }
                if let Some(sample) = name_sample_from_capture(&counted, frame.time_ns) {
                    session.observe(Observed::Name(sample));
                }
                if let Some(flow) = counted.flow() {
                    let flow = CaptureScope::default().orient_key(flow);
                    processes.observe(&mut session, flow, &frame.comments, frame.time_ns);
                }
                observer.counted(&counted);
                observer.frame(frame, &FrameFacts::of(&counted, stated, &session))?;
            }
            FrameFate::GivenToKernel => {}
            FrameFate::LeftOut => observer.left_out(frame),
        }
        if tally.frames.skbs.is_multiple_of(PROGRESS_INTERVAL) {
            observer.progress(frame.offset);
        }
        Ok(())
    })?;
    engine.finish(&mut session)?;
    let (left_out, notes) = engine.left_out();
    let own = filter.note().into_iter().chain(processes.note());
    notes.into_iter().chain(tally.notes()).chain(own).for_each(|note| session.note(note));
    session.scope.replay = Some(report::Replay {
        file: capture.name().to_owned(),
        format: capture.format().name(),
        by_kernel: plan.by_kernel,
        local: plan.local.names(),
        left_out,
        // Packets and the statistics of an interface may state the same losses.
        missing: missing.max(capture.dropped()),
        ended_early: ended_early(&end),
        ..tally.facts()
    });
    let mut report = session.conclude(0, None, None);
    if let Some(resolve) = plan.resolve {
        session.resolve(resolve(report.unnamed_addresses().collect()));
        report = session.final_report();
    }
    Ok(Replayed { report, end })
}

fn session_config(plan: &ReplayPlan) -> SessionConfig {
    SessionConfig { idle_timeout: plan.idle_timeout, ..SessionConfig::default() }
}

fn ended_early(end: &CaptureEnd) -> Option<report::EndedEarly> {
    match end {
        CaptureEnd::Whole => None,
        CaptureEnd::Broken(broken) => Some(report::EndedEarly { offset: broken.offset, cause: broken.cause.clone() }),
        CaptureEnd::Stopped { offset } => {
            Some(report::EndedEarly { offset: *offset, cause: "stopped by a signal".to_owned() })
        }
    }
}

/// The engine in user space.
struct InMemoryEngine {
    host: HostMeter,
    local: LocalAddresses,
}

impl ReplayEngine for InMemoryEngine {
    #[inline]
    fn count(
        &mut self,
        frame: &Linked<'_>,
        stated: Option<Hook>,
        time_ns: u64,
        session: &mut CaptureSession,
    ) -> Result<FrameOutcome> {
        let hook = |packet: &_| self.local.hook_or(stated, packet);
        let seen = self.host.count(frame, hook, time_ns, &mut |increment| session.apply(increment));
        Ok(FrameOutcome { seen, fate: FrameFate::Counted })
    }

    fn finish(&mut self, session: &mut CaptureSession) -> Result<()> {
        drain(&mut self.host, session, |increment| increment)
    }
}

/// Drains a meter completely. `correct` changes each increment before the session processes it.
fn drain(
    meter: &mut dyn Meter,
    session: &mut CaptureSession,
    mut correct: impl FnMut(Increment) -> Increment,
) -> Result<()> {
    let mut progress = DrainProgress::last();
    while meter.drain_part(&mut progress, &mut |increment| session.apply(correct(increment)))? {}
    session.set_losses(meter.losses()?);
    Ok(())
}
