//! An allow-list compiled into tables, so that a decision examines only the rules that can concern
//! an access: maps of names and of their parents, and a map of prefixes by their length. The kernel
//! has the same kinds of maps.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::access::{AccessPeer, AccessTarget, NetworkAccess};
use super::date::PolicyDate;
use super::decide::Decision;
use super::pattern::{NamePattern, domain, normalize, parents};
use super::rule::{AllowList, AllowRule, AllowedAddress, AllowedProtocol, NameEvidence, PortRange};
use crate::flow::Direction;
use crate::wire::Name;

/// Decides like [`AllowList::decide`], in a time that depends on the number of rules that concern
/// an access, and hardly on the total number.
#[derive(Debug)]
pub struct CompiledList<'a> {
    list: &'a AllowList,
    /// By name.
    names: HashMap<&'a str, Vec<usize>>,
    /// By the parent of the names that match.
    parents: HashMap<&'a str, Vec<usize>>,
    /// By the last two labels of names, to find the nearest rule. Of rules that differ only in
    /// their names, only the first is listed.
    domains: HashMap<&'a str, Vec<usize>>,
    /// By prefix: rules with addresses and without names.
    networks: HashMap<IpNet, Vec<usize>>,
    /// The prefix lengths in `networks`, for IPv4 and for IPv6.
    lengths: [BTreeSet<u8>; 2],
    /// Rules with `address = "host"`.
    host: Vec<usize>,
    /// By port: rules for any remote with single ports.
    ports: HashMap<u16, Vec<usize>>,
    /// Other rules for any remote. Of the rules in `ports` that differ only in their ports, the
    /// first is also listed here, because it is the nearest rule if no port matches.
    others: Vec<usize>,
}

/// Everything of a rule that decides about an access, except names and ports.
type RuleConditions<'a> =
    (Direction, NameEvidence, &'a [AllowedAddress], Option<AllowedProtocol>, &'a [String], Option<PolicyDate>);

fn conditions(rule: &AllowRule) -> RuleConditions<'_> {
    (rule.direction, rule.evidence, &rule.addresses, rule.protocol, &rule.processes, rule.until)
}

impl AllowList {
    /// Compiles the list.
    pub fn compile(&self) -> CompiledList<'_> {
        let mut tables = CompiledList {
            list: self,
            names: HashMap::new(),
            parents: HashMap::new(),
            domains: HashMap::new(),
            networks: HashMap::new(),
            lengths: [BTreeSet::new(), BTreeSet::new()],
            host: Vec::new(),
            ports: HashMap::new(),
            others: Vec::new(),
        };
        let mut near = HashSet::new();
        let mut of_any_remote = HashSet::new();
        for (index, rule) in self.rules.iter().enumerate() {
            match (rule.names.is_empty(), rule.addresses.is_empty()) {
                (false, _) => tables.add_names(index, rule, &mut near),
                (true, false) => tables.add_addresses(index, rule),
                (true, true) => tables.add_ports(index, rule, &mut of_any_remote),
            }
        }
        tables
    }
}

impl<'a> CompiledList<'a> {
    fn add_names(
        &mut self,
        index: usize,
        rule: &'a AllowRule,
        near: &mut HashSet<(&'a str, RuleConditions<'a>, &'a [PortRange])>,
    ) {
        for pattern in &rule.names {
            match pattern {
                NamePattern::Exact(name) => self.names.entry(name).or_default().push(index),
                NamePattern::Below(parent) => self.parents.entry(parent).or_default().push(index),
            }
            if let Some(domain) = pattern.domain()
                && near.insert((domain, conditions(rule), &rule.ports))
            {
                self.domains.entry(domain).or_default().push(index);
            }
        }
    }

    fn add_addresses(&mut self, index: usize, rule: &AllowRule) {
        for address in &rule.addresses {
            match address {
                AllowedAddress::Host => self.host.push(index),
                AllowedAddress::Net(net) => {
                    self.networks.entry(net.trunc()).or_default().push(index);
                    self.lengths[usize::from(net.addr().is_ipv6())].insert(net.prefix_len());
                }
            }
        }
    }

    fn add_ports(&mut self, index: usize, rule: &'a AllowRule, known: &mut HashSet<RuleConditions<'a>>) {
        let has_single_ports = !rule.ports.is_empty() && rule.ports.iter().all(|range| range.first == range.last);
        if has_single_ports {
            rule.ports.iter().for_each(|range| self.ports.entry(range.first).or_default().push(index));
        }
        if !has_single_ports || known.insert(conditions(rule)) {
            self.others.push(index);
        }
    }

    /// Decides about an access on a day. The first rule that allows it counts.
    pub fn decide(&self, access: &NetworkAccess, today: PolicyDate) -> Decision {
        self.list.decide_among(self.candidates(access), access, today)
    }

    /// The rules that can allow an access or be the nearest one, in the order of the file.
    fn candidates(&self, access: &NetworkAccess) -> BTreeSet<usize> {
        let mut rules = BTreeSet::new();
        match &access.target {
            AccessTarget::Lookup(name) => self.find_name(name, &mut rules),
            AccessTarget::Service { peer, port, .. } => {
                let names = access.asked.iter().chain(&access.claimed);
                names.for_each(|known| self.find_name(&known.name, &mut rules));
                match peer {
                    AccessPeer::Host => rules.extend(&self.host),
                    AccessPeer::Address(address) => self.find_address(*address, &mut rules),
                }
                rules.extend(port.and_then(|port| self.ports.get(&port)).into_iter().flatten());
                rules.extend(&self.others);
            }
        }
        rules
    }

    fn find_name(&self, name: &Name, rules: &mut BTreeSet<usize>) {
        let name = normalize(name.as_str());
        rules.extend(self.names.get(name.as_str()).into_iter().flatten());
        rules.extend(parents(&name).filter_map(|parent| self.parents.get(parent)).flatten());
        rules.extend(domain(&name).and_then(|domain| self.domains.get(domain)).into_iter().flatten());
    }

    fn find_address(&self, address: IpAddr, rules: &mut BTreeSet<usize>) {
        for length in &self.lengths[usize::from(address.is_ipv6())] {
            let net = IpNet::new(address, *length).map(|net| net.trunc());
            rules.extend(net.ok().and_then(|net| self.networks.get(&net)).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allow::{EvidentName, parse};
    use crate::flow::Protocol;
    use crate::name::NameSource;

    fn access(address: [u8; 4], port: u16, name: &str) -> NetworkAccess {
        let peer = AccessPeer::Address(address.into());
        NetworkAccess {
            direction: Direction::Egress,
            target: AccessTarget::Service { peer, protocol: Protocol::TCP, port: Some(port) },
            claimed: BTreeSet::new(),
            asked: [EvidentName { name: Name::of_text(name), source: NameSource::Dns }].into(),
            own_name: None,
            programs: BTreeSet::new(),
            proven: Vec::new(),
            count: 1,
            only_failed: false,
            is_folded: false,
            is_remnant: false,
        }
    }

    #[test]
    fn a_decision_looks_at_few_of_many_rules() {
        let rule = |at: u32| match at % 4 {
            0 => format!("name = \"h{at}.example.org\"\nport = 443"),
            1 => format!("name = \"*.h{at}.example\"\nport = 443"),
            2 => format!("address = \"10.{}.{}.0/24\"", at >> 8, at & 255),
            _ => format!("port = {}", 30_000 + at),
        };
        let text: String = (0..20_000).map(|at| format!("[[allow]]\n{}\n", rule(at))).collect();
        let list = parse(&text).expect("a policy");
        let compiled = list.compile();
        for (access, allowed) in [
            (access([203, 0, 113, 1], 443, "h8000.example.org"), Some(8000)),
            (access([203, 0, 113, 1], 443, "a.b.h8001.example"), Some(8001)),
            (access([10, 1, 2, 3], 22, "x.test"), Some(258)),
            (access([203, 0, 113, 1], 38_003, "x.test"), Some(8003)),
            (access([203, 0, 113, 1], 443, "h8001.example.org"), None),
            (access([203, 0, 113, 1], 22, "x.test"), None),
        ] {
            let candidates = compiled.candidates(&access);
            assert!(candidates.len() <= 4, "{candidates:?}");
            let decision = compiled.decide(&access, PolicyDate::new(2026, 6, 15));
            assert_eq!(allowed, if let Decision::Allowed(rule) = decision { Some(rule) } else { None });
        }
    }
}
