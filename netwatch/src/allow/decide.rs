//! The matcher: whether a rule allows an access, and how far the nearest rule is from it.

use super::access::{AccessTarget, NetworkAccess, ProvenProgram};
use super::date::PolicyDate;
use super::pattern::NamePattern;
use super::rule::{AllowList, AllowRule, AllowedProtocol, NameEvidence, PortRange};
use crate::wire::Name;

/// The decision about an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The rule with this index allows it.
    Allowed(usize),
    /// No rule allows it. The nearest one, if one is near.
    Denied(Option<NearestRule>),
}

/// A rule that almost allows an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestRule {
    /// Its index.
    pub rule: usize,
    /// Why it does not apply.
    pub mismatches: Vec<Mismatch>,
}

/// Why a rule does not allow an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// It has expired.
    Expired(PolicyDate),
    /// The server name does not match, although DNS gave a name of the rule this address.
    Contradicted,
    /// The server name matches, but no DNS response gave a name of the rule this address.
    NotAnswered,
    /// A DNS response gave a name of the rule this address, but the rule requires a server name.
    NoServerName,
    /// No program of the rule is proven to be the only user.
    Process,
    /// Another port.
    Port,
    /// Another protocol.
    Protocol,
    /// The other direction.
    Direction,
    /// Another name, in the same domain.
    OtherNameInDomain,
    /// Another name.
    Name,
    /// Another address.
    Address,
}

impl AllowList {
    /// Decides about an access on a day. The first rule that allows it counts. This defines what a
    /// list means; [`super::CompiledList`] makes the same decision without examining every rule.
    pub fn decide(&self, access: &NetworkAccess, today: PolicyDate) -> Decision {
        self.decide_among(0..self.rules.len(), access, today)
    }

    /// Decides by these rules only, in the order of the file.
    pub(super) fn decide_among(
        &self,
        rules: impl IntoIterator<Item = usize>,
        access: &NetworkAccess,
        today: PolicyDate,
    ) -> Decision {
        let mut nearest: Option<(u32, NearestRule)> = None;
        for index in rules {
            let mismatches = self.rules[index].mismatches(access, today);
            if mismatches.is_empty() {
                return Decision::Allowed(index);
            }
            let Some(distance) = distance(&mismatches) else { continue };
            if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
                nearest = Some((distance, NearestRule { rule: index, mismatches }));
            }
        }
        Decision::Denied(nearest.map(|(_, nearest)| nearest))
    }
}

/// How far a rule is from an access; `None` if it concerns another remote.
fn distance(mismatches: &[Mismatch]) -> Option<u32> {
    mismatches.iter().try_fold(0, |sum, mismatch| {
        Some(
            sum + match mismatch {
                Mismatch::Expired(_) => 1,
                Mismatch::Contradicted | Mismatch::NotAnswered | Mismatch::NoServerName => 2,
                Mismatch::Process | Mismatch::Port => 3,
                Mismatch::Protocol => 4,
                Mismatch::OtherNameInDomain => 8,
                Mismatch::Direction => 12,
                Mismatch::Name | Mismatch::Address => return None,
            },
        )
    })
}

/// The nearer of the rules nearest to two accesses. The same rule has the mismatches of both.
pub(super) fn nearer(one: Option<NearestRule>, other: Option<NearestRule>) -> Option<NearestRule> {
    let (mut one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    if one.rule != other.rule {
        let rank = |nearest: &NearestRule| (distance(&nearest.mismatches).unwrap_or(u32::MAX), nearest.rule);
        return Some(if rank(&other) < rank(&one) { other } else { one });
    }
    one.mismatches.extend(other.mismatches);
    one.mismatches.sort_unstable();
    one.mismatches.dedup();
    Some(one)
}

impl AllowRule {
    /// Every reason why the rule does not allow an access; empty if it does.
    pub fn mismatches(&self, access: &NetworkAccess, today: PolicyDate) -> Vec<Mismatch> {
        let expired = self.until.filter(|_| self.has_expired(today)).map(Mismatch::Expired);
        let direction = (self.direction != access.direction).then_some(Mismatch::Direction);
        let others = match &access.target {
            AccessTarget::Lookup(name) => vec![self.lookup_mismatch(name)],
            AccessTarget::Service { peer, protocol, port } => vec![
                self.name_mismatch(access),
                mismatch(
                    self.addresses.is_empty() || self.addresses.iter().any(|own| peer.is_in(own)),
                    Mismatch::Address,
                ),
                mismatch(self.protocol.is_none_or(|own| own.allows(*protocol)), Mismatch::Protocol),
                mismatch(self.allows_port(*port), Mismatch::Port),
                mismatch(self.allows_programs(access), Mismatch::Process),
            ],
        };
        [expired, direction].into_iter().chain(others).flatten().collect()
    }

    /// A rule with a name allows lookups of the name, regardless of its address, port, protocol and
    /// process.
    fn lookup_mismatch(&self, name: &Name) -> Option<Mismatch> {
        match self.names.iter().any(|own| own.matches(name)) {
            true => None,
            false => Some(self.near(name)),
        }
    }

    fn name_mismatch(&self, access: &NetworkAccess) -> Option<Mismatch> {
        if self.names.is_empty() {
            return None;
        }
        let matches = |name: &Name| self.names.iter().any(|own| own.matches(name));
        let is_answered = access.asked.iter().any(|asked| matches(&asked.name));
        let has_claim = !access.claimed.is_empty();
        let is_claimed = has_claim.then(|| access.claimed.iter().all(|claimed| matches(&claimed.name)));
        let is_proven = match self.evidence {
            NameEvidence::Both => is_answered && is_claimed != Some(false),
            NameEvidence::Dns => is_answered,
            NameEvidence::ServerName => is_claimed == Some(true),
        };
        if is_proven {
            return None;
        }
        Some(match (is_answered, is_claimed) {
            (true, Some(false)) => Mismatch::Contradicted,
            (true, _) => Mismatch::NoServerName,
            (false, Some(true)) => Mismatch::NotAnswered,
            (false, _) => access.name().map_or(Mismatch::Name, |known| self.near(&known.name)),
        })
    }

    /// How a name differs from those of the rule. Names in the same domain share at least two
    /// labels.
    fn near(&self, name: &Name) -> Mismatch {
        let is_near = |own: &NamePattern| own.shares_domain(name);
        if self.names.iter().any(is_near) { Mismatch::OtherNameInDomain } else { Mismatch::Name }
    }

    fn allows_port(&self, port: Option<u16>) -> bool {
        let is_in = |port: u16| self.ports.iter().any(|range: &PortRange| range.contains(port));
        self.ports.is_empty() || port.is_some_and(is_in)
    }

    /// Every program that used the connection has to be in the rule.
    fn allows_programs(&self, access: &NetworkAccess) -> bool {
        let is_own = |program: &ProvenProgram| {
            let matches = |own: &String| match own.contains('/') {
                true => program.path.as_ref() == Some(own),
                false => program.name == *own,
            };
            self.processes.iter().any(matches)
        };
        self.processes.is_empty() || (!access.proven.is_empty() && access.proven.iter().all(is_own))
    }

    /// Whether the rule allows lookups only.
    pub(super) fn is_for_lookups(&self) -> bool {
        self.protocol == Some(AllowedProtocol::Lookup)
    }
}

fn mismatch(matches: bool, otherwise: Mismatch) -> Option<Mismatch> {
    (!matches).then_some(otherwise)
}
