//! The names that programs looked up before failed attempts.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::Report;
use crate::flow::{Direction, Protocol, Remote};
use crate::process::{Attempt, AttemptTarget};

/// The kernel dates most packets by a clock that advances with its timer interrupt, samples by a
/// precise one.
const CLOCK_TOLERANCE_NS: u64 = 10_000_000;

/// The names of the addresses that the target resolved or contacted.
#[derive(Debug)]
pub struct AttemptNames<'a> {
    /// By the remote of attempts and the time of the first one, which is that of its flow. A flow
    /// without a name was to an address.
    of_flows: HashMap<(Contacted, u64), Option<&'a str>>,
    /// By the endpoint of the attempt.
    of_endpoints: HashMap<Contacted, &'a str>,
    /// By address, with the time of the first query, in order of time.
    of_lookups: HashMap<IpAddr, Vec<(u64, &'a str)>>,
    /// By address: the name of any endpoint whose name is that of its address.
    of_addresses: HashMap<IpAddr, &'a str>,
}

/// Where an attempt went.
type Contacted = (SocketAddr, Option<Protocol>);

impl<'a> AttemptNames<'a> {
    /// The names of this report.
    pub fn of(report: &'a Report) -> Self {
        let mut names = Self {
            of_flows: HashMap::new(),
            of_endpoints: HashMap::new(),
            of_lookups: HashMap::new(),
            of_addresses: HashMap::new(),
        };
        let began = |attempt: &Attempt| match attempt.target {
            AttemptTarget::Address(end) => Some(((end, attempt.protocol), attempt.first_ns)),
            _ => None,
        };
        let attempted: HashSet<(Contacted, u64)> = report.attempts.iter().filter_map(began).collect();
        for known in report.flows.iter().filter(|_| !attempted.is_empty()) {
            let key = &known.flow.key;
            let end = (key.remote.addr, key.remote.port).into();
            let began = ((end, Some(Protocol(key.protocol))), known.flow.first_seen_ns);
            if attempted.contains(&began) {
                let name = names.of_flows.entry(began).or_default();
                *name = name.or(known.display_name().map(|display| display.name.as_str()));
            }
        }
        for lookup in report.naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress) {
            for address in &lookup.addresses {
                let lookups = names.of_lookups.entry(*address).or_default();
                lookups.push((lookup.first_seen_ns, lookup.question.name.as_str()));
            }
        }
        names.of_lookups.values_mut().for_each(|lookups| lookups.sort_by_key(|(time_ns, _)| *time_ns));
        for known in report.endpoints.iter().rev() {
            let key = &known.endpoint.key;
            if let (Remote::Address(address), Some(display)) = (key.remote, &known.display_name) {
                if !display.source.is_of_connection() {
                    names.of_addresses.insert(address, display.name.as_str());
                }
                if key.direction == Direction::Egress {
                    let contacted = ((address, key.port).into(), Some(key.protocol));
                    names.of_endpoints.insert(contacted, display.name.as_str());
                }
            }
        }
        names
    }

    /// The name that the program looked up; `None` if it used an address, or a local socket.
    pub fn name(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match &attempt.target {
            AttemptTarget::Address(end) => self.name_of((*end, attempt.protocol), attempt.first_ns),
            AttemptTarget::Name(name, _) => Some(name),
            AttemptTarget::LocalSocket(_) => None,
        }
    }

    /// The name of the flow of the first attempt; without a flow, the name of the endpoint, whose
    /// flows have more evidence; else of the latest lookup before the attempt; else of the address.
    /// Several names may share an endpoint. A name that was first looked up later is not that of
    /// the attempt.
    fn name_of(&self, contacted: Contacted, time_ns: u64) -> Option<&'a str> {
        if let Some(name) = self.of_flows.get(&(contacted, time_ns)) {
            return *name;
        }
        let address = contacted.0.ip();
        let until_ns = time_ns.saturating_add(CLOCK_TOLERANCE_NS);
        let lookups = self.of_lookups.get(&address).map_or(&[][..], Vec::as_slice);
        let before = lookups.partition_point(|(first_ns, _)| *first_ns <= until_ns);
        let (before, after) = lookups.split_at(before);
        let is_later = |name: &&str| {
            let is_it = |(_, looked_up): &(u64, &str)| looked_up == name;
            !before.iter().any(is_it) && after.iter().any(is_it)
        };
        let of_endpoint = self.of_endpoints.get(&contacted).copied().filter(|name| !is_later(name));
        let of_address = || self.of_addresses.get(&address).copied().filter(|name| !is_later(name));
        of_endpoint.or_else(|| before.last().map(|(_, name)| *name)).or_else(of_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Option<Protocol> = Some(Protocol::TCP);

    #[test]
    fn one_address_has_the_name_that_was_asked_for_before_each_attempt() {
        const LATE: u64 = 1_000_000_000;
        let end = |port| (SocketAddr::from(([203, 0, 113, 20], port)), TCP);
        let other = |last| (SocketAddr::from(([192, 0, 2, last], 9)), TCP);
        let lookups = vec![(10 + LATE, "api.example"), (20 + LATE, "new.example"), (5 * LATE, "late.example")];
        let names = AttemptNames {
            of_flows: HashMap::from([((end(81), 40 + LATE), Some("new.example")), ((end(81), 50 + LATE), None)]),
            of_endpoints: HashMap::from([
                (end(81), "api.example"),
                (end(82), "new.example"),
                (end(84), "late.example"),
            ]),
            of_lookups: HashMap::from([(end(0).0.ip(), lookups)]),
            of_addresses: HashMap::from([(end(0).0.ip(), "api.example"), (other(1).0.ip(), "other.example")]),
        };
        assert_eq!(names.name_of(end(81), 40 + LATE), Some("new.example"), "by its flow");
        assert_eq!(names.name_of(end(81), 50 + LATE), None, "its flow has no name");
        assert_eq!(names.name_of(end(81), 30 + LATE), Some("api.example"), "by its endpoint");
        assert_eq!(names.name_of(end(82), 30 + LATE), Some("new.example"));
        assert_eq!(names.name_of((end(82).0, Some(Protocol::UDP)), 9 * LATE), Some("late.example"), "by a lookup");
        assert_eq!(names.name_of(end(84), 2 * LATE), Some("new.example"), "the endpoint's name was looked up later");
        assert_eq!(names.name_of(end(84), 6 * LATE), Some("late.example"));
        assert_eq!(names.name_of(end(83), LATE), Some("new.example"), "the clocks of packets and calls may differ");
        assert_eq!(names.name_of(end(83), 5), None, "all lookups were later");
        assert_eq!(names.name_of(other(1), 0), Some("other.example"));
        assert_eq!(names.name_of(other(2), 0), None);
    }
}
