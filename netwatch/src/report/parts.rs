//! The report of a run that was never concluded, from what was kept of it while it went on.

use super::{Facts, KnownFlow, Loopback, Report, attempts, hints, naming};
use crate::flow::{Balance, Endpoint, Flow, FlowTable, Folded, ObservationPoint, Remainders};
use crate::name::{Hosts, Limits, Lookup, Lost, Names};
use crate::process::Users;

/// What was kept.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What was known beside the table.
    pub facts: Facts,
    /// Flows of both scopes, with their names and processes, in any order.
    pub flows: Vec<KnownFlow>,
    /// The parts of endpoints that are flows without an entry of their own.
    pub folded_endpoints: Vec<(ObservationPoint, Endpoint)>,
    /// How much was folded.
    pub folded: Folded,
    /// What belongs to no flow of the link.
    pub remainders: Remainders,
    /// Questions of DNS.
    pub lookups: Vec<Lookup>,
    /// What could not be kept of names.
    pub names_lost: Lost,
}

impl KnownFlow {
    /// A flow with what is known of it so far.
    pub fn new(flow: Flow, names: &Names, users: &Users) -> Self {
        naming::flow(flow, names, users)
    }
}

impl Report {
    /// Puts together what was kept. Which names were looked up and not used, and which addresses were never looked up, is not known; names of
    /// endpoints are those of their flows.
    pub fn of_parts(parts: Parts) -> Self {
        let Parts { facts, mut flows, folded_endpoints, folded, remainders, lookups, names_lost } = parts;
        let bare = flows.iter().map(|known| known.flow.clone()).collect();
        let table = FlowTable::of_parts(bare, folded_endpoints, remainders, folded);
        flows.sort_by_key(|known| (known.flow.first_seen_ns, known.flow.key));
        let (flows, loopback): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|known| known.flow.key.scope == ObservationPoint::Link);
        let mut notes = facts.notes;
        notes.extend(hints::localhost(&loopback, &facts.interface));
        let names = Names::new(Limits::default(), Hosts::default());
        let naming = naming::Naming {
            lookups,
            lost: names_lost,
            unused: Vec::new(),
            never_looked_up: Vec::new(),
            ..naming::result(&flows, &names, &facts.interface.gateway)
        };
        Self {
            complete: facts.complete,
            totals: table.totals(ObservationPoint::Link),
            balance: Balance::new(&table, facts.interface_counters, !facts.complete),
            remainders: table.remainders(ObservationPoint::Link).clone(),
            lost: facts.lost,
            folded: table.folded(),
            endpoints: naming::endpoints(table.endpoints(ObservationPoint::Link), &flows, &names),
            attempts: attempts::all(facts.attempts, &flows, &loopback, &naming.lookups),
            naming,
            flows,
            loopback: Loopback { totals: table.totals(ObservationPoint::Loopback), flows: loopback },
            processes: facts.processes,
            notes,
            replay: facts.replay,
            run: facts.run,
            interface: facts.interface,
            dns: facts.dns,
        }
    }
}
