//! The scope of a session: what is metered, as far as the session depends on it. A new kind of
//! target is a new implementation of [`Scope`].

use crate::flow::{FlowKey, Increment, InterfaceCounters, ObservationPoint, QuotedError, Traffic};
use crate::name::{NameLimits, NameSample};
use crate::report::{DnsForwarder, EndedBy, ExitStatus, Interface, Replay, ResourceUsage, Run};

/// What a session meters.
pub trait Scope {
    /// The facts of a report at this moment.
    fn facts(&self, moment: &Moment) -> ScopeFacts;

    /// Converts an increment of the meter to the view of the target.
    fn orient(&self, increment: Increment) -> Increment {
        increment
    }

    /// Converts a flow key of the meter to the view of the target.
    fn orient_key(&self, key: FlowKey) -> FlowKey {
        key
    }

    /// Converts the head of a packet that may contain a name to the view of the target.
    fn orient_name<'a>(&self, sample: NameSample<'a>) -> NameSample<'a> {
        NameSample { flow: self.orient_key(sample.flow), ..sample }
    }

    /// Converts an ICMP error to the view of the target.
    fn orient_icmp_error(&self, quoted: QuotedError) -> QuotedError {
        QuotedError { flow: self.orient_key(quoted.flow), ..quoted }
    }

    /// Limits of the stored names.
    fn name_limits(&self) -> NameLimits {
        NameLimits::default()
    }
}

/// The progress of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// The start of the session, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The duration so far, nanoseconds, by a clock that is not stepped.
    pub duration_ns: u64,
    /// How the target ended; `None` while it runs.
    pub ending: Option<(ExitStatus, EndedBy)>,
    /// CPU and memory of the target so far; `None` if unknown.
    pub usage: Option<ResourceUsage>,
    /// Counters of the interface that is metered, if it has any.
    pub interface_counters: Option<InterfaceCounters>,
    /// The target has ended and everything was drained.
    pub is_final: bool,
}

impl Moment {
    /// The current time, nanoseconds since the Unix epoch. It is the start plus the duration, so
    /// changes of the system clock during the session have no effect.
    pub fn now_ns(&self) -> u64 {
        self.started_ns.saturating_add(self.duration_ns)
    }
}

/// Facts about the target, for a report.
#[derive(Debug, Clone, Default)]
pub struct ScopeFacts {
    /// The run.
    pub run: Run,
    /// The interface.
    pub interface: Interface,
    /// The resolvers that DNS queries are forwarded to.
    pub dns: DnsForwarder,
    /// The replayed capture, if any.
    pub replay: Option<Replay>,
}

/// A command in its own network namespace.
#[derive(Debug, Clone)]
pub struct IsolatedScope {
    /// The run, without duration and exit status.
    pub run: Run,
    /// The interface.
    pub interface: Interface,
    /// The resolvers that DNS queries are forwarded to.
    pub dns: DnsForwarder,
}

impl Scope for IsolatedScope {
    fn facts(&self, moment: &Moment) -> ScopeFacts {
        let run = Run {
            started_ns: moment.started_ns,
            duration_ns: moment.duration_ns,
            exit: moment.ending.map(|(exit, _)| exit),
            ended_by: moment.ending.map(|(_, ended_by)| ended_by),
            usage: moment.usage,
            ..self.run.clone()
        };
        ScopeFacts { run, interface: self.interface.clone(), dns: self.dns.clone(), replay: None }
    }
}

/// A capture file. No target runs, and all packets were captured on a link.
#[derive(Debug, Clone, Default)]
pub struct CaptureScope {
    /// Facts about the file; set when it has been read.
    pub replay: Option<Replay>,
}

impl Scope for CaptureScope {
    fn facts(&self, _moment: &Moment) -> ScopeFacts {
        ScopeFacts { replay: self.replay.clone(), ..ScopeFacts::default() }
    }

    /// If no end is known to be the target, the meter counts packets as on a loopback, where both
    /// ends are the target and the end that opened the flow becomes the local one. The packets were
    /// captured on a link, so the observation point is the link.
    fn orient(&self, increment: Increment) -> Increment {
        let traffic = match increment.traffic {
            Traffic::Flow(key) => Traffic::Flow(self.orient_key(key)),
            other => other,
        };
        Increment { traffic, point: ObservationPoint::Link, ..increment }
    }

    fn orient_key(&self, key: FlowKey) -> FlowKey {
        FlowKey { point: ObservationPoint::Link, ..key }
    }

    fn name_limits(&self) -> NameLimits {
        NameLimits::replay()
    }
}
