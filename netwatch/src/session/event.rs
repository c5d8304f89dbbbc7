//! What consumers receive from a session: plain data, in the order in which it happened.

use std::sync::Arc;

use crate::flow::{
    Counters, EndReason, Endpoint, Flow, FlowId, FoldedCounts, ObservationLosses, ObservationPoint, PerDirection,
    Remainders,
};
use crate::name::{self, Lookup};
use crate::process::{self, LocalCalls, Process, ProcessNumber, Usage};
use crate::report::{self, DnsForwarder, FlowNaming, Interface, Report, Run, Series};

/// Something that happened in a session.
#[derive(Debug, Clone)]
pub enum Event {
    /// The session begins: the target runs from now on.
    Started(Arc<Started>),
    /// The first packets of a flow were drained.
    FlowOpened(Arc<FlowRecord>),
    /// A live flow carried more packets; the record as it is now. Growth is coalesced: a consumer
    /// that has no room receives the newest record later.
    FlowGrew(Arc<FlowRecord>),
    /// A flow ended. The record is complete; should packets of it follow all the same, it grows
    /// again under the same id.
    FlowEnded(Arc<FlowRecord>, EndReason),
    /// A process used a flow for the first time. It precedes the first record that refers to it.
    UsedBy(Arc<ProcessRecord>),
    /// A DNS lookup, as it is now, and its place among all lookups of the session.
    DnsExchange(u64, Arc<Lookup>),
    /// Observations were missed since the last interval: how many, and which.
    Lost(&'static str, u64),
    /// A sentence for the report.
    Note(Arc<str>),
    /// Totals at the end of an interval.
    Interval(Arc<IntervalTotals>),
    /// The session ended.
    Finished(Arc<Finished>),
}

/// The kinds of events, so that a consumer can name those that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventKinds(u16);

impl EventKinds {
    /// No events.
    pub const NONE: Self = Self(0);
    /// [`Event::Started`] and [`Event::Finished`].
    pub const SESSION: Self = Self(1 << 0);
    /// [`Event::FlowOpened`].
    pub const FLOW_OPENED: Self = Self(1 << 1);
    /// [`Event::FlowGrew`].
    pub const FLOW_GREW: Self = Self(1 << 2);
    /// [`Event::FlowEnded`].
    pub const FLOW_ENDED: Self = Self(1 << 3);
    /// [`Event::UsedBy`].
    pub const USED_BY: Self = Self(1 << 4);
    /// [`Event::DnsExchange`].
    pub const DNS_EXCHANGE: Self = Self(1 << 5);
    /// [`Event::Lost`].
    pub const LOST: Self = Self(1 << 6);
    /// [`Event::Note`].
    pub const NOTE: Self = Self(1 << 7);
    /// [`Event::Interval`].
    pub const INTERVAL: Self = Self(1 << 8);
    /// Every kind.
    pub const ALL: Self = Self((1 << 9) - 1);

    /// The kinds of either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any kind of `other` is among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Event {
    /// The kind of this event.
    pub fn kind(&self) -> EventKinds {
        match self {
            Self::Started(_) | Self::Finished(_) => EventKinds::SESSION,
            Self::FlowOpened(_) => EventKinds::FLOW_OPENED,
            Self::FlowGrew(_) => EventKinds::FLOW_GREW,
            Self::FlowEnded(..) => EventKinds::FLOW_ENDED,
            Self::UsedBy(_) => EventKinds::USED_BY,
            Self::DnsExchange(..) => EventKinds::DNS_EXCHANGE,
            Self::Lost(..) => EventKinds::LOST,
            Self::Note(_) => EventKinds::NOTE,
            Self::Interval(_) => EventKinds::INTERVAL,
        }
    }
}

/// The beginning of a session.
#[derive(Debug, Clone)]
pub struct Started {
    /// The run; duration and exit are not known yet.
    pub run: Run,
    /// The interface that is metered.
    pub interface: Interface,
}

/// A flow and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowRecord {
    /// What was counted.
    pub flow: Flow,
    /// Names and protocol; `None` if nothing is known.
    pub naming: Option<Box<FlowNaming>>,
    /// The processes that used it, the most certain first.
    pub usages: Vec<Usage>,
}

impl FlowRecord {
    /// The identity of the flow.
    pub fn id(&self) -> FlowId {
        self.flow.id()
    }
}

/// A process of the session.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessRecord {
    /// The process; [`Process::number`] identifies it in the session. [`Process::parent`] is
    /// `None` here, because it refers to the list of a report.
    pub process: Process,
    /// The number of its parent, if that is a process of the session.
    pub parent: Option<ProcessNumber>,
}

/// Totals at the end of an interval, as far as they take constant time to collect.
#[derive(Debug, Clone)]
pub struct IntervalTotals {
    /// The end of the interval, nanoseconds since the Unix epoch.
    pub end_ns: u64,
    /// The run so far.
    pub run: Run,
    /// The interface that is metered.
    pub interface: Interface,
    /// The resolvers that DNS queries are forwarded to.
    pub dns: DnsForwarder,
    /// The whole series from the first step on that changed in this interval.
    pub steps: SeriesTail,
    /// What the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// Everything on the loopback.
    pub loopback: PerDirection<Counters>,
    /// What belongs to no flow of the link.
    pub remainders: Remainders,
    /// Flows that were never tracked individually: there is no record of them.
    pub untracked: FoldedCounts,
    /// Their endpoints; `None` if they are as they were in the interval before.
    pub untracked_endpoints: Option<Vec<(ObservationPoint, Endpoint)>>,
    /// Whether processes were looked for.
    pub attribution: process::Attribution,
    /// Failed calls and local sockets; `None` if they are as they were.
    pub calls: Option<LocalCalls>,
    /// Observations that were missed so far.
    pub losses: SessionLosses,
    /// All notes so far; `None` if there is no new one.
    pub notes: Option<Vec<String>>,
    /// Flows with changes that this consumer has not received, at most.
    pub waiting: u64,
}

/// Observations that were missed, by who missed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLosses {
    /// By the meter.
    pub meter: ObservationLosses,
    /// By the meter's view of processes.
    pub processes: process::ProcessLosses,
    /// Names.
    pub names: name::NamesLost,
}

/// The part of a series that replaces all steps from its first one on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesTail {
    /// Steps that begin here or later are replaced, nanoseconds since the Unix epoch; `None` if
    /// nothing changed.
    pub from_ns: Option<u64>,
    /// The steps that replace them.
    pub steps: Vec<report::Interval>,
}

/// The end of a session.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The report. Flows that were evicted before are folded in it.
    pub report: Arc<Report>,
    /// Traffic over time.
    pub series: Series,
    /// Flows that were never tracked individually.
    pub untracked: FoldedCounts,
    /// Their endpoints.
    pub untracked_endpoints: Vec<(ObservationPoint, Endpoint)>,
}
