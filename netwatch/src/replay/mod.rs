//! A capture counted as a run would have been: by the same parser and the same rules of accounting in plain memory, or by the classifier in
//! the kernel. Not how the report looks, nor what was typed.

mod ethernet;
mod inject;
mod kernel;
mod local;
mod tally;

pub use local::Local;

use std::net::IpAddr;

use netwatch_common::observation::Observation;
use netwatch_common::parse::Linked;

use crate::capture::{Capture, CaptureEnd, CapturedFrame};
use crate::error::Result;
use crate::flow::{self, Amount, FlowTable, Increment, Lost, ObservationPoint, Traffic};
use crate::meter::host::{CountedFrame, HostMeter};
use crate::meter::name_sample_from_capture;
use crate::name::{Hosts, NameLimits, NameSample, Names};
use crate::process::{FlowUsers, Processes};
use crate::report::{self, Facts, Report};
use crate::wire::Name;
use kernel::Kernel;
use tally::Tally;

/// How to replay.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose traffic it is.
    pub local: Local,
    /// By the classifier in the kernel.
    pub by_kernel: bool,
    /// Flows counted one by one; packets of further ones are counted by protocol.
    pub max_flows: u32,
    /// How to ask for names of addresses that have none, if they are wanted.
    pub resolve: Option<Resolve>,
}

/// Looks names of addresses up.
pub type Resolve = fn(Vec<IpAddr>) -> Vec<(IpAddr, Name)>;

/// What came of it.
#[derive(Debug)]
pub struct Replayed {
    /// What was counted.
    pub report: Report,
    /// How far the file could be read.
    pub end: CaptureEnd,
}

/// Who looks on while a capture is replayed.
pub trait Observer {
    /// A packet was counted. Called by the host's engine only: the kernel's keeps its packets.
    fn counted(&mut self, _packet: &CountedFrame<'_>) {}

    /// A frame could not be handed to the kernel.
    fn left_out(&mut self, _frame: &CapturedFrame<'_>) {}

    /// So far has the file been read, bytes. Called now and then.
    fn progress(&mut self, _offset: u64) {}
}

/// Nobody does.
impl Observer for () {}

/// What counts frames.
trait Engine {
    /// Counts a frame, and says what its headers said.
    fn count(&mut self, frame: &Linked<'_>, time_ns: u64, learned: &mut Learned) -> Result<Outcome>;

    /// Hands over everything, and says what could not be observed.
    fn finish(&mut self, learned: &mut Learned) -> Result<Lost>;

    /// What was not counted, and why.
    fn left_out(&self) -> (Amount, Vec<String>) {
        (Amount::default(), Vec::new())
    }
}

/// What a capture has taught so far.
struct Learned {
    table: FlowTable,
    names: Names,
}

impl Learned {
    /// Learns names from a packet, which was seen on the link.
    fn hear(&mut self, sample: Option<NameSample<'_>>) {
        if let Some(sample) = sample {
            let flow = flow::FlowKey { scope: ObservationPoint::Link, ..sample.flow };
            self.names.observe(&NameSample { flow, ..sample });
        }
    }
}

/// What became of a frame.
struct Outcome {
    seen: Observation,
    fate: Fate,
}

/// Where a frame went.
enum Fate {
    /// It was counted here.
    Counted,
    /// The kernel has it, and says what it learned from it in its own way.
    HandedOver,
    /// It could not be handed to the kernel.
    LeftOut,
}

/// Counts every frame of a capture. What was read before a broken place is counted all the same.
pub fn replay(capture: &mut Capture, plan: &Plan, observer: &mut impl Observer) -> Result<Replayed> {
    if plan.by_kernel {
        let engine = Kernel::new(plan)?;
        return with(engine, capture, plan, observer);
    }
    let engine = InMemory { host: HostMeter::new(plan.max_flows as usize), local: plan.local.clone() };
    with(engine, capture, plan, observer)
}

/// Frames between two calls of [`Observer::progress`].
const PROGRESS: u64 = 4096;

fn with(mut engine: impl Engine, capture: &mut Capture, plan: &Plan, observer: &mut impl Observer) -> Result<Replayed> {
    let names = Names::new(NameLimits::replay(), Hosts::default());
    let mut learned = Learned { table: FlowTable::default(), names };
    let mut tally = Tally::new(&plan.local);
    let end = capture.each(|frame| {
        let linked = frame.linked();
        let outcome = engine.count(&linked, frame.time_ns, &mut learned)?;
        tally.add(frame, &linked, &outcome.seen);
        match outcome.fate {
            Fate::Counted => {
                let counted = CountedFrame { seen: &outcome.seen, frame: &linked };
                note_icmp_error(&mut learned.table, counted.icmp_error());
                learned.hear(name_sample_from_capture(&counted, frame.time_ns));
                observer.counted(&counted);
            }
            Fate::HandedOver => {}
            Fate::LeftOut => observer.left_out(frame),
        }
        if tally.frames.skbs.is_multiple_of(PROGRESS) {
            observer.progress(frame.offset);
        }
        Ok(())
    })?;
    let lost = engine.finish(&mut learned)?;
    learned.names.finish();
    let (left_out, mut notes) = engine.left_out();
    notes.extend(tally.notes());
    let replay = report::Replay {
        file: capture.name().to_owned(),
        format: capture.format().name(),
        by_kernel: plan.by_kernel,
        local: plan.local.names(),
        left_out,
        ended_early: ended_early(&end),
        ..tally.facts()
    };
    let facts = Facts { complete: true, lost, notes, replay: Some(replay), ..nothing_ran() };
    let report = |facts, names: &Names| Report::new(facts, &learned.table, names, &FlowUsers::default());
    let mut said = report(facts.clone(), &learned.names);
    if let Some(resolve) = plan.resolve {
        learned.names.resolve(resolve(said.unnamed_addresses().collect()));
        said = report(facts, &learned.names);
    }
    Ok(Replayed { report: said, end })
}

fn nothing_ran() -> Facts {
    Facts {
        run: report::Run::default(),
        interface: report::Interface::default(),
        dns: report::DnsForwarder::default(),
        interface_counters: None,
        complete: true,
        lost: Lost::default(),
        processes: Processes::default(),
        attempts: Vec::new(),
        notes: Vec::new(),
        replay: None,
    }
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

/// The host's engine.
struct InMemory {
    host: HostMeter,
    local: Local,
}

impl Engine for InMemory {
    #[inline]
    fn count(&mut self, frame: &Linked<'_>, time_ns: u64, learned: &mut Learned) -> Result<Outcome> {
        let table = &mut learned.table;
        let hook = |packet: &_| self.local.hook(packet);
        let seen = self.host.count(frame, hook, time_ns, &mut |increment| drop(table.apply(on_the_link(increment))));
        Ok(Outcome { seen, fate: Fate::Counted })
    }

    fn finish(&mut self, learned: &mut Learned) -> Result<Lost> {
        self.host.drain(&mut |increment| drop(learned.table.apply(on_the_link(increment))));
        Ok(self.host.lost())
    }
}

/// Where neither end is known to be the target's, packets are counted as a loopback's are, whose two ends are the target's both: the end
/// that opened the flow becomes the local one. But it is a link that was captured.
pub fn on_the_link(increment: Increment) -> Increment {
    let traffic = match increment.traffic {
        Traffic::Flow(key) => Traffic::Flow(flow::FlowKey { scope: ObservationPoint::Link, ..key }),
        other => other,
    };
    Increment { traffic, scope: ObservationPoint::Link, ..increment }
}

/// An ICMP error that was seen on the link says that a flow's packet did not arrive.
pub fn note_icmp_error(table: &mut FlowTable, quoted: Option<flow::Quoted>) {
    if let Some(quoted) = quoted {
        table.note_icmp_error(flow::Quoted {
            flow: flow::FlowKey { scope: ObservationPoint::Link, ..quoted.flow },
            ..quoted
        });
    }
}
