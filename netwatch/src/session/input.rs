//! Inputs of a session: its configuration, and what a meter delivers in addition to counts.

use std::time::Duration;

use crate::flow::{DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_FLOWS, FlowKey, ObservationLosses, QuotedError};
use crate::name::{Hosts, NameSample};
use crate::process::{self, Attribution, SystemView};

/// Limits and initial data of a session.
#[derive(Debug)]
pub struct SessionConfig {
    /// Maximum number of flows that are tracked individually: live flows and the most recent ended
    /// ones.
    pub max_flows: usize,
    /// A packet after a pause of this length opens another flow, except for TCP.
    pub idle_timeout: Duration,
    /// The hosts file of the target.
    pub hosts: Hosts,
    /// Whether flows are attributed to processes.
    pub attribution: Attribution,
    /// The cookies of the network namespaces of the target, as far as known.
    pub netns: Vec<u64>,
    /// The meter reports processes that have nothing to do with the target, too.
    pub has_strangers: bool,
    /// A flow of which nothing else is known belongs to the command, or to the first process.
    pub has_command: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_flows: DEFAULT_MAX_FLOWS,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            hosts: Hosts::default(),
            attribution: Attribution::Absent,
            netns: Vec::new(),
            has_strangers: false,
            has_command: true,
        }
    }
}

/// An observation of a meter.
pub enum Observed<'a> {
    /// The socket of a packet of a flow.
    Socket {
        /// The flow.
        flow: FlowKey,
        /// The cookie of the socket.
        cookie: u64,
    },
    /// A TCP connection began, or continues after the meter forgot it.
    Begun {
        /// The flow.
        flow: FlowKey,
        /// Time of its first packet, nanoseconds since the Unix epoch.
        time_ns: u64,
    },
    /// The head of a packet that may contain a name.
    Name(NameSample<'a>),
    /// An ICMP error that quotes a packet of a flow.
    IcmpError(QuotedError),
    /// A process or socket event, with access to the current state of the system.
    Process(process::ProcessEvent, &'a mut dyn SystemView),
}

/// Losses of a meter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeterLosses {
    /// Observations of packets.
    pub meter: ObservationLosses,
    /// Process events, as far as the meter counts them.
    pub processes: process::ProcessLosses,
}
