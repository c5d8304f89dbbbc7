//! The events that consumers receive from a session: plain data in order of occurrence.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::flow::{
    Counters, EndReason, Endpoint, Flow, FlowActivity, FlowId, FoldedCounts, ObservationLosses, ObservationPoint,
    PerDirection, Protocol, Remainders,
};
use crate::name::{self, Lookup};
use crate::process::{self, Attempt, LocalSocket, Process, ProcessNumber, Usages};
use crate::report::{self, DnsForwarder, FlowNaming, Interface, Report, ResourceUsage, Run, ServiceActivity};

/// An event of a session.
#[derive(Debug, Clone)]
pub enum Event {
    /// The session started: the target runs.
    Started(Arc<Started>),
    /// The first packets of a flow were drained.
    FlowOpened(Arc<FlowRecord>),
    /// A flow grew; contains its current record. Growth is coalesced: a consumer without room
    /// receives the newest record later.
    FlowGrew(Arc<FlowRecord>),
    /// A flow ended; contains its complete record. If more packets arrive after that, it grows
    /// again under the same id: a consumer that does not want [`Event::FlowGrew`] receives the end
    /// again, or one [`Event::FlowGrew`] if the flow is live again. A flow that is live at the end
    /// of the session ends with [`EndReason::ForcedEnd`], and [`Flow::ended`] stays `None` in its
    /// record. There are no events of flows that are not tracked individually.
    FlowEnded(Arc<FlowRecord>, EndReason),
    /// A process used a flow for the first time, or a call of it failed. Precedes the first record
    /// or attempt that refers to it.
    UsedBy(Arc<ProcessRecord>),
    /// A DNS lookup was added or changed; contains its number in the session and its current state.
    DnsExchange(u64, Arc<Lookup>),
    /// Failed attempts were added, or their counts changed; contains all so far, without those that
    /// only packets show. Processes are named by their number.
    Attempts(Arc<[Attempt]>),
    /// Local sockets were added, or their counts changed; contains all so far.
    LocalSockets(Arc<[LocalSocket]>),
    /// Observations were lost since the last interval: the reason and the number.
    Lost(&'static str, u64),
    /// A note was added to the report.
    Note(Arc<str>),
    /// An interval ended; contains the totals so far.
    Interval(Arc<IntervalTotals>),
    /// An interval ended; contains a few numbers of the session so far.
    Status(SessionStatus),
    /// The session finished.
    Finished(Arc<Finished>),
}

/// A set of kinds of events, with which a consumer selects the events that it wants.
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
    /// [`Event::Attempts`].
    pub const ATTEMPTS: Self = Self(1 << 9);
    /// [`Event::LocalSockets`].
    pub const LOCAL_SOCKETS: Self = Self(1 << 10);
    /// [`Event::Status`].
    pub const STATUS: Self = Self(1 << 11);
    /// No event: the consumer folds the flows of [`Missed`](super::Missed), so that it misses
    /// nothing with them.
    pub const FOLDS_MISSED: Self = Self(1 << 12);
    /// Every kind except [`EventKinds::STATUS`], which repeats what others contain.
    pub const ALL: Self = Self((1 << 11) - 1);

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether both sets have a kind in common.
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
            Self::Attempts(_) => EventKinds::ATTEMPTS,
            Self::LocalSockets(_) => EventKinds::LOCAL_SOCKETS,
            Self::DnsExchange(..) => EventKinds::DNS_EXCHANGE,
            Self::Lost(..) => EventKinds::LOST,
            Self::Note(_) => EventKinds::NOTE,
            Self::Interval(_) => EventKinds::INTERVAL,
            Self::Status(_) => EventKinds::STATUS,
        }
    }
}

/// The start of a session.
#[derive(Debug, Clone)]
pub struct Started {
    /// The run, without duration and exit status.
    pub run: Run,
    /// The interface that is metered.
    pub interface: Interface,
}

/// A flow with its names and processes.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowRecord {
    /// The flow and its counts.
    pub flow: Flow,
    /// Names and application protocol; `None` if none were found. Shared with the session.
    pub naming: Option<Arc<FlowNaming>>,
    /// The processes that used the flow, the one with the strongest evidence first.
    pub usages: Usages,
}

impl FlowRecord {
    /// The id of the flow.
    pub fn id(&self) -> FlowId {
        self.flow.id()
    }
}

/// A process of the session.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessRecord {
    /// The process. [`Process::number`] identifies it in the session. [`Process::parent`] is `None`
    /// because it is an index into the list of a report.
    pub process: Process,
    /// The number of its parent, if the parent is a process of the session.
    pub parent: Option<ProcessNumber>,
}

/// Totals at the end of an interval. Only totals that are collected in constant time.
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
    /// The part of the series that changed.
    pub series: SeriesTail,
    /// Counts of what the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// Counts of all packets on the loopback.
    pub loopback: PerDirection<Counters>,
    /// The remainders of the link.
    pub remainders: Remainders,
    /// The flows that were never tracked individually. There are no records of them.
    pub untracked: FoldedCounts,
    /// The endpoints of these flows; `None` if they did not change since the last interval.
    pub untracked_endpoints: Option<Vec<(ObservationPoint, Endpoint)>>,
    /// Whether flows are attributed to processes.
    pub attribution: process::Attribution,
    /// Exchanges and peaks of the services of the target so far, by protocol and local port.
    pub activity: BTreeMap<(Protocol, u16), ServiceActivity>,
    /// Observations that were lost so far.
    pub losses: SessionLosses,
    /// All notes so far; `None` if there is no new one.
    pub notes: Option<Vec<String>>,
    /// Upper bound of the number of flows with changes that this consumer has not received.
    pub waiting: u64,
    /// Events and flows that this consumer missed because it was too slow.
    pub missed: u64,
    /// How long drains took so far.
    pub drains: DrainTimes,
}

/// How often the counters of the meter were drained, and how long that took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainTimes {
    /// Number of drains.
    pub count: u64,
    /// Sum of the times, nanoseconds.
    pub sum_ns: u64,
}

/// A few numbers of a session so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus {
    /// The time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The duration of the session so far, nanoseconds.
    pub duration_ns: u64,
    /// Numbers of flows on the link.
    pub flows: FlowActivity,
    /// Failures, as the report counts them: attempts of the target on remotes, and its lookups.
    pub failures: u64,
    /// The attempts among them that packets show and that no late answer takes back.
    pub failed_for_good: u64,
    /// The lookups among them that were answered with an error.
    pub lookups_with_error: u64,
    /// Counts of what the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// Observations that were lost.
    pub lost: u64,
    /// What the target used so far; `None` if unknown.
    pub usage: Option<ResourceUsage>,
    /// Current memory of the target, bytes; `None` if unknown.
    pub memory: Option<u64>,
}

/// Lost observations, by the component that lost them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLosses {
    /// Observations of packets.
    pub meter: ObservationLosses,
    /// Observations of processes and sockets.
    pub processes: process::ProcessLosses,
    /// Names and DNS lookups.
    pub names: name::NamesLost,
    /// Names, processes, failed attempts and addresses of folded flows that exceeded the limits.
    pub folded: u64,
}

/// The last part of a series. It replaces all intervals from its start on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesTail {
    /// The start, nanoseconds since the Unix epoch; `None` if nothing changed.
    pub from_ns: Option<u64>,
    /// The intervals that begin there or later.
    pub intervals: Vec<report::Interval>,
}

/// The end of a session.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The final report. Flows that were evicted are folded in it.
    pub report: Arc<Report>,
    /// The flows that were never tracked individually.
    pub untracked: FoldedCounts,
    /// The endpoints of these flows.
    pub untracked_endpoints: Vec<(ObservationPoint, Endpoint)>,
    /// Observations that were lost.
    pub losses: SessionLosses,
}
