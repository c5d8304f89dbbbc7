//! Names, processes and failed attempts of flows that were folded into their endpoints: what a
//! report still states of them beside their counters. Bounded; what finds no room is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::attempts::{self, AttemptKey};
use super::by_process::{AttributionCounts, FlowSum, FoldedTraffic};
use super::model::{ApplicationProtocol, DisplayName, FlowNaming, ReportFlow};
use super::naming::{FlowShare, is_nameable};
use crate::flow::{Direction, EndpointKey, Flow, ObservationPoint};
use crate::name::{Contact, Hidden, Names, SourcedName};
use crate::process::{Attempt, FlowUser, ProcessId, ProcessNumber, Usage};

/// Endpoints of folded flows that are kept with names and processes.
const MAX_ENDPOINTS: usize = 65_536;
/// Display names, application protocols, names and processes that are kept of one endpoint.
const MAX_PER_ENDPOINT: usize = 16;
/// Distinct failed attempts that are kept.
const MAX_ATTEMPTS: usize = 16_384;
/// Contacted addresses that are kept.
const MAX_ADDRESSES: usize = 65_536;

/// Facts about folded flows.
#[derive(Debug, Default, Clone)]
pub struct FoldedFacts {
    pub(super) endpoints: BTreeMap<EndpointKey, FoldedEndpointFacts>,
    pub(super) flows: FlowShare,
    pub(super) unnamed: FlowShare,
    pub(super) hidden: BTreeMap<Hidden, FlowShare>,
    pub(super) attribution: AttributionCounts,
    /// Processes are named by their number.
    attempts: BTreeMap<AttemptKey, Attempt>,
    contacted: BTreeSet<IpAddr>,
    pub(super) contacted_without_lookup: BTreeSet<IpAddr>,
    /// Facts that found no room.
    pub lost: u64,
}

/// Facts about the folded flows of one endpoint. Names and protocols are weighted by bytes.
#[derive(Debug, Default, Clone)]
pub(super) struct FoldedEndpointFacts {
    pub display_names: Vec<(DisplayName, u64)>,
    pub applications: Vec<(ApplicationProtocol, u64)>,
    pub names: Vec<SourcedName>,
    /// Traffic by the process with the best evidence.
    pub traffic: BTreeMap<ProcessNumber, FlowSum>,
    /// Every process that used a flow.
    pub processes: BTreeSet<ProcessNumber>,
}

impl FoldedFacts {
    /// Adds a flow that is being folded.
    pub fn add(
        &mut self,
        flow: &Flow,
        naming: Option<&FlowNaming>,
        usages: &[Usage],
        names: &Names,
        gateways: &[IpAddr],
    ) {
        self.add_attempts(flow, usages);
        if flow.key.point != ObservationPoint::Link {
            return;
        }
        self.attribution.add(flow, usages.first().map(|usage| usage.evidence));
        self.add_endpoint(flow, naming, usages);
        self.add_naming(flow, naming, gateways);
        self.add_contact(flow, names, gateways);
    }

    fn add_attempts(&mut self, flow: &Flow, usages: &[Usage]) {
        if !attempts::has_failed(flow) {
            return;
        }
        let user = |usage: &Usage| FlowUser {
            process: ProcessId(usage.process),
            evidence: usage.evidence,
            is_maker: usage.is_maker,
        };
        let users = usages.iter().map(user).collect();
        let known = ReportFlow { flow: flow.clone(), naming: None, users };
        for attempt in attempts::of_flow(&known) {
            let key = attempts::key(&attempt);
            if self.attempts.len() < MAX_ATTEMPTS || self.attempts.contains_key(&key) {
                self.attempts.entry(key).and_modify(|sum| attempts::add(sum, &attempt)).or_insert(attempt);
            } else {
                self.lost += 1;
            }
        }
    }

    fn add_endpoint(&mut self, flow: &Flow, naming: Option<&FlowNaming>, usages: &[Usage]) {
        let key = EndpointKey::of(&flow.key, flow.opened_by);
        if self.endpoints.len() >= MAX_ENDPOINTS && !self.endpoints.contains_key(&key) {
            self.lost += 1;
            return;
        }
        self.lost += self.endpoints.entry(key).or_default().add(flow, naming, usages);
    }

    fn add_naming(&mut self, flow: &Flow, naming: Option<&FlowNaming>, gateways: &[IpAddr]) {
        if !is_nameable(flow.key.remote.addr, gateways) {
            return;
        }
        self.flows.add(flow);
        if naming.is_none_or(|naming| naming.display_name.is_none()) {
            self.unnamed.add(flow);
        }
        for reason in naming.iter().flat_map(|naming| &naming.hidden) {
            self.hidden.entry(*reason).or_default().add(flow);
        }
    }

    fn add_contact(&mut self, flow: &Flow, names: &Names, gateways: &[IpAddr]) {
        let address = flow.key.remote.addr;
        let is_listed = self.contacted_without_lookup.contains(&address);
        if flow.opened_by != Direction::Egress || is_listed || !is_nameable(address, gateways) {
            return;
        }
        if self.contacted.len() >= MAX_ADDRESSES && !self.contacted.contains(&address) {
            self.lost += 1;
            return;
        }
        self.contacted.insert(address);
        if names.looked_up(address, flow.first_seen_ns).is_none() {
            self.contacted_without_lookup.insert(address);
        }
    }

    /// The remotes of folded flows, as contacts that are not compared with the time of a lookup.
    pub(super) fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.contacted.iter().map(|address| Contact { address: *address, began_ns: u64::MAX })
    }

    /// Numbers of the processes that are named here.
    pub fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        let of_endpoints = self.endpoints.values().flat_map(|facts| facts.processes.iter().copied());
        of_endpoints.chain(self.attempts.values().filter_map(|attempt| attempt.process).map(|id| id.0))
    }

    /// Traffic of folded flows per process and endpoint.
    pub(super) fn traffic(&self, ids: &BTreeMap<ProcessNumber, ProcessId>) -> Vec<FoldedTraffic> {
        let of_endpoint = |(endpoint, facts): (&EndpointKey, &FoldedEndpointFacts)| {
            let traffic = facts.traffic.iter().filter_map(|(number, sum)| Some((*ids.get(number)?, *sum)));
            let endpoint = *endpoint;
            traffic.map(move |(process, sum)| FoldedTraffic { process, endpoint, sum }).collect::<Vec<_>>()
        };
        self.endpoints.iter().flat_map(of_endpoint).collect()
    }

    /// Failed attempts of folded flows, with processes as places in a report's list.
    pub(super) fn attempts(&self, ids: &BTreeMap<ProcessNumber, ProcessId>) -> impl Iterator<Item = Attempt> {
        self.attempts.values().map(|attempt| Attempt {
            process: attempt.process.and_then(|number| ids.get(&number.0).copied()),
            ..attempt.clone()
        })
    }
}

impl FoldedEndpointFacts {
    /// How many facts found no room.
    fn add(&mut self, flow: &Flow, naming: Option<&FlowNaming>, usages: &[Usage]) -> u64 {
        let mut lost = 0;
        let weight = flow.counters.both().wire_bytes;
        if let Some(naming) = naming {
            lost += naming.display_name.as_ref().map_or(0, |name| weigh(&mut self.display_names, name, weight));
            lost += naming.application.as_ref().map_or(0, |name| weigh(&mut self.applications, name, weight));
            for named in &naming.names {
                lost += self.add_name(named);
            }
        }
        for usage in usages {
            lost += self.add_process(usage.process);
        }
        if let Some(first) = usages.first().filter(|first| self.processes.contains(&first.process)) {
            self.traffic.entry(first.process).or_default().add(flow);
        }
        lost
    }

    fn add_name(&mut self, named: &SourcedName) -> u64 {
        if self.names.iter().any(|known| (&known.name, known.source) == (&named.name, named.source)) {
            return 0;
        }
        if self.names.len() >= MAX_PER_ENDPOINT {
            return 1;
        }
        self.names.push(named.clone());
        0
    }

    fn add_process(&mut self, number: ProcessNumber) -> u64 {
        let has_room = self.processes.len() < MAX_PER_ENDPOINT || self.processes.contains(&number);
        if has_room {
            self.processes.insert(number);
        }
        u64::from(!has_room)
    }
}

/// Adds weight to an item; 1 if there was no room for it.
fn weigh<T: Clone + PartialEq>(items: &mut Vec<(T, u64)>, item: &T, weight: u64) -> u64 {
    if let Some((_, sum)) = items.iter_mut().find(|(known, _)| known == item) {
        *sum += weight;
        return 0;
    }
    if items.len() >= MAX_PER_ENDPOINT {
        return 1;
    }
    items.push((item.clone(), weight));
    0
}
