//! What a session meters, and the facts of a report that depend on it. To meter something else,
//! implement [`Scope`]; the session does not change.

use crate::flow::{FlowKey, Increment, InterfaceCounters, ObservationPoint, Traffic};
use crate::name::NameLimits;
use crate::report::{DnsForwarder, EndedBy, ExitStatus, Interface, Replay, Run};

/// The target of a session and its surroundings.
pub trait Scope {
    /// The facts of a report at this moment.
    fn facts(&self, moment: &Moment) -> ScopeFacts;

    /// Rewrites what the meter counted into the view of the target.
    fn orient(&self, increment: Increment) -> Increment {
        increment
    }

    /// The same for the key of a flow.
    fn orient_key(&self, key: FlowKey) -> FlowKey {
        key
    }

    /// How much is kept of names.
    fn name_limits(&self) -> NameLimits {
        NameLimits::default()
    }
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// The start of the session, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Its duration so far, nanoseconds of a monotonic clock.
    pub duration_ns: u64,
    /// How the target ended, if it has.
    pub ending: Option<(ExitStatus, EndedBy)>,
    /// Counters of the interface that is metered, if there are any.
    pub interface_counters: Option<InterfaceCounters>,
    /// The session ended, and everything was drained.
    pub is_final: bool,
}

impl Moment {
    /// Now, nanoseconds since the Unix epoch: start plus duration, so that it is
    /// monotonic.
    pub fn now_ns(&self) -> u64 {
        self.started_ns.saturating_add(self.duration_ns)
    }
}

/// What a scope contributes to a report.
#[derive(Debug, Clone, Default)]
pub struct ScopeFacts {
    /// The run.
    pub run: Run,
    /// The interface.
    pub interface: Interface,
    /// The resolvers that DNS queries are forwarded to.
    pub dns: DnsForwarder,
    /// The capture, if one is replayed.
    pub replay: Option<Replay>,
}

/// A command in a network namespace of its own.
#[derive(Debug, Clone)]
pub struct IsolatedScope {
    /// The run, without duration and exit.
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
            ..self.run.clone()
        };
        ScopeFacts { run, interface: self.interface.clone(), dns: self.dns.clone(), replay: None }
    }
}

/// A capture file: no target runs, and every packet was seen on a link.
#[derive(Debug, Clone, Default)]
pub struct CaptureScope {
    /// What is known of the file; set when it has been read.
    pub replay: Option<Replay>,
}

impl Scope for CaptureScope {
    fn facts(&self, _moment: &Moment) -> ScopeFacts {
        ScopeFacts { replay: self.replay.clone(), ..ScopeFacts::default() }
    }

    /// Where neither end is known to be the target's, packets are counted as on a loopback, whose
    /// ends are both the target's: the end that opened the flow becomes the local one. But it is
    /// a link that was captured.
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
