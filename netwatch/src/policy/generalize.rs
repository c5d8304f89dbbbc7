//! Fewer and wider rules, by stated rules: addresses into prefixes, names into wildcards, ports into the ephemeral range.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::need::{Need, Pattern, Service, is_host_name};
use crate::flow::{Direction, FIRST_EPHEMERAL_PORT};
use crate::wire::Name;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generalize {
    /// The shortest IPv4 prefix.
    pub v4: u8,
    /// The shortest IPv6 prefix.
    pub v6: u8,
    /// Siblings from which on a wildcard stands for them.
    pub names: usize,
}

impl Default for Generalize {
    fn default() -> Self {
        Self { v4: 24, v6: 64, names: 3 }
    }
}

/// Addresses of one name, and of none or a wildcard, from which on a prefix stands for them: without one name, two neighbours may be strangers.
const ADDRESSES_NAMED: usize = 2;
const ADDRESSES_OTHERS: usize = 3;
/// Ephemeral ports of one peer from which on the whole range stands for them.
const PORTS: usize = 3;

/// Applies the rules, in this order:
///
/// 1. A peer that needs three or more ports of the ephemeral range (32768–65535) by one protocol gets the range.
/// 2. Names that have the same parent, one label more than it, and the same service, become `*.parent` when there are
///    [`Generalize::names`] of them. Never below a public suffix (publicsuffix.org, private part included: not `*.co.uk`, not `*.github.io`), which
///    leaves out parents of a single label too.
/// 3. Addresses of one need that share a prefix of [`Generalize::v4`] or [`Generalize::v6`] bits become the smallest prefix that covers
///    them, when there are two of them (three where they have no name, or that of a wildcard).
pub fn generalize(needs: Vec<Need>, rules: &Generalize) -> Vec<Need> {
    let mut needs = wildcards(ports(needs), rules.names.max(2));
    for need in &mut needs {
        let least = if let Some(Pattern::Exact(_)) = need.name { ADDRESSES_NAMED } else { ADDRESSES_OTHERS };
        let wide = prefixes(&need.peers, rules, least);
        need.unasked = match need.unasked == need.peers {
            true => wide.clone(),
            false => wide.iter().filter(|net| need.unasked.iter().any(|one| net.contains(one))).copied().collect(),
        };
        need.peers = wide;
    }
    needs
}

fn ports(needs: Vec<Need>) -> Vec<Need> {
    let wide = |service| match service {
        Service::Ports(protocol, first, _) if first >= FIRST_EPHEMERAL_PORT => {
            Some(Service::Ports(protocol, FIRST_EPHEMERAL_PORT, u16::MAX))
        }
        _ => None,
    };
    let needs: Vec<Need> = needs.into_iter().flat_map(by_peer).collect();
    // Peers without a name are told apart by their addresses.
    let peer = |need: &Need| (need.name.clone(), need.name.is_none().then(|| need.peers.clone()));
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, need) in needs.iter().enumerate() {
        // Many ports in: whoever opens a range to everybody should do it by hand.
        if let (Direction::Egress, Some(service)) = (need.direction, wide(need.service)) {
            groups.entry((need.direction, peer(need), service)).or_default().push(at);
        }
    }
    let mut result: Vec<Option<Need>> = needs.into_iter().map(Some).collect();
    for ((_, _, service), members) in groups {
        if distinct(&members, |at| result[at].as_ref().map(|need| need.service)) < PORTS {
            continue;
        }
        fold(&mut result, &members, |need| need.service = service);
    }
    together(result.into_iter().flatten())
}

/// Peers without a name that are asked for an ephemeral port, each by itself; other needs as they are.
fn by_peer(need: Need) -> Vec<Need> {
    if need.name.is_some() || need.direction == Direction::Ingress || !need.service.is_ephemeral() {
        return vec![need];
    }
    let mut failed = need.failed;
    let one = |peer: &IpNet| {
        let is_unasked = need.unasked.contains(peer);
        Need {
            peers: BTreeSet::from([*peer]),
            asked: if is_unasked { BTreeSet::new() } else { need.asked.clone() },
            unasked: is_unasked.then_some(*peer).into_iter().collect(),
            // Counted once.
            failed: std::mem::take(&mut failed),
            ..need.clone()
        }
    };
    need.peers.iter().map(one).collect()
}

/// One need again of those without a name that are asked for the same, where the first of them is.
fn together(needs: impl Iterator<Item = Need>) -> Vec<Need> {
    let mut result: Vec<Need> = Vec::new();
    let mut places: BTreeMap<(Direction, Service), usize> = BTreeMap::new();
    for need in needs {
        let key = (need.direction, need.service);
        match places.get(&key).filter(|_| need.name.is_none()) {
            Some(at) => result[*at].absorb(need),
            None => {
                if need.name.is_none() {
                    places.insert(key, result.len());
                }
                result.push(need);
            }
        }
    }
    result
}

fn wildcards(needs: Vec<Need>, least: usize) -> Vec<Need> {
    let mut siblings: BTreeMap<(Service, Name), Vec<usize>> = BTreeMap::new();
    for (at, need) in needs.iter().enumerate() {
        if let (Direction::Egress, Some(Pattern::Exact(name))) = (need.direction, &need.name)
            && let Some(parent) = parent(name)
        {
            siblings.entry((need.service, parent)).or_default().push(at);
        }
    }
    let mut result: Vec<Option<Need>> = needs.into_iter().map(Some).collect();
    for ((_, parent), members) in siblings {
        if distinct(&members, |at| result[at].as_ref().and_then(|need| need.name.clone())) < least {
            continue;
        }
        fold(&mut result, &members, |need| {
            let asked_all = need.unasked.is_empty() && need.asked.iter().all(|asked| is_below(asked, &parent));
            need.name = Some(Pattern::Below(parent.clone()));
            if asked_all {
                need.asked = BTreeSet::from([Pattern::Below(parent.clone())]);
            }
        });
    }
    result.into_iter().flatten().collect()
}

/// How many different things the members are.
fn distinct<T: Ord>(members: &[usize], of: impl Fn(usize) -> T) -> usize {
    members.iter().map(|at| of(*at)).collect::<BTreeSet<T>>().len()
}

/// Puts the members together where the first of them is, and changes what they became.
fn fold(needs: &mut [Option<Need>], members: &[usize], change: impl FnOnce(&mut Need)) {
    let mut together = members.iter().filter_map(|at| needs[*at].take());
    let Some(mut first) = together.next() else { return };
    together.for_each(|need| first.absorb(need));
    change(&mut first);
    needs[members[0]] = Some(first);
}

fn is_below(pattern: &Pattern, of: &Name) -> bool {
    matches!(pattern, Pattern::Exact(name) if parent(name).as_ref() == Some(of))
}

/// The name without its first label, if names below it may be taken together.
fn parent(name: &Name) -> Option<Name> {
    let (_, parent) = name.as_str().split_once('.')?;
    let suffix = psl::suffix_str(parent)?;
    let may = is_host_name(name.as_str()) && parent != suffix && parent.contains('.');
    may.then(|| Name::new(parent.as_bytes())).flatten()
}

fn prefixes(peers: &BTreeSet<IpNet>, rules: &Generalize, least: usize) -> BTreeSet<IpNet> {
    let mut groups: BTreeMap<IpNet, Vec<IpNet>> = BTreeMap::new();
    for peer in peers {
        let length = if peer.addr().is_ipv4() { rules.v4.min(32) } else { rules.v6.min(128) };
        let widest = IpNet::new(peer.addr(), length.min(peer.prefix_len())).map_or(*peer, |net| net.trunc());
        groups.entry(widest).or_default().push(*peer);
    }
    let folded = |group: Vec<IpNet>| if group.len() >= least { vec![covering(&group)] } else { group };
    groups.into_values().flat_map(folded).collect()
}

/// The smallest prefix that covers all of them; they are of one family.
fn covering(nets: &[IpNet]) -> IpNet {
    let (first, last) = (nets[0], nets[nets.len() - 1]);
    let mut wide = first;
    while !wide.contains(&last) {
        match wide.supernet() {
            Some(net) => wide = net,
            None => break,
        }
    }
    // In the order of addresses, what covers the first and the last covers all between them.
    wide.trunc()
}
