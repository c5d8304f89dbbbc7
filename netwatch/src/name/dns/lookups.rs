//! Lookups: queries of the same question, with their outcomes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::ObservedMessage;
use super::chain;
use crate::flow::{Direction, FlowKey};
use crate::name::limits::{NameLimits, NamesLost};
use crate::wire::dns::{Question, Rcode, RecordData};
use crate::wire::{Application, Name};

/// Maximum number of addresses and aliases kept of one lookup.
const MAX_ADDRESSES: usize = 64;
const MAX_ALIASES: usize = 16;
/// Maximum number of flows kept of the queries of one lookup.
const MAX_FLOWS: usize = 16;
/// Maximum number of response times between two calls of [`Lookups::take_responses`].
const MAX_NEW_RESPONSES: usize = 65_536;

/// All queries of one question, and their outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The question.
    pub question: Question,
    /// [`Application::Dns`], [`Application::Mdns`] or [`Application::Llmnr`].
    pub application: Application,
    /// Egress: queries of the target; ingress: queries to it.
    pub queried_by: Direction,
    /// Number of queries.
    pub queries: u64,
    /// Number of responses, including errors; greater than `queries` if some of those were not
    /// sampled.
    pub responses: u64,
    /// Number of responses by response code.
    pub outcomes: BTreeMap<Rcode, u64>,
    /// Number of failures that repeat one of the same lookup: a resolver library asks again with
    /// the same transaction id. Responses with an error by their code; `None`: queries that were
    /// sent again before there was a response. Not stored in recordings, which have the attempts.
    pub repeats: BTreeMap<Option<Rcode>, u64>,
    /// Number of truncated responses.
    pub truncated: u64,
    /// Time between query and response.
    pub response_times: ResponseTimes,
    /// Time of the first message, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Addresses in the responses.
    pub addresses: Vec<IpAddr>,
    /// Aliases in the responses, in order.
    pub aliases: Vec<Name>,
}

/// Response times, nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ResponseTimes {
    /// Number of measurements.
    pub count: u64,
    /// The minimum.
    pub min_ns: u64,
    /// The maximum.
    pub max_ns: u64,
    /// The sum.
    pub sum_ns: u64,
}

impl ResponseTimes {
    fn add(&mut self, took_ns: u64) {
        self.min_ns = if self.count == 0 { took_ns } else { self.min_ns.min(took_ns) };
        self.max_ns = self.max_ns.max(took_ns);
        self.sum_ns = self.sum_ns.saturating_add(took_ns);
        self.count += 1;
    }

    /// The mean.
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }
}

impl Lookup {
    /// Number of queries without a response.
    pub fn unanswered(&self) -> u64 {
        self.queries.saturating_sub(self.responses)
    }

    /// Number of lookups without a response: a query that was sent again is one.
    pub fn unanswered_lookups(&self) -> u64 {
        self.unanswered().saturating_sub(self.repeated(None))
    }

    /// The errors of lookups: their code, the number of lookups, and that of responses.
    pub fn errors(&self) -> impl Iterator<Item = (Rcode, u64, u64)> {
        let failed = self.outcomes.iter().filter(|(rcode, _)| **rcode != Rcode::NOERROR);
        failed.map(|(rcode, count)| (*rcode, count.saturating_sub(self.repeated(Some(*rcode))), *count))
    }

    fn repeated(&self, error: Option<Rcode>) -> u64 {
        self.repeats.get(&error).copied().unwrap_or(0)
    }

    /// Number of responses with an error.
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().filter(|(rcode, _)| **rcode != Rcode::NOERROR).map(|(_, count)| count).sum()
    }

    fn new(question: &Question, observed: &ObservedMessage<'_>, queried_by: Direction) -> Self {
        Self {
            question: question.clone(),
            application: observed.application,
            queried_by,
            queries: 0,
            responses: 0,
            outcomes: BTreeMap::new(),
            repeats: BTreeMap::new(),
            truncated: 0,
            response_times: ResponseTimes::default(),
            first_seen_ns: observed.time_ns,
            addresses: Vec::new(),
            aliases: Vec::new(),
        }
    }

    /// Memory used, bytes.
    fn memory(&self) -> usize {
        let aliases: usize = self.aliases.iter().map(|alias| size_of::<Name>() + alias.memory()).sum();
        size_of::<Self>() + self.question.name.memory() + self.addresses.len() * size_of::<IpAddr>() + aliases
    }

    fn add_records(&mut self, observed: &ObservedMessage<'_>) {
        for reached in chain::follow(observed.message) {
            if reached.question == Some(&self.question.name)
                && !self.addresses.contains(&reached.address)
                && self.addresses.len() < MAX_ADDRESSES
            {
                self.addresses.push(reached.address);
            }
        }
        for record in &observed.message.records {
            if let RecordData::Alias(alias) = &record.data
                && !self.aliases.contains(alias)
                && self.aliases.len() < MAX_ALIASES
            {
                self.aliases.push(alias.clone());
            }
        }
    }
}

type LookupKey = (Question, Application, Direction);

/// Responses to queries of the target since they were last taken.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NewResponses {
    /// Times between query and response, nanoseconds.
    pub times_ns: Vec<u64>,
    /// Number of responses with an error.
    pub failed: u64,
}

/// The flows of the queries of one lookup.
#[derive(Debug, Default, Clone)]
pub struct QueryFlows {
    /// Their keys, at most 16.
    pub flows: Vec<FlowKey>,
    /// Whether there were more.
    pub has_more: bool,
}

impl QueryFlows {
    fn add(&mut self, flow: FlowKey) {
        match self.flows.contains(&flow) {
            true => {}
            false if self.flows.len() < MAX_FLOWS => self.flows.push(flow),
            false => self.has_more = true,
        }
    }
}

/// All lookups, in the order in which they were first seen.
#[derive(Debug)]
pub(in crate::name) struct Lookups {
    all: Vec<Lookup>,
    /// The flows of the queries of each.
    flows: Vec<QueryFlows>,
    index: HashMap<LookupKey, usize>,
    /// Positions in `all` of those that [`Self::take_changed`] has not returned since they changed.
    changed: BTreeSet<usize>,
    new_responses: NewResponses,
    held: usize,
    limit: usize,
    limit_bytes: usize,
}

impl Lookups {
    pub fn new(limits: &NameLimits) -> Self {
        let (limit, limit_bytes) = (limits.lookups, limits.table_bytes);
        let (all, flows, index, changed) = (Vec::new(), Vec::new(), HashMap::new(), BTreeSet::new());
        let new_responses = NewResponses::default();
        Self { all, flows, index, changed, new_responses, held: 0, limit, limit_bytes }
    }

    pub fn all(&self) -> &[Lookup] {
        &self.all
    }

    /// The flows of the queries of each lookup in [`Self::all`].
    pub fn flows(&self) -> &[QueryFlows] {
        &self.flows
    }

    /// The lookups that are new or have changed since the last call, with their positions in
    /// [`Self::all`].
    pub fn take_changed(&mut self) -> impl Iterator<Item = (usize, &Lookup)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|index| Some((index, self.all.get(index)?)))
    }

    /// The responses since the last call.
    pub fn take_responses(&mut self) -> NewResponses {
        std::mem::take(&mut self.new_responses)
    }

    pub(super) fn count_query(&mut self, question: &Question, observed: &ObservedMessage<'_>, lost: &mut NamesLost) {
        self.change(question, observed, lost, |lookup| lookup.queries += 1);
    }

    /// Counts a failure of a query as one of the same lookup as before: a response with this error,
    /// or a query that was sent again (`None`).
    pub(super) fn count_repeat(
        &mut self,
        question: &Question,
        observed: &ObservedMessage<'_>,
        error: Option<Rcode>,
        lost: &mut NamesLost,
    ) {
        self.change(question, observed, lost, |lookup| *lookup.repeats.entry(error).or_default() += 1);
    }

    pub(super) fn count_response(
        &mut self,
        question: &Question,
        observed: &ObservedMessage<'_>,
        took_ns: Option<u64>,
        lost: &mut NamesLost,
    ) {
        let is_listed = self.change(question, observed, lost, |lookup| {
            lookup.responses += 1;
            *lookup.outcomes.entry(observed.message.rcode).or_default() += 1;
            lookup.truncated += u64::from(observed.message.is_truncated);
            took_ns.into_iter().for_each(|took_ns| lookup.response_times.add(took_ns));
            lookup.add_records(observed);
        });
        let new = &mut self.new_responses;
        if is_listed && observed.queried_by() == Direction::Egress {
            new.times_ns.extend(took_ns.filter(|_| new.times_ns.len() < MAX_NEW_RESPONSES));
            new.failed += u64::from(observed.message.rcode != Rcode::NOERROR);
        }
    }

    /// Changes the lookup of a question, which may be new. Returns false if there is no room for
    /// it.
    fn change(
        &mut self,
        question: &Question,
        observed: &ObservedMessage<'_>,
        lost: &mut NamesLost,
        change: impl FnOnce(&mut Lookup),
    ) -> bool {
        let queried_by = observed.queried_by();
        let key = (question.clone(), observed.application, queried_by);
        let known = self.index.get(&key).copied();
        if known.is_none() && (self.all.len() >= self.limit || self.held > self.limit_bytes) {
            lost.lookups += 1;
            return false;
        }
        let index = known.unwrap_or(self.all.len());
        if known.is_none() {
            self.index.insert(key, index);
            self.all.push(Lookup::new(question, observed, queried_by));
            self.flows.push(QueryFlows::default());
        }
        if let Some(flows) = self.flows.get_mut(index) {
            let before = flows.flows.len();
            flows.add(observed.flow);
            self.held += (flows.flows.len() - before) * size_of::<FlowKey>();
        }
        if let Some(lookup) = self.all.get_mut(index) {
            let before = if known.is_some() { lookup.memory() } else { 0 };
            change(lookup);
            self.changed.insert(index);
            self.held = self.held + lookup.memory() - before;
        }
        true
    }
}
