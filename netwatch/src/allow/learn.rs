//! Generates the smallest allow-list that allows what reports contain: exact names, addresses and
//! ports, in as few rules as possible.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::access::{AccessTarget, NetworkAccess};
use super::date::PolicyDate;
use super::decide::{Decision, Mismatch, NearestRule};
use super::gather::accesses;
use super::parse_rule::is_address;
use super::pattern::NamePattern;
use super::rule::{AllowList, AllowRule, AllowedAddress, AllowedProtocol, NameEvidence, PortRange};
use crate::flow::{Direction, Protocol};
use crate::report::Report;
use crate::wire::Name;

/// A rule, with facts about each of its remotes for comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedRule {
    /// The rule.
    pub rule: AllowRule,
    /// The remotes of the rule in the order of the file, with the facts about each. Empty for a
    /// rule for every remote.
    pub remotes: BTreeMap<LearnedRemote, RemoteFacts>,
}

impl LearnedRule {
    fn add_facts(&mut self, remotes: BTreeMap<LearnedRemote, RemoteFacts>) {
        for (remote, facts) in remotes {
            let known = self.remotes.entry(remote).or_insert_with(|| facts.clone());
            known.programs.extend(facts.programs);
            known.names.extend(facts.names);
            known.only_failed &= facts.only_failed;
        }
    }
}

/// A remote of a learned rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LearnedRemote {
    /// A name.
    Name(NamePattern),
    /// An address.
    Address(AllowedAddress),
}

/// Facts about a remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteFacts {
    /// The programs that used it.
    pub programs: BTreeSet<String>,
    /// Server names that were sent to an address, and that are not proven.
    pub names: BTreeSet<Name>,
    /// Every attempt failed.
    pub only_failed: bool,
}

/// The rules that an allow-list lacks to allow everything in these reports. Rules that have expired
/// do not count.
pub fn learn(reports: &[&Report], list: &AllowList, today: PolicyDate) -> Vec<LearnedRule> {
    let compiled = list.compile();
    let missing = |access: NetworkAccess| {
        let is_open = list.any_lookup && matches!(access.target, AccessTarget::Lookup(_));
        match compiled.decide(&access, today) {
            Decision::Denied(nearest) if !is_open => Some(DeniedAccess::of(access, nearest.as_ref())),
            _ => None,
        }
    };
    let missing = reports.iter().flat_map(|report| accesses(report)).filter_map(missing);
    // A rule for an ephemeral port would allow more than is known to be needed.
    let missing: Vec<DeniedAccess> = missing.filter(|denied| !denied.access.is_remnant).collect();
    rules_for(&missing)
}

/// An access that no rule allows.
pub(super) struct DeniedAccess {
    access: NetworkAccess,
    /// The programs that its rule has to name, because the nearest rule is for other programs. A
    /// rule that names none allows every program.
    programs: BTreeSet<String>,
}

impl DeniedAccess {
    pub fn of(access: NetworkAccess, nearest: Option<&NearestRule>) -> Self {
        let is_by_program = nearest.is_some_and(|nearest| nearest.mismatches.contains(&Mismatch::Process));
        let proven = access.proven.iter().filter(|_| is_by_program);
        let programs = proven.map(|program| program.name.clone()).collect();
        Self { access, programs }
    }
}

/// The fewest rules that allow exactly these accesses, and lookups of their names. Programs share a
/// rule that differs in nothing else.
pub(super) fn rules_for(denied: &[DeniedAccess]) -> Vec<LearnedRule> {
    let mut by_programs: BTreeMap<&BTreeSet<String>, Vec<NetworkAccess>> = BTreeMap::new();
    for DeniedAccess { access, programs } in denied {
        by_programs.entry(programs).or_default().push(access.clone());
    }
    let mut rules: Vec<LearnedRule> = Vec::new();
    let mut of_programs: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    // Those of no program come last: their lookups need no rule if another one has the name.
    for (programs, mut accesses) in by_programs.into_iter().rev() {
        accesses.retain(|access| !is_looked_up_by(access, &rules));
        for learned in rules_of_any_program(&accesses) {
            let same = rules.iter().position(|known| known.rule == learned.rule);
            match same.filter(|at| of_programs.contains_key(at)) {
                Some(at) => {
                    rules[at].add_facts(learned.remotes);
                    of_programs.entry(at).or_default().extend(programs.iter().cloned());
                }
                None => {
                    if !programs.is_empty() {
                        of_programs.insert(rules.len(), programs.clone());
                    }
                    rules.push(learned);
                }
            }
        }
    }
    for (at, programs) in of_programs {
        rules[at].rule.processes = programs.into_iter().collect();
    }
    rules
}

/// Whether it is the lookup of a name that one of the rules contains.
fn is_looked_up_by(access: &NetworkAccess, rules: &[LearnedRule]) -> bool {
    let AccessTarget::Lookup(name) = &access.target else { return false };
    let pattern = NamePattern::exact(name);
    rules.iter().any(|learned| learned.rule.names.contains(&pattern))
}

fn rules_of_any_program(accesses: &[NetworkAccess]) -> Vec<LearnedRule> {
    let mut learning = Learning::default();
    let (lookups, services): (Vec<&NetworkAccess>, Vec<&NetworkAccess>) =
        accesses.iter().partition(|access| matches!(access.target, AccessTarget::Lookup(_)));
    let (proxied, services): (Vec<&NetworkAccess>, Vec<&NetworkAccess>) =
        services.into_iter().partition(|access| access.is_proxied());
    // Accesses with only one possible name come first, so that the others can share it. The rule of
    // a proxy allows more than the same rule without evidence.
    let (sure, choice): (Vec<&NetworkAccess>, Vec<&NetworkAccess>) = services
        .into_iter()
        .partition(|access| !access.claimed.is_empty() || access.own_name.is_some() || access.asked.len() <= 1);
    proxied.into_iter().chain(sure).chain(choice).for_each(|access| learning.add(access));
    lookups.into_iter().for_each(|access| learning.add_lookup(access));
    learning.finish()
}

/// A service that a remote has to be allowed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LearnedService {
    direction: Direction,
    protocol: AllowedProtocol,
    /// The remote is a proxy, so what programs send through it does not contradict its name.
    is_proxy: bool,
}

impl LearnedRemote {
    /// Whether its name is the text of an address.
    fn is_named_address(&self) -> bool {
        matches!(self, Self::Name(NamePattern::Exact(name)) if is_address(name))
    }
}

/// `None` allows every port: of protocols without ports, and of fragments.
type LearnedPorts = BTreeSet<Option<u16>>;

#[derive(Default)]
struct Learning {
    /// By remote; incoming services have none.
    ports: BTreeMap<(LearnedService, Option<LearnedRemote>), (LearnedPorts, RemoteFacts)>,
    /// The names among the remotes.
    names: HashSet<NamePattern>,
}

impl Learning {
    fn add(&mut self, access: &NetworkAccess) {
        let AccessTarget::Service { peer, protocol, port } = &access.target else { return };
        let protocol = match *protocol {
            Protocol::ICMP | Protocol::ICMPV6 => AllowedProtocol::Icmp,
            protocol => AllowedProtocol::Ip(protocol),
        };
        let mut service = LearnedService { direction: access.direction, protocol, is_proxy: false };
        // A policy refuses an address as a name.
        let name = self.name_for(service, *port, access).filter(|remote| !remote.is_named_address());
        let of_proxy = LearnedService { is_proxy: true, ..service };
        if name.as_ref().is_some_and(|name| access.is_proxied() || self.has_rule(of_proxy, *port, name)) {
            service = of_proxy;
        }
        let is_named = name.is_some();
        let remote = match access.direction {
            // Clients are not listed: the next one has another address.
            Direction::Ingress => None,
            Direction::Egress => Some(name.unwrap_or(LearnedRemote::Address(peer.allowed()))),
        };
        let claimed = access.claimed.iter().filter(|_| !is_named);
        self.put(service, remote, *port, access, claimed.map(|known| known.name.clone()).collect());
    }

    /// The name that allows an access, if one is proven. Of several names of one address, the one
    /// that the program asked for; if that is not known, one that already has a rule for the
    /// service.
    fn name_for(&self, service: LearnedService, port: Option<u16>, access: &NetworkAccess) -> Option<LearnedRemote> {
        let remote = |name: &Name| LearnedRemote::Name(NamePattern::exact(name));
        if let Some(own) = &access.own_name {
            return Some(remote(&own.name));
        }
        if let Some(claimed) = access.claimed.first() {
            let is_asked = access.asked.iter().any(|asked| asked.is_same_name(claimed));
            let is_only = access.claimed.iter().all(|other| other.is_same_name(claimed));
            return (is_asked && is_only).then(|| remote(&claimed.name));
        }
        let mut names = access.asked.iter().map(|asked| remote(&asked.name));
        let of_proxy = LearnedService { is_proxy: true, ..service };
        let has_rule = |name: &LearnedRemote| self.has_rule(service, port, name) || self.has_rule(of_proxy, port, name);
        names.clone().find(has_rule).or_else(|| names.next())
    }

    fn has_rule(&self, service: LearnedService, port: Option<u16>, remote: &LearnedRemote) -> bool {
        let known = self.ports.get(&(service, Some(remote.clone())));
        known.is_some_and(|(ports, _)| ports.contains(&port))
    }

    fn put(
        &mut self,
        service: LearnedService,
        remote: Option<LearnedRemote>,
        port: Option<u16>,
        access: &NetworkAccess,
        names: BTreeSet<Name>,
    ) {
        if let Some(LearnedRemote::Name(name)) = &remote {
            self.names.insert(name.clone());
        }
        let fresh = || (LearnedPorts::new(), RemoteFacts { only_failed: true, ..RemoteFacts::default() });
        let (ports, facts) = self.ports.entry((service, remote)).or_insert_with(fresh);
        ports.insert(port);
        facts.programs.extend(access.programs.iter().cloned());
        facts.names.extend(names);
        facts.only_failed &= access.only_failed;
    }

    /// Names that other rules contain may be looked up. Reverse lookups get one rule for all.
    fn add_lookup(&mut self, access: &NetworkAccess) {
        let AccessTarget::Lookup(name) = &access.target else { return };
        if self.names.contains(&NamePattern::exact(name)) {
            return;
        }
        let reverse = ["in-addr.arpa", "ip6.arpa"].map(|zone| NamePattern::Below(zone.to_owned()));
        let pattern = reverse.into_iter().find(|zone| zone.matches(name)).unwrap_or_else(|| NamePattern::exact(name));
        let protocol = AllowedProtocol::Lookup;
        let service = LearnedService { direction: Direction::Egress, protocol, is_proxy: false };
        self.put(service, Some(LearnedRemote::Name(pattern)), None, access, BTreeSet::new());
    }

    /// Remotes with the same ports share a rule; names and addresses do not.
    fn finish(self) -> Vec<LearnedRule> {
        let mut grouped: BTreeMap<(LearnedService, bool, LearnedPorts), BTreeMap<LearnedRemote, RemoteFacts>> =
            BTreeMap::new();
        for ((service, remote), (mut ports, facts)) in self.ports {
            if ports.contains(&None) {
                ports = LearnedPorts::from([None]);
            }
            let is_address = matches!(remote, Some(LearnedRemote::Address(_)));
            let group = grouped.entry((service, is_address, ports)).or_default();
            // The rule of a server has no remotes.
            if let Some(remote) = remote {
                group.insert(remote, facts);
            }
        }
        grouped.into_iter().map(|((service, _, ports), remotes)| learned_rule(service, &ports, remotes)).collect()
    }
}

fn learned_rule(
    service: LearnedService,
    ports: &LearnedPorts,
    remotes: BTreeMap<LearnedRemote, RemoteFacts>,
) -> LearnedRule {
    let mut rule = AllowRule { protocol: Some(service.protocol), ..AllowRule::any(service.direction) };
    rule.ports = ranges(ports);
    rule.evidence = if service.is_proxy { NameEvidence::Dns } else { NameEvidence::Both };
    for remote in remotes.keys() {
        match remote {
            LearnedRemote::Name(pattern) => rule.names.push(pattern.clone()),
            LearnedRemote::Address(address) => rule.addresses.push(*address),
        }
    }
    LearnedRule { rule, remotes }
}

/// Consecutive ports become ranges.
fn ranges(ports: &LearnedPorts) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for port in ports.iter().flatten() {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(*port) => range.last = *port,
            _ => ranges.push(PortRange::one(*port)),
        }
    }
    ranges
}
