//! What a run hands over to be written while it goes on.

use std::sync::Arc;

use crate::flow::{Counters, Endpoint, Folded, ObservationPoint, PerDirection, Remainders};
use crate::name::{Lookup, NamesLost};
use crate::process::FlowUsers;
use crate::report::{Facts, Interval, Report, ReportFlow, Series};

/// What has changed since the batch before.
#[derive(Debug, Default)]
pub struct Batch {
    /// Up to when, nanoseconds since the Unix epoch.
    pub until_ns: u64,
    /// Flows that have changed.
    pub flows: Vec<ReportFlow>,
    /// Flows that have changed and are not among them.
    pub waiting: u64,
    /// Traffic over time, from where it changed on.
    pub steps: Steps,
    /// Everything else; large things are not always among it.
    pub rest: Option<Box<Rest>>,
}

/// The steps that take the place of those from the first one's start on.
#[derive(Debug, Default)]
pub struct Steps {
    /// Steps that begin here or later are replaced, nanoseconds since the Unix epoch.
    pub from_ns: Option<u64>,
    /// By these.
    pub steps: Vec<Interval>,
}

/// Everything but flows and steps, in place of what was there.
#[derive(Debug)]
pub struct Rest {
    /// What is known beside the table.
    pub facts: Facts,
    /// Who used which flow.
    pub users: FlowUsers,
    /// Everything on the loopback.
    pub loopback: PerDirection<Counters>,
    /// What the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// What belongs to no flow of the link.
    pub remainders: Remainders,
    /// How much was folded.
    pub folded: Folded,
    /// The parts of endpoints that are flows without an entry of their own.
    pub folded_endpoints: Vec<(ObservationPoint, Endpoint)>,
    /// Questions of DNS.
    pub lookups: Vec<Lookup>,
    /// What could not be kept of names.
    pub names_lost: NamesLost,
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Last {
    pub report: Arc<Report>,
    pub series: Series,
}
