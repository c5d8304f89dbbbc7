//! The verdict about runs: violations, uncertainties, and rules that are not needed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::access::{AccessTarget, EvidentName, NetworkAccess};
use super::compiled::CompiledList;
use super::date::PolicyDate;
use super::decide::{Decision, NearestRule, nearer};
use super::gather::accesses;
use super::learn::{DeniedAccess, LearnedRule, rules_for};
use super::pattern::NamePattern;
use super::rule::{AllowList, AllowRule};
use super::uncertain::uncertainties;
use super::write;
use crate::flow::Direction;
use crate::process::file_name;
use crate::report::Report;

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The runs.
    pub runs: Vec<CheckedRun>,
    /// Accesses that no rule allows.
    pub violations: Vec<Violation>,
    /// Lost observations that could hide a violation, each with the run; no full stop.
    pub uncertain: Vec<String>,
    /// Indexes of rules that allowed nothing.
    pub unused: Vec<usize>,
    /// Indexes of rules that have expired.
    pub expired: Vec<usize>,
    /// Sentences about what a check cannot see, without a full stop.
    pub notes: Vec<String>,
    /// Number of kinds of connections that were checked.
    pub checked: usize,
    /// Number of names that were looked up.
    pub lookups: usize,
    /// Uncertainty does not fail the check.
    pub allows_uncertain: bool,
}

/// A run that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRun {
    /// The run's id, or the name of the capture file.
    pub id: String,
    /// The programs that used the network.
    pub programs: Vec<String>,
    /// What ran, for titles: a script, otherwise the programs.
    pub subjects: Vec<String>,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Its length, nanoseconds.
    pub duration_ns: u64,
}

/// Accesses of one kind that no rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Whether the program connected, or a remote.
    pub direction: Direction,
    /// `tcp/443`, `dns`.
    pub service: String,
    /// `tcp`, `icmp`, the number of a protocol, or `dns` for lookups.
    pub protocol: String,
    /// The port of the server, if the protocol has ports.
    pub port: Option<u16>,
    /// The remote: its name, otherwise its address.
    pub remote: String,
    /// Addresses of the remote.
    pub addresses: BTreeSet<IpAddr>,
    /// The name that the program sent, with each source.
    pub claimed: BTreeSet<EvidentName>,
    /// The names that DNS or the hosts file gave the addresses.
    pub asked: BTreeSet<EvidentName>,
    /// The programs.
    pub programs: BTreeSet<String>,
    /// Number of connections or lookups.
    pub count: u64,
    /// Every attempt failed.
    pub only_failed: bool,
    /// The ids of the runs.
    pub runs: BTreeSet<String>,
    /// The nearest rule, with every mismatch of one of the accesses.
    pub nearest: Option<NearestRule>,
    /// The lines of a policy that allow it.
    pub add: String,
}

impl PolicyVerdict {
    /// Whether the check fails.
    pub fn fails(&self) -> bool {
        !self.violations.is_empty() || (!self.uncertain.is_empty() && !self.allows_uncertain)
    }
}

/// Checks reports on a day.
pub fn check(reports: &[&Report], list: &AllowList, today: PolicyDate) -> PolicyVerdict {
    let mut checking =
        Checking { list, compiled: list.compile(), today, used: BTreeSet::new(), denied: BTreeMap::new() };
    let mut verdict = PolicyVerdict {
        runs: Vec::new(),
        violations: Vec::new(),
        uncertain: Vec::new(),
        unused: Vec::new(),
        expired: Vec::new(),
        notes: Vec::new(),
        checked: 0,
        lookups: 0,
        allows_uncertain: list.allow_uncertain,
    };
    for report in reports {
        let run = checked_run(report);
        let decided = checking.add(report, &run.id);
        let is_lookup = |(access, _): &&(NetworkAccess, Decision)| matches!(access.target, AccessTarget::Lookup(_));
        let lookups = decided.iter().filter(is_lookup).count();
        verdict.lookups += lookups;
        verdict.checked += decided.len() - lookups;
        verdict
            .uncertain
            .extend(uncertainties(report, list, &decided).into_iter().map(|text| format!("{}: {text}", run.id)));
        verdict.notes.extend(notes(report).into_iter().map(|text| format!("{}: {text}", run.id)));
        verdict.runs.push(run);
    }
    let rules = list.rules.iter().enumerate();
    verdict.expired = rules.clone().filter(|(_, rule)| rule.has_expired(today)).map(|(index, _)| index).collect();
    let is_unused = |(index, rule): &(usize, &AllowRule)| !checking.used.contains(index) && !rule.has_expired(today);
    verdict.unused = rules.filter(is_unused).map(|(index, _)| index).collect();
    verdict.violations = checking.violations();
    verdict
}

/// The key by which denied accesses are added up: one remote, by its name if it has one, and one
/// service. A server name that no DNS response gave the address may be invented, so its accesses
/// are apart from those of the name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DeniedKey {
    is_lookup: bool,
    direction: Direction,
    service: String,
    remote: String,
    is_unproven: bool,
}

impl DeniedKey {
    fn of(access: &NetworkAccess) -> Self {
        let is_asked = |claimed: &EvidentName| access.asked.iter().any(|asked| asked.is_same_name(claimed));
        Self {
            is_lookup: matches!(access.target, AccessTarget::Lookup(_)),
            direction: access.direction,
            service: access.service(),
            remote: if access.direction == Direction::Ingress { String::new() } else { access.remote() },
            is_unproven: !access.is_proxied() && !access.claimed.iter().all(is_asked),
        }
    }
}

/// Denied accesses of one kind.
struct Denied {
    first: NetworkAccess,
    addresses: BTreeSet<IpAddr>,
    claimed: BTreeSet<EvidentName>,
    asked: BTreeSet<EvidentName>,
    programs: BTreeSet<String>,
    count: u64,
    only_failed: bool,
    runs: BTreeSet<String>,
    nearest: Option<NearestRule>,
    accesses: Vec<DeniedAccess>,
}

struct Checking<'a> {
    list: &'a AllowList,
    compiled: CompiledList<'a>,
    today: PolicyDate,
    used: BTreeSet<usize>,
    denied: BTreeMap<DeniedKey, Denied>,
}

impl Checking<'_> {
    fn add(&mut self, report: &Report, run: &str) -> Vec<(NetworkAccess, Decision)> {
        let mut decided = Vec::new();
        for access in accesses(report) {
            let decision = self.compiled.decide(&access, self.today);
            match &decision {
                Decision::Allowed(index) => drop(self.used.insert(*index)),
                Decision::Denied(_) if self.list.any_lookup && matches!(access.target, AccessTarget::Lookup(_)) => {}
                Decision::Denied(nearest) => self.deny(&access, nearest.as_ref(), run),
            }
            decided.push((access, decision));
        }
        decided
    }

    /// The violations. A lookup of a name with another violation is left out, because the rule for
    /// that also allows the lookup.
    fn violations(self) -> Vec<Violation> {
        let denied = self.denied.into_values().map(|denied| (rules_for(&denied.accesses), denied)).collect::<Vec<_>>();
        let names: HashSet<NamePattern> = denied
            .iter()
            .filter(|(_, denied)| !matches!(denied.first.target, AccessTarget::Lookup(_)))
            .flat_map(|(rules, _)| rules.iter().flat_map(|learned| learned.rule.names.clone()))
            .collect();
        let is_covered = |denied: &Denied| match &denied.first.target {
            AccessTarget::Lookup(name) => names.contains(&NamePattern::exact(name)),
            AccessTarget::Service { .. } => false,
        };
        let kept = denied.into_iter().filter(|(_, denied)| !is_covered(denied));
        kept.map(|(rules, denied)| denied.into_violation(&rules)).collect()
    }

    fn deny(&mut self, access: &NetworkAccess, nearest: Option<&NearestRule>, run: &str) {
        let denied = self.denied.entry(DeniedKey::of(access)).or_insert_with(|| Denied {
            first: access.clone(),
            addresses: BTreeSet::new(),
            claimed: BTreeSet::new(),
            asked: BTreeSet::new(),
            programs: BTreeSet::new(),
            count: 0,
            only_failed: true,
            runs: BTreeSet::new(),
            nearest: None,
            accesses: Vec::new(),
        });
        denied.addresses.extend(access.address());
        denied.claimed.extend(access.claimed.iter().cloned());
        denied.asked.extend(access.asked.iter().cloned());
        denied.programs.extend(access.programs.iter().cloned());
        denied.count = denied.count.saturating_add(access.count);
        denied.only_failed &= access.only_failed;
        denied.runs.insert(run.to_owned());
        denied.nearest = nearer(denied.nearest.take(), nearest.cloned());
        denied.accesses.push(DeniedAccess::of(access.clone(), nearest));
    }
}

impl Denied {
    fn into_violation(self, rules: &[LearnedRule]) -> Violation {
        Violation {
            direction: self.first.direction,
            service: self.first.service(),
            protocol: self.first.protocol(),
            port: self.first.port(),
            remote: self.first.remote(),
            addresses: self.addresses,
            claimed: self.claimed,
            asked: self.asked,
            programs: self.programs,
            count: self.count,
            only_failed: self.only_failed,
            runs: self.runs,
            nearest: self.nearest,
            add: write::rules(rules),
        }
    }
}

pub(super) fn checked_run(report: &Report) -> CheckedRun {
    match &report.replay {
        Some(replay) => CheckedRun {
            id: file_name(&replay.file).to_owned(),
            programs: Vec::new(),
            subjects: Vec::new(),
            started_ns: replay.started_ns,
            duration_ns: replay.duration_ns,
        },
        None => CheckedRun {
            id: report.run.id.clone(),
            programs: report.programs(),
            subjects: report.subjects(),
            started_ns: report.run.started_ns,
            duration_ns: report.run.duration_ns,
        },
    }
}

/// Notes about local sockets, which connect the command to processes with unknown traffic outside
/// the namespace.
fn notes(report: &Report) -> Vec<String> {
    let note = |socket: &crate::process::LocalSocket| {
        format!("local socket {}: traffic of the peer process is not captured", socket.path)
    };
    report.used_local_sockets().map(note).collect()
}
