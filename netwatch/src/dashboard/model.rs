//! The state of a run as a dashboard shows it: the sum of all updates, in bounded memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use super::log::Log;
use super::update::{AttemptFacts, FlowUpdate, LookupFacts, ProcessFacts, RunFacts, Tick, Update, Volumes};
use crate::flow::Protocol;
use crate::name::RESPONSE_TIMEOUT_NS;
use crate::report::DnsForwarder;
use crate::wire::port;

/// Connections that are kept; the oldest that ended are dropped first. Their endpoints keep the
/// sums.
pub const MAX_FLOWS: usize = 50_000;
/// Dropped connections of which the sums are kept. One that continues after that counts again.
const MAX_DROPPED: usize = 8 * MAX_FLOWS;
/// Endpoints and lookups that are kept.
const MAX_OTHERS: usize = 50_000;
/// Rates that an endpoint keeps, for its sparkline.
pub const ENDPOINT_RATES: usize = 12;
/// Rates that are kept for the chart.
pub const MAX_RATES: usize = 600;
/// Growth of many flows is delivered less often than ticks. So long a rate is kept without growth.
const RATE_TIME_NS: u64 = 3_000_000_000;
const SECOND_NS: f64 = 1e9;

/// Bytes per second, sent and received.
pub type Rates = (u64, u64);

/// The key of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteKey {
    /// The remote.
    pub remote: IpAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// The port of the server; 0 without one.
    pub port: u16,
    /// Opened by the command.
    pub out: bool,
    /// On the loopback of the namespace.
    pub loopback: bool,
}

impl RemoteKey {
    /// The endpoint of a flow.
    pub fn of(flow: &FlowUpdate) -> Self {
        let port = if flow.out { flow.remote.port() } else { flow.local.port() };
        let FlowUpdate { protocol, out, loopback, .. } = *flow;
        Self { remote: flow.remote.ip(), protocol, port, out, loopback }
    }

    /// `tcp/443`.
    pub fn service(&self) -> String {
        let protocol = Protocol(self.protocol);
        if self.port == 0 { protocol.to_string() } else { format!("{protocol}/{}", self.port) }
    }
}

/// A quantity that grows, and how fast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficGrowth {
    /// The sums so far.
    pub amounts: Volumes,
    /// Bytes per second.
    pub rates: Rates,
    before: Volumes,
    changed_ns: u64,
}

impl TrafficGrowth {
    /// Ends an interval. What cannot grow any more (`is_live`) has no rate.
    fn tick(&mut self, now_ns: u64, passed_ns: u64, is_live: bool) {
        if self.amounts == self.before {
            if !is_live || now_ns.saturating_sub(self.changed_ns) >= RATE_TIME_NS {
                self.rates = (0, 0);
            }
            return;
        }
        let since_ns = now_ns.saturating_sub(self.changed_ns);
        let passed_ns = if since_ns < RATE_TIME_NS { since_ns } else { passed_ns };
        self.rates = rates(self.before, self.amounts, passed_ns);
        (self.before, self.changed_ns) = (self.amounts, now_ns);
    }
}

fn rates(before: Volumes, now: Volumes, passed_ns: u64) -> Rates {
    let seconds = passed_ns.max(1) as f64 / SECOND_NS;
    let rate = |then: u64, now: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
    (rate(before.0.1, now.0.1), rate(before.1.1, now.1.1))
}

/// A connection.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveFlow {
    /// Its newest state.
    pub facts: FlowUpdate,
    /// Its traffic.
    pub growth: TrafficGrowth,
}

/// An endpoint: the sum of its connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveEndpoint {
    /// Its traffic.
    pub growth: TrafficGrowth,
    /// Its name, and the source of that.
    pub name: Option<(String, String)>,
    /// The application protocol.
    pub application: Option<String>,
    /// Connections so far.
    pub connections: u64,
    /// TCP connections that have not ended.
    pub open: u64,
    /// Flows that can continue, of any protocol.
    pub live: u64,
    /// Failed attempts, and why the last ones failed.
    pub failed: u64,
    /// By the words of every output.
    pub causes: String,
    /// Packets that were sent again.
    pub retransmitted: u64,
    /// The newest round trip, nanoseconds.
    pub rtt_ns: Option<u64>,
    /// Numbers of its processes.
    pub processes: BTreeSet<u32>,
    /// Time of the last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// Both rates together, the newest last.
    pub history: [u64; ENDPOINT_RATES],
}

/// A DNS lookup.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveLookup {
    /// Its newest state.
    pub facts: LookupFacts,
    /// When it arrived, nanoseconds since the Unix epoch.
    pub changed_ns: u64,
}

impl LiveLookup {
    /// Queries that nothing answered in the time that programs wait.
    pub fn unanswered(&self, now_ns: u64) -> u64 {
        let is_settled = now_ns.saturating_sub(self.changed_ns) >= RESPONSE_TIMEOUT_NS;
        if is_settled { self.facts.queries.saturating_sub(self.facts.responses) } else { 0 }
    }
}

/// The state of a run.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The run.
    pub run: RunFacts,
    /// Connections by their serial number.
    pub flows: BTreeMap<u64, LiveFlow>,
    /// Endpoints.
    pub endpoints: HashMap<RemoteKey, LiveEndpoint>,
    /// Processes by their number.
    pub processes: BTreeMap<u32, ProcessFacts>,
    /// DNS lookups by their number.
    pub lookups: BTreeMap<u64, LiveLookup>,
    /// Attempts that failed before a packet was sent.
    pub attempts: Vec<AttemptFacts>,
    /// Lost observations by reason.
    pub losses: Vec<(String, u64)>,
    /// Notes of the report.
    pub notes: Vec<String>,
    /// The newest tick.
    pub now: Tick,
    /// Rates of the whole run, the newest last.
    pub rates: VecDeque<Rates>,
    /// CPU time of the command since the tick before, percent of one CPU.
    pub cpu_percent: Option<u64>,
    /// Connections that were dropped because there were too many, and have not continued since.
    pub dropped: u64,
    /// The output of the command, where it has no terminal of its own.
    pub log: Log,
    /// How the run ended.
    pub ended: Option<String>,
    /// Ended connections, in the order in which they ended.
    ended_flows: VecDeque<u64>,
    /// The last states of dropped connections, which their endpoints contain: they can continue.
    dropped_flows: HashMap<u64, DroppedFlow>,
    /// Their numbers in the order in which they were dropped. Those that continued stay listed.
    drop_order: VecDeque<u64>,
}

/// What an endpoint contains of a connection that was dropped.
#[derive(Debug, Clone, Copy)]
struct DroppedFlow {
    endpoint: RemoteKey,
    sums: FlowSums,
}

/// What a connection adds to its endpoint.
#[derive(Debug, Clone, Copy)]
struct FlowSums {
    amounts: Volumes,
    connections: u64,
    open: u64,
    live: u64,
    failed: u64,
    retransmitted: u64,
}

impl FlowSums {
    fn of(flow: &FlowUpdate) -> Self {
        let FlowUpdate { amounts, connections, failed, retransmitted, .. } = *flow;
        let (open, live) = (flow.is_open.into(), flow.ended.is_none().into());
        Self { amounts, connections, open, live, failed, retransmitted }
    }
}

impl Model {
    /// Applies an update. Returns whether an interval has ended: time to draw again.
    pub fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Started(run) => self.run = run,
            Update::Flow(facts) => self.apply_flow(*facts),
            Update::Process(process) => _ = self.processes.insert(process.number, process),
            Update::Lookup(number, lookup) => {
                if self.lookups.len() < MAX_OTHERS || self.lookups.contains_key(&number) {
                    self.lookups.insert(number, LiveLookup { facts: lookup, changed_ns: self.now.time_ns });
                }
            }
            Update::Attempts(attempts) => self.attempts = attempts,
            Update::Losses(losses, notes) => {
                self.losses = losses;
                self.notes = notes.unwrap_or_else(|| std::mem::take(&mut self.notes));
            }
            Update::Tick(tick) => {
                self.tick(tick);
                return true;
            }
            Update::Ended(how) => {
                self.ended = Some(how);
                return true;
            }
        }
        false
    }

    fn apply_flow(&mut self, mut facts: FlowUpdate) {
        let to_forwarder = facts.out && facts.remote.port() == port::DNS;
        if facts.name.is_none() && to_forwarder && self.run.gateways.contains(&facts.remote.ip()) {
            facts.name = Some((DnsForwarder::NAME.to_owned(), "forwarder".to_owned()));
        }
        let key = RemoteKey::of(&facts);
        let before = self.flows.get(&facts.id).map(|flow| (RemoteKey::of(&flow.facts), FlowSums::of(&flow.facts)));
        let before = before.or_else(|| {
            let flow = self.dropped_flows.remove(&facts.id)?;
            self.dropped -= 1;
            Some((flow.endpoint, flow.sums))
        });
        // It may be another endpoint: the side that opened the connection is known when its
        // earliest part was drained.
        if let Some((endpoint, sums)) = before {
            self.endpoints.entry(endpoint).and_modify(|endpoint| endpoint.remove(&sums));
        }
        if self.endpoints.len() < MAX_OTHERS || self.endpoints.contains_key(&key) {
            self.endpoints.entry(key).or_default().add(&facts);
        }
        let (id, has_ended) = (facts.id, facts.ended.is_some());
        let had_ended = self.flows.get(&id).is_some_and(|flow| flow.facts.ended.is_some());
        let growth = self.flows.get(&id).map_or_else(TrafficGrowth::default, |flow| flow.growth);
        let growth = TrafficGrowth { amounts: facts.amounts, ..growth };
        self.flows.insert(id, LiveFlow { facts, growth });
        if has_ended && !had_ended {
            self.ended_flows.push_back(id);
        }
        self.drop_oldest();
    }

    /// Drops the connection that ended first if there are too many.
    fn drop_oldest(&mut self) {
        if self.ended_flows.len() > 2 * MAX_FLOWS {
            // Flows that ended and continued are listed several times.
            let flows = &self.flows;
            self.ended_flows.retain(|id| flows.get(id).is_some_and(|flow| flow.facts.ended.is_some()));
        }
        while self.flows.len() > MAX_FLOWS {
            let oldest = match self.ended_flows.pop_front() {
                // One that is live again is listed again when it ends.
                Some(id) if self.flows.get(&id).is_none_or(|flow| flow.facts.ended.is_none()) => continue,
                ended => ended.or_else(|| self.flows.keys().next().copied()),
            };
            let Some((id, flow)) = oldest.and_then(|id| Some((id, self.flows.remove(&id)?))) else { return };
            self.note_dropped(id, &flow.facts);
        }
    }

    fn note_dropped(&mut self, id: u64, flow: &FlowUpdate) {
        self.dropped += 1;
        let endpoint = RemoteKey::of(flow);
        let mut sums = FlowSums::of(flow);
        // It is no longer shown as one that can continue.
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
            endpoint.open = endpoint.open.saturating_sub(std::mem::take(&mut sums.open));
            endpoint.live = endpoint.live.saturating_sub(std::mem::take(&mut sums.live));
        }
        self.dropped_flows.insert(id, DroppedFlow { endpoint, sums });
        self.drop_order.push_back(id);
        if self.drop_order.len() > MAX_DROPPED
            && let Some(oldest) = self.drop_order.pop_front()
        {
            self.dropped_flows.remove(&oldest);
        }
    }

    fn tick(&mut self, tick: Tick) {
        let passed_ns = tick.time_ns.saturating_sub(self.now.time_ns);
        let is_first = self.now == Tick::default();
        for endpoint in self.endpoints.values_mut() {
            if is_first {
                endpoint.growth.before = endpoint.growth.amounts;
            }
            endpoint.growth.tick(tick.time_ns, passed_ns, endpoint.live > 0);
            endpoint.history.rotate_left(1);
            endpoint.history[ENDPOINT_RATES - 1] = endpoint.growth.rates.0 + endpoint.growth.rates.1;
        }
        for flow in self.flows.values_mut() {
            if is_first {
                flow.growth.before = flow.growth.amounts;
            }
            flow.growth.tick(tick.time_ns, passed_ns, flow.facts.ended.is_none());
        }
        if !is_first {
            self.rates.push_back(rates(self.now.totals, tick.totals, passed_ns));
            if self.rates.len() > MAX_RATES {
                self.rates.pop_front();
            }
        }
        let used_ns = tick.cpu_ns.zip(self.now.cpu_ns).map(|(now, before)| now.saturating_sub(before));
        self.cpu_percent = used_ns.map(|used_ns| used_ns.saturating_mul(100) / passed_ns.max(1));
        self.now = tick;
    }

    /// The newest rates of the whole run.
    pub fn current_rates(&self) -> Rates {
        self.rates.back().copied().unwrap_or_default()
    }

    /// `curl (4242)`; empty if it is not known.
    pub fn process_label(&self, number: u32) -> String {
        self.processes.get(&number).map_or_else(String::new, |process| format!("{} ({})", process.comm, process.pid))
    }
}

impl LiveEndpoint {
    fn add(&mut self, flow: &FlowUpdate) {
        let amounts = &mut self.growth.amounts;
        amounts.0.0 += flow.amounts.0.0;
        amounts.0.1 += flow.amounts.0.1;
        amounts.1.0 += flow.amounts.1.0;
        amounts.1.1 += flow.amounts.1.1;
        self.connections += flow.connections;
        self.open += u64::from(flow.is_open);
        self.live += u64::from(flow.ended.is_none());
        self.failed += flow.failed;
        self.retransmitted += flow.retransmitted;
        self.last_ns = self.last_ns.max(flow.last_ns);
        self.rtt_ns = flow.rtt_ns.or(flow.handshake_ns).or(self.rtt_ns);
        self.processes.extend(flow.processes.first().map(|(number, _)| *number));
        if !flow.causes.is_empty() {
            self.causes.clone_from(&flow.causes);
        }
        if flow.name.is_some() && self.name != flow.name {
            self.name.clone_from(&flow.name);
        }
        if flow.application.is_some() && self.application != flow.application {
            self.application.clone_from(&flow.application);
        }
    }

    fn remove(&mut self, flow: &FlowSums) {
        let amounts = &mut self.growth.amounts;
        let subtract = |from: &mut u64, part: u64| *from = from.saturating_sub(part);
        subtract(&mut amounts.0.0, flow.amounts.0.0);
        subtract(&mut amounts.0.1, flow.amounts.0.1);
        subtract(&mut amounts.1.0, flow.amounts.1.0);
        subtract(&mut amounts.1.1, flow.amounts.1.1);
        subtract(&mut self.connections, flow.connections);
        subtract(&mut self.open, flow.open);
        subtract(&mut self.live, flow.live);
        subtract(&mut self.failed, flow.failed);
        subtract(&mut self.retransmitted, flow.retransmitted);
    }
}
