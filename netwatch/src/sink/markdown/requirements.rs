//! Endpoints brought together to what a firewall's owner asks for: a host, a port, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::{Counters, Direction, Endpoint, PerDirection};
use crate::report::{KnownEndpoint, Report};
use crate::sink::words;

/// Who has to be there.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Named(String),
    #[default]
    Unnamed,
    /// What answers behind the run's own gateway.
    Resolver,
    /// Whoever connects from outside.
    Clients,
}

/// One of them.
#[derive(Default)]
pub(super) struct Requirement {
    pub host: Host,
    /// `tcp/443`.
    pub service: String,
    /// What is spoken.
    pub spoken: Option<String>,
    /// Names of the programs.
    pub processes: BTreeSet<String>,
    /// The remote's addresses.
    pub addresses: BTreeSet<String>,
    pub connections: u64,
    pub counters: PerDirection<Counters>,
}

/// Addresses that are written out.
const MAX_ADDRESSES: usize = 8;

impl Requirement {
    /// All that was opened in a direction and came to something, the largest first.
    pub fn all(report: &Report, direction: Direction) -> Vec<Self> {
        let mut all: BTreeMap<(Host, String, String), Self> = BTreeMap::new();
        let wanted = |known: &&KnownEndpoint| known.endpoint.key.direction == direction && has_worked(&known.endpoint);
        for known in report.endpoints.iter().filter(wanted) {
            let service = words::service(&known.endpoint.key);
            let host = host(report, known);
            // Without a name it is the address that has to be reachable.
            let address =
                if host == Host::Unnamed { words::address(&known.endpoint.key.remote) } else { String::new() };
            all.entry((host, address, service)).or_default().add(report, known);
        }
        let mut all: Vec<Self> = all.into_values().map(Self::shortened).collect();
        all.sort_by_key(|requirement| std::cmp::Reverse(requirement.counters.both().wire_bytes));
        all
    }

    fn add(&mut self, report: &Report, known: &KnownEndpoint) {
        let endpoint = &known.endpoint;
        let resolvers = report.forwarded_to(endpoint);
        self.host = host(report, known);
        self.service = words::service(&endpoint.key);
        self.spoken = self.spoken.take().or_else(|| Some(known.spoken.as_ref()?.application.to_string()));
        let names = known.processes.iter().filter_map(|id| report.processes.get(*id));
        self.processes.extend(names.map(|process| process.comm.clone()));
        match resolvers {
            [] => drop(self.addresses.insert(words::address(&endpoint.key.remote))),
            // The gateway is the run's own: what it needs is what answers behind it.
            resolvers => self.addresses.extend(resolvers.iter().map(|resolver| resolver.ip().to_string())),
        }
        self.connections += endpoint.connections;
        self.counters += endpoint.counters;
    }

    fn shortened(mut self) -> Self {
        let more = self.addresses.len().saturating_sub(MAX_ADDRESSES);
        if more > 1 {
            self.addresses = self.addresses.into_iter().take(MAX_ADDRESSES).collect();
            self.addresses.insert(format!("… and {more} more"));
        }
        self
    }
}

fn host(report: &Report, known: &KnownEndpoint) -> Host {
    match (&known.shown, known.endpoint.key.direction) {
        (_, Direction::Ingress) => Host::Clients,
        _ if !report.forwarded_to(&known.endpoint).is_empty() => Host::Resolver,
        (Some(shown), _) => Host::Named(shown.name.to_string()),
        (None, _) => Host::Unnamed,
    }
}

/// Not only attempts that failed.
fn has_worked(endpoint: &Endpoint) -> bool {
    endpoint.failed.attempts() < endpoint.connections.max(1)
}
