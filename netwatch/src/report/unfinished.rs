//! The report of a run that netwatch did not finish, from the data that was recorded while it went
//! on.

use std::collections::BTreeMap;

use super::{
    AttributionCounts, Facts, FoldedFacts, Loopback, Report, ReportFlow, Series, ServiceActivity, attempts, naming,
    notes,
};
use crate::flow::{Balance, Endpoint, Flow, FlowTable, FoldedCounts, ObservationPoint, Protocol, Remainders};
use crate::name::{Hosts, Lookup, NameLimits, Names, NamesLost};
use crate::process::FlowUsers;

/// The recorded data of an unfinished run.
#[derive(Debug, Clone)]
pub struct UnfinishedRun {
    /// Facts beside the flow table.
    pub facts: Facts,
    /// The run over time.
    pub series: Series,
    /// Exchanges and peaks of services.
    pub activity: BTreeMap<(Protocol, u16), ServiceActivity>,
    /// Flows of the link and of the loopback, with their names and processes, in any order.
    pub flows: Vec<ReportFlow>,
    /// Per endpoint, the traffic of folded flows.
    pub folded_endpoints: Vec<(ObservationPoint, Endpoint)>,
    /// Totals of folded flows.
    pub folded: FoldedCounts,
    /// Remainders of the link.
    pub remainders: Remainders,
    /// DNS lookups.
    pub lookups: Vec<Lookup>,
    /// Names that were lost, by reason.
    pub names_lost: NamesLost,
}

impl ReportFlow {
    /// Joins the names and users known so far to a flow.
    pub fn new(flow: Flow, names: &Names, users: &FlowUsers) -> Self {
        naming::flow(flow, names, users)
    }
}

impl Report {
    /// Builds a report from recorded data. Unused names and addresses contacted without a lookup
    /// are unknown, and endpoints have the names of their flows only, because the names of
    /// addresses are not recorded during a run.
    pub fn of_unfinished_run(run: UnfinishedRun) -> Self {
        let UnfinishedRun {
            facts,
            series,
            activity,
            mut flows,
            folded_endpoints,
            folded,
            remainders,
            lookups,
            names_lost,
        } = run;
        let bare = flows.iter().map(|known| known.flow.clone()).collect();
        let table = FlowTable::of_parts(bare, folded_endpoints, remainders, folded);
        flows.sort_by_key(|known| (known.flow.first_seen_ns, known.flow.key));
        let (flows, loopback): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|known| known.flow.key.point == ObservationPoint::Link);
        let mut notes = facts.notes;
        if facts.replay.is_none() {
            notes.extend(notes::of_flows(&facts.run, &facts.interface, &flows, &loopback));
        }
        let names = Names::new(NameLimits::default(), Hosts::default());
        let nothing_folded = FoldedFacts::default();
        let folded = naming::Folded { facts: &nothing_folded, ids: &BTreeMap::new() };
        let naming = naming::Naming {
            lost: names_lost,
            unused: Vec::new(),
            contacted_without_lookup: Vec::new(),
            ..naming::result(&flows, &names, lookups, &facts.interface.gateway, &nothing_folded)
        };
        Self {
            complete: facts.complete,
            totals: table.totals(ObservationPoint::Link),
            balance: Balance::new(&table, facts.interface_counters, !facts.complete),
            remainders: table.remainders(ObservationPoint::Link).clone(),
            lost: facts.lost,
            folded: table.folded(),
            endpoints: naming::endpoints(table.endpoints(ObservationPoint::Link), &flows, &names, folded),
            attempts: attempts::all(
                facts.attempts.into_iter(),
                std::iter::empty(),
                &flows,
                &loopback,
                &attempts::Queries {
                    lookups: &naming.lookups,
                    flows: &[],
                    are_all_flows_listed: false,
                    processes: &facts.processes,
                },
            ),
            naming,
            folded_traffic: Vec::new(),
            folded_attribution: AttributionCounts::default(),
            flows,
            loopback: Loopback { totals: table.totals(ObservationPoint::Loopback), flows: loopback },
            processes: facts.processes,
            series,
            activity,
            notes,
            replay: facts.replay,
            run: facts.run,
            interface: facts.interface,
            dns: facts.dns,
        }
    }
}
