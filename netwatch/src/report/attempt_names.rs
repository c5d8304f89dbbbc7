//! The names that programs looked up before failed attempts.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::Report;
use crate::flow::{Direction, Remote};
use crate::process::{Attempt, AttemptTarget};

/// The names of the addresses that the target resolved or contacted.
#[derive(Debug)]
pub struct AttemptNames<'a> {
    /// By the remote of attempts and the time of the first one, which is that of its flow.
    of_flows: HashMap<(SocketAddr, u64), &'a str>,
    /// By the endpoint of the attempt.
    of_endpoints: HashMap<SocketAddr, &'a str>,
    /// By address, with the time of the first query, in order of time.
    of_lookups: HashMap<IpAddr, Vec<(u64, &'a str)>>,
    /// By address: the name of any endpoint.
    of_addresses: HashMap<IpAddr, &'a str>,
}

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
            AttemptTarget::Address(end) => Some((end, attempt.first_ns)),
            _ => None,
        };
        let attempted: HashSet<(SocketAddr, u64)> = report.attempts.iter().filter_map(began).collect();
        for known in report.flows.iter().filter(|_| !attempted.is_empty()) {
            let remote = &known.flow.key.remote;
            let began = ((remote.addr, remote.port).into(), known.flow.first_seen_ns);
            if let Some(display) = known.display_name().filter(|_| attempted.contains(&began)) {
                names.of_flows.insert(began, display.name.as_str());
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
                names.of_addresses.insert(address, display.name.as_str());
                if key.direction == Direction::Egress {
                    names.of_endpoints.insert((address, key.port).into(), display.name.as_str());
                }
            }
        }
        names
    }

    /// The name that the program looked up; `None` if it used an address, or a local socket.
    pub fn name(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match &attempt.target {
            AttemptTarget::Address(end) => self.name_of(*end, attempt.first_ns),
            AttemptTarget::Name(name, _) => Some(name),
            AttemptTarget::LocalSocket(_) => None,
        }
    }

    /// The name of the flow of the first attempt; else of the endpoint, whose flows have more
    /// evidence; else of the latest lookup before the attempt; else of the address. Several names
    /// may share an endpoint.
    fn name_of(&self, end: SocketAddr, time_ns: u64) -> Option<&'a str> {
        let lookup = || {
            let lookups = self.of_lookups.get(&end.ip())?;
            let before = lookups.partition_point(|(first_ns, _)| *first_ns <= time_ns);
            lookups.get(before.saturating_sub(1)).map(|(_, name)| *name)
        };
        let of_flow = self.of_flows.get(&(end, time_ns)).copied();
        of_flow
            .or_else(|| self.of_endpoints.get(&end).copied())
            .or_else(lookup)
            .or_else(|| self.of_addresses.get(&end.ip()).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_the_name_that_was_asked_for_before_each_attempt() {
        let end = |port| SocketAddr::from(([203, 0, 113, 20], port));
        let names = AttemptNames {
            of_flows: HashMap::from([((end(81), 40), "new.example")]),
            of_endpoints: HashMap::from([(end(81), "api.example"), (end(82), "new.example")]),
            of_lookups: HashMap::from([(end(0).ip(), vec![(10, "api.example"), (20, "new.example")])]),
            of_addresses: HashMap::from([(end(0).ip(), "api.example"), ([192, 0, 2, 1].into(), "other.example")]),
        };
        assert_eq!(names.name_of(end(81), 40), Some("new.example"), "by its flow");
        assert_eq!(names.name_of(end(81), 30), Some("api.example"), "by its endpoint");
        assert_eq!(names.name_of(end(82), 30), Some("new.example"));
        assert_eq!(names.name_of(end(83), 15), Some("api.example"), "by the lookup before it");
        assert_eq!(names.name_of(end(83), 25), Some("new.example"));
        assert_eq!(names.name_of(end(83), 5), Some("api.example"), "the clocks of packets and calls may differ");
        assert_eq!(names.name_of(([192, 0, 2, 1], 9).into(), 0), Some("other.example"));
        assert_eq!(names.name_of(([192, 0, 2, 2], 9).into(), 0), None);
    }
}
