//! An allow-list as the tables that a kernel has: each table returns the set of rules that match
//! one property of an access, and the access is allowed if a rule is in all sets.

use std::collections::HashMap;

use ipnet::IpNet;
use netwatch::allow::{
    AccessPeer, AccessTarget, AllowList, AllowedAddress, Decision, NameEvidence, NamePattern, NetworkAccess,
};
use netwatch::flow::Protocol;
use netwatch::wire::Name;
use proptest::prelude::*;

use crate::matching::{any_access, any_rule};
use crate::{policy, today};

/// A set of rules: one bit for each.
type Rules = u64;

/// A map by the longest prefix that contains a key, as the kernel has for addresses. The value of a
/// prefix includes those of the shorter prefixes that contain it.
struct PrefixTable(Vec<(IpNet, Rules)>);

impl PrefixTable {
    fn get(&self, peer: AccessPeer) -> Rules {
        let AccessPeer::Address(address) = peer else { return 0 };
        let matching = self.0.iter().filter(|(net, _)| net.contains(&address));
        matching.max_by_key(|(net, _)| net.prefix_len()).map_or(0, |(_, rules)| *rules)
    }
}

/// The same for names: labels from the last one. The first set matches the name itself, the second
/// the names below it.
struct NameTable(HashMap<Vec<String>, (Rules, Rules)>);

fn labels(name: &str) -> Vec<String> {
    name.split('.').rev().map(str::to_owned).collect()
}

impl NameTable {
    fn get(&self, name: &Name) -> Rules {
        let labels = labels(name.as_str());
        let exact = self.0.get(&labels).map_or(0, |(exact, _)| *exact);
        let parents = (1..labels.len()).filter_map(|length| self.0.get(&labels[..length]));
        parents.fold(exact, |rules, (_, below)| rules | below)
    }
}

struct Tables {
    unexpired: Rules,
    directions: [Rules; 2],
    protocols: HashMap<Protocol, Rules>,
    ports: HashMap<u16, Rules>,
    any_port: Rules,
    addresses: PrefixTable,
    any_address: Rules,
    names: NameTable,
    any_name: Rules,
    by_both: Rules,
}

/// The rules that have a property.
fn rules(list: &AllowList, has: impl Fn(&netwatch::allow::AllowRule) -> bool) -> Rules {
    list.rules.iter().enumerate().filter(|(_, rule)| has(rule)).fold(0, |set, (index, _)| set | 1 << index)
}

impl Tables {
    fn compile(list: &AllowList) -> Self {
        let nets = list.rules.iter().flat_map(|rule| &rule.addresses).filter_map(|address| match address {
            AllowedAddress::Net(net) => Some(*net),
            AllowedAddress::Host => None,
        });
        let covers = |own: &AllowedAddress, net: &IpNet| matches!(own, AllowedAddress::Net(own) if own.contains(net));
        let addresses =
            nets.map(|net| (net, rules(list, |rule| rule.addresses.iter().any(|own| covers(own, &net))))).collect();
        let mut names: HashMap<Vec<String>, (Rules, Rules)> = HashMap::new();
        for (index, rule) in list.rules.iter().enumerate() {
            for name in &rule.names {
                let (NamePattern::Exact(text) | NamePattern::Below(text)) = name;
                let (exact, below) = names.entry(labels(text)).or_default();
                *(if matches!(name, NamePattern::Exact(_)) { exact } else { below }) |= 1 << index;
            }
        }
        let protocol = |protocol| (protocol, rules(list, |rule| rule.protocol.is_none_or(|own| own.allows(protocol))));
        Self {
            unexpired: rules(list, |rule| !rule.has_expired(today())),
            directions: [true, false].map(|is_out| rules(list, |rule| (rule.direction.of_flow() == "out") == is_out)),
            protocols: [Protocol::TCP, Protocol::UDP].map(protocol).into(),
            ports: (0..=u16::MAX)
                .map(|port| (port, rules(list, |rule| rule.ports.iter().any(|range| range.contains(port)))))
                .filter(|(_, rules)| *rules != 0)
                .collect(),
            any_port: rules(list, |rule| rule.ports.is_empty()),
            addresses: PrefixTable(addresses),
            any_address: rules(list, |rule| rule.addresses.is_empty()),
            names: NameTable(names),
            any_name: rules(list, |rule| rule.names.is_empty()),
            by_both: rules(list, |rule| rule.evidence == NameEvidence::Both),
        }
    }

    fn allows(&self, access: &NetworkAccess) -> bool {
        let direction = self.directions[usize::from(access.direction.of_flow() != "out")];
        let matching = match &access.target {
            AccessTarget::Lookup(name) => self.names.get(name),
            AccessTarget::Service { peer, protocol, port } => {
                let protocols = self.protocols.get(protocol).copied().unwrap_or_default();
                let ports = port.and_then(|port| self.ports.get(&port)).copied().unwrap_or_default();
                protocols
                    & (ports | self.any_port)
                    & (self.addresses.get(*peer) | self.any_address)
                    & self.named(access)
            }
        };
        self.unexpired & direction & matching != 0
    }

    fn named(&self, access: &NetworkAccess) -> Rules {
        let asked = access.asked.iter().fold(0, |rules, asked| rules | self.names.get(&asked.name));
        let claimed = access.claimed.iter().fold(Rules::MAX, |rules, claimed| rules & self.names.get(&claimed.name));
        self.any_name | (self.by_both & asked & claimed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn tables_decide_as_the_rules_do(
        rules in prop::collection::vec(any_rule(), 0..6), accesses in prop::collection::vec(any_access(), 1..8)
    ) {
        let list = policy(&rules.concat());
        let tables = Tables::compile(&list);
        for access in accesses {
            let is_allowed = matches!(list.decide(&access, today()), Decision::Allowed(_));
            prop_assert_eq!(tables.allows(&access), is_allowed, "{:?}\n{}", access, rules.concat());
        }
    }
}
