//! Fewer and wider rules: addresses become prefixes, names wildcards, ports the ephemeral range.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::need::{Need, Pattern, PeerUse, Service, is_host_name};
use crate::flow::{Direction, FIRST_EPHEMERAL_PORT};
use crate::wire::Name;

/// Limits of the generalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generalize {
    /// Length of the shortest IPv4 prefix.
    pub v4: u8,
    /// Length of the shortest IPv6 prefix.
    pub v6: u8,
    /// Minimum number of sibling names that become a wildcard.
    pub names: usize,
}

impl Default for Generalize {
    fn default() -> Self {
        Self { v4: 24, v6: 64, names: 3 }
    }
}

/// Minimum number of addresses of one name that become a prefix.
const MIN_NAMED_ADDRESSES: usize = 2;
/// The same for addresses without a name or of a wildcard, because two adjacent addresses may
/// belong to different owners.
const MIN_OTHER_ADDRESSES: usize = 3;
/// Minimum number of ephemeral ports of one peer that become the whole range.
const MIN_PORTS: usize = 3;

/// Generalizes needs by these rules, in this order:
///
/// 1. Three or more ephemeral ports (32768–65535) of one peer and protocol become the range.
/// 2. [`Generalize::names`] or more names directly below the same parent, with the same service,
///    become `*.parent`. Never directly below a public suffix (publicsuffix.org, private part
///    included: not `*.co.uk`, not `*.github.io`), nor below a single label.
/// 3. Two or more addresses of one need (three without a name, or for a wildcard) that share a
///    prefix of [`Generalize::v4`] or [`Generalize::v6`] bits become the smallest prefix that
///    covers them.
pub fn generalize(needs: Vec<Need>, rules: &Generalize) -> Vec<Need> {
    let mut needs = wildcards(ports(needs), rules.names.max(2));
    for need in &mut needs {
        let least = if let Some(Pattern::Exact(_)) = need.name { MIN_NAMED_ADDRESSES } else { MIN_OTHER_ADDRESSES };
        let wide = prefixes(&need.peers, rules, least);
        need.unqueried = match need.unqueried == need.peers {
            true => wide.clone(),
            false => wide.iter().filter(|net| need.unqueried.iter().any(|one| net.contains(one))).copied().collect(),
        };
        let has = |net: &IpNet, seen| need.peers.iter().any(|one| need.use_of(one) == seen && net.contains(one));
        let not_used: BTreeSet<IpNet> = wide.iter().filter(|net| !has(net, PeerUse::Used)).copied().collect();
        let (attempted, unused) = not_used.into_iter().partition(|net| has(net, PeerUse::Attempted));
        (need.unused, need.attempted) = (unused, attempted);
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
    let needs: Vec<Need> = needs.into_iter().flat_map(split_by_peer).collect();
    // Peers without a name are distinguished by their addresses.
    let peer = |need: &Need| (need.name.clone(), need.name.is_none().then(|| need.peers.clone()));
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, need) in needs.iter().enumerate() {
        // Not for ingress: opening a range of ports to every remote should be a decision of the
        // user.
        if let (Direction::Egress, Some(service)) = (need.direction, wide(need.service)) {
            groups.entry((need.direction, peer(need), service)).or_default().push(at);
        }
    }
    let mut result: Vec<Option<Need>> = needs.into_iter().map(Some).collect();
    for ((_, _, service), members) in groups {
        if distinct(&members, |at| result[at].as_ref().map(|need| need.service)) < MIN_PORTS {
            continue;
        }
        merge_members(&mut result, &members, |need| need.service = service);
    }
    merge(result.into_iter().flatten())
}

/// Splits a need for an ephemeral port without a name into one need for each peer. Other needs stay
/// as they are.
fn split_by_peer(need: Need) -> Vec<Need> {
    if need.name.is_some() || need.direction == Direction::Ingress || !need.service.is_ephemeral() {
        return vec![need];
    }
    let mut failed = need.failed;
    let one = |peer: &IpNet| {
        let is_unqueried = need.unqueried.contains(peer);
        Need {
            peers: BTreeSet::from([*peer]),
            unused: need.unused.contains(peer).then_some(*peer).into_iter().collect(),
            attempted: need.attempted.contains(peer).then_some(*peer).into_iter().collect(),
            queried: if is_unqueried { BTreeSet::new() } else { need.queried.clone() },
            unqueried: is_unqueried.then_some(*peer).into_iter().collect(),
            // Only the first one has the failures, so they are counted once.
            failed: std::mem::take(&mut failed),
            peer_failures: need
                .peer_failures
                .get_key_value(peer)
                .map(|(peer, of)| (*peer, of.clone()))
                .into_iter()
                .collect(),
            ..need.clone()
        }
    };
    need.peers.iter().map(one).collect()
}

/// Merges needs without a name for the same service, at the position of the first.
fn merge(needs: impl Iterator<Item = Need>) -> Vec<Need> {
    let mut result: Vec<Need> = Vec::new();
    let mut positions: BTreeMap<(Direction, Service), usize> = BTreeMap::new();
    for need in needs {
        let key = (need.direction, need.service);
        match positions.get(&key).filter(|_| need.name.is_none()) {
            Some(at) => result[*at].absorb(need),
            None => {
                if need.name.is_none() {
                    positions.insert(key, result.len());
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
        merge_members(&mut result, &members, |need| {
            let all_queried =
                need.unqueried.is_empty() && need.queried.iter().all(|queried| is_below(queried, &parent));
            need.name = Some(Pattern::Below(parent.clone()));
            if all_queried {
                need.queried = BTreeSet::from([Pattern::Below(parent.clone())]);
            }
        });
    }
    result.into_iter().flatten().collect()
}

/// Number of distinct values of the members.
fn distinct<T: Ord>(members: &[usize], of: impl Fn(usize) -> T) -> usize {
    members.iter().map(|at| of(*at)).collect::<BTreeSet<T>>().len()
}

/// Merges the members at the position of the first, and changes the merged need.
fn merge_members(needs: &mut [Option<Need>], members: &[usize], change: impl FnOnce(&mut Need)) {
    let mut merged = members.iter().filter_map(|at| needs[*at].take());
    let Some(mut first) = merged.next() else { return };
    merged.for_each(|need| first.absorb(need));
    change(&mut first);
    needs[members[0]] = Some(first);
}

fn is_below(pattern: &Pattern, of: &Name) -> bool {
    matches!(pattern, Pattern::Exact(name) if parent(name).as_ref() == Some(of))
}

/// The name without its first label, if names below it may become a wildcard.
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

/// The smallest prefix that covers all of these, which have the same address family.
fn covering(nets: &[IpNet]) -> IpNet {
    let (first, last) = (nets[0], nets[nets.len() - 1]);
    let mut wide = first;
    while !wide.contains(&last) {
        match wide.supernet() {
            Some(net) => wide = net,
            None => break,
        }
    }
    // They are sorted by address, so a prefix that covers the first and the last covers all.
    wide.trunc()
}
