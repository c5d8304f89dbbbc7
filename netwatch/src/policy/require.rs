//! What must be opened, from the reports of one or several runs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::RuleOptions;
use super::generalize::generalize;
use super::need::{Need, Pattern, Service, host};
use super::peers::Peers;
use super::text::comment;
use crate::flow::{Direction, Endpoint, Failed, Remote};
use crate::process::{Attempt, AttemptCause, AttemptTarget};
use crate::report::{AddressRole, Report, ReportEndpoint};
use crate::wire::Name;
use crate::wire::port;

/// A run that this was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRun {
    /// The run's id, or the capture's name.
    pub from: String,
    /// The program, without folders and arguments: those may be nobody else's business. Empty for a capture.
    pub program: String,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
}

/// Everything that has to be opened, and what is known to be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The runs.
    pub made: Vec<SourceRun>,
    /// What is to be opened, out before in, named before unnamed.
    pub needs: Vec<Need>,
    /// Multicast and broadcast that was sent.
    pub groups: Vec<Need>,
    /// What was tried and never worked.
    pub failed: Vec<Need>,
    /// Names were looked up by the machine's own resolvers, whoever these are.
    pub dns: bool,
    /// What is left out on purpose, harmless text for comments.
    pub left_out: Vec<String>,
    /// Why more may be needed than is listed, harmless text for comments.
    pub gaps: Vec<String>,
}

impl Requirements {
    /// Reads them off the reports.
    pub fn of(reports: &[&Report], options: &RuleOptions) -> Self {
        let mut collected = Collected::default();
        reports.iter().for_each(|report| collected.add_report(report, options));
        collected.finish(options)
    }

    /// Needs of one direction.
    pub fn of_direction(&self, direction: Direction) -> impl Iterator<Item = &Need> {
        self.needs.iter().filter(move |need| need.direction == direction)
    }

    /// The program that most of this is about.
    pub fn program(&self) -> &str {
        self.made.iter().map(|made| made.program.as_str()).find(|program| !program.is_empty()).unwrap_or_default()
    }
}

/// Named needs come first, in the order of their names.
type Key = (Direction, bool, Option<Name>, Service);

#[derive(Default)]
struct Collected {
    made: Vec<SourceRun>,
    needs: BTreeMap<Key, Need>,
    groups: BTreeMap<Key, Need>,
    failed: BTreeMap<Key, Need>,
    dns: bool,
    left_out: BTreeSet<String>,
    gaps: BTreeSet<String>,
}

impl Collected {
    fn add_report(&mut self, report: &Report, options: &RuleOptions) {
        self.made.push(made(report));
        let peers = Peers::of(report);
        for known in &report.endpoints {
            self.add_endpoint(report, &peers, known, options);
        }
        self.gaps.extend(gaps(report));
    }

    fn add_endpoint(&mut self, report: &Report, peers: &Peers<'_>, known: &ReportEndpoint, options: &RuleOptions) {
        let Endpoint { key, .. } = &known.endpoint;
        let Remote::Address(address) = key.remote else {
            // The report says so itself.
            return;
        };
        let Some(service) = Service::of(key) else {
            self.left_out
                .insert("fragments whose beginning was not seen: connection tracking puts them together".into());
            return;
        };
        if self.is_dns(report, known, address) {
            self.dns = true;
            return;
        }
        if service == Service::Echo && key.direction == Direction::Ingress {
            self.left_out.insert(
                "ICMP that others began: errors belong to connections, and no program needs to be pinged".into(),
            );
            return;
        }
        match report.interface.role_of(address) {
            AddressRole::OwnLink => {}
            AddressRole::Gateway => {
                self.left_out.insert(on_machine(service, key.direction));
            }
            AddressRole::Group => put(&mut self.groups, need(known, service, address, None)),
            AddressRole::Other => self.add_peer(peers, known, service, address, options),
        }
    }

    /// In a capture nobody knows which of the DNS servers were the machine's own resolvers: all are taken for them.
    fn is_dns(&self, report: &Report, known: &ReportEndpoint, address: IpAddr) -> bool {
        let key = &known.endpoint.key;
        let is_query = key.port == port::DNS && key.direction == Direction::Egress && key.protocol.has_ports();
        is_query && !address.is_multicast() && (report.replay.is_some() || report.interface.gateway.contains(&address))
    }

    fn add_peer(
        &mut self,
        peers: &Peers<'_>,
        known: &ReportEndpoint,
        service: Service,
        address: IpAddr,
        options: &RuleOptions,
    ) {
        if known.endpoint.key.direction == Direction::Ingress {
            return self.put_peer(known, need(known, service, address, None), options);
        }
        let names = peers.names(known);
        let named = names.iter().map(|name| Some(*name));
        // Without a name it is still a peer.
        for name in named.chain(names.is_empty().then_some(None)) {
            let mut need = need(known, service, address, name);
            let asked = peers.asked(known, name);
            if options.with_answers {
                let more = name.into_iter().flat_map(|name| peers.answers(name)).map(host);
                need.peers.extend(more);
            }
            need.unasked = if asked.is_empty() { need.peers.clone() } else { BTreeSet::new() };
            need.asked = asked.into_iter().cloned().map(Pattern::Exact).collect();
            self.put_peer(known, need, options);
        }
    }

    fn put_peer(&mut self, known: &ReportEndpoint, need: Need, options: &RuleOptions) {
        let only_failed = known.endpoint.has_only_failed() && !options.with_failed;
        put(if only_failed { &mut self.failed } else { &mut self.needs }, need);
    }

    fn finish(mut self, options: &RuleOptions) -> Requirements {
        self.forget_failures_that_worked();
        self.gaps.extend(self.ephemeral());
        let values = |needs: BTreeMap<Key, Need>| needs.into_values().collect::<Vec<_>>();
        let mut needs = values(self.needs);
        if let Some(rules) = &options.generalize {
            needs = generalize(needs, rules);
        }
        Requirements {
            made: self.made,
            needs,
            groups: values(self.groups),
            failed: values(self.failed),
            dns: self.dns,
            left_out: self.left_out.into_iter().collect(),
            gaps: self.gaps.into_iter().collect(),
        }
    }

    /// What failed in one run and worked in another is needed.
    fn forget_failures_that_worked(&mut self) {
        for (key, failed) in &mut self.failed {
            if let Some(need) = self.needs.get(key) {
                failed.peers.retain(|peer| !need.peers.contains(peer));
            }
        }
        self.failed.retain(|_, need| !need.peers.is_empty());
    }

    fn ephemeral(&self) -> Option<String> {
        let services: BTreeSet<String> = self
            .needs
            .values()
            .filter(|need| need.service.is_ephemeral())
            .map(|need| need.service.to_string())
            .collect();
        let first: Vec<&str> = services.iter().take(5).map(String::as_str).collect();
        let more = if services.len() > first.len() { " and others" } else { "" };
        let listed = first.join(", ");
        (!services.is_empty())
            .then(|| format!("{listed}{more}: ports from which systems choose at will, the next run may need others"))
    }
}

fn made(report: &Report) -> SourceRun {
    let program = report.run.command.first().map(|path| file_name(path));
    match &report.replay {
        // Whoever reads the rules need not know where captures are kept here.
        Some(replay) => {
            SourceRun { from: file_name(&replay.file), program: String::new(), started_ns: replay.started_ns }
        }
        None => SourceRun {
            from: report.run.id.clone(),
            program: program.unwrap_or_default(),
            started_ns: report.run.started_ns,
        },
    }
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn on_machine(service: Service, direction: Direction) -> String {
    match direction {
        Direction::Egress => {
            format!("{service} of the machine itself, by the run's gateway: nothing has to be opened for it")
        }
        Direction::Ingress => format!("{service} asked for by the machine itself: nothing has to be opened for that"),
    }
}

fn need(known: &ReportEndpoint, service: Service, address: IpAddr, name: Option<&Name>) -> Need {
    Need {
        direction: known.endpoint.key.direction,
        service,
        name: name.cloned().map(Pattern::Exact),
        peers: BTreeSet::from([host(address)]),
        asked: BTreeSet::new(),
        unasked: BTreeSet::from([host(address)]),
        failed: known.endpoint.failed,
    }
}

fn put(needs: &mut BTreeMap<Key, Need>, need: Need) {
    let name = need.name.as_ref().map(|name| match name {
        Pattern::Exact(name) | Pattern::Below(name) => name.clone(),
    });
    let key = (need.direction, name.is_none(), name, need.service);
    match needs.get_mut(&key) {
        Some(known) => known.absorb(need),
        None => drop(needs.insert(key, need)),
    }
}

/// `1 refused, 2 unanswered`.
pub(super) fn failure(failed: &Failed) -> String {
    let kinds = [
        (failed.refused, "refused"),
        (failed.unanswered, "unanswered"),
        (failed.reset, "reset in the handshake"),
        (failed.unreachable, "unreachable (ICMP)"),
    ];
    let said: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}")).collect();
    if said.is_empty() { "not answered".to_owned() } else { said.join(", ") }
}

/// What this report does not know.
fn gaps(report: &Report) -> Vec<String> {
    let from = comment(&made(report).from, 80);
    let mut gaps: Vec<String> = report.gaps().iter().map(|gap| format!("{from}: {}", comment(gap, 300))).collect();
    let has_v6 = report.replay.is_some() || report.interface.local.iter().any(IpAddr::is_ipv6);
    if !has_v6 {
        gaps.push(format!("{from}: there was no IPv6, what its names have there is not listed"));
    }
    let at_once = at_once(report);
    gaps.extend(at_once.iter().take(MAX_AT_ONCE).map(|tried| format!("{from}: {tried}")));
    let more = at_once.len().saturating_sub(MAX_AT_ONCE);
    if more > 0 {
        gaps.push(format!("{from}: {more} more addresses failed at once"));
    }
    gaps
}

/// Attempts that failed at once and are named in a header.
const MAX_AT_ONCE: usize = 5;

/// Attempts elsewhere that failed before a packet was sent, and never got through: no endpoint knows of them.
fn at_once(report: &Report) -> Vec<String> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint.key);
    let out = endpoints.filter(|key| key.direction == Direction::Egress);
    let listed: HashSet<_> = out.map(|key| (key.remote, key.protocol, key.port)).collect();
    let said = |attempt: &Attempt| {
        let (AttemptTarget::Address(end), AttemptCause::Errno(_) | AttemptCause::NoPacket) =
            (&attempt.target, &attempt.cause)
        else {
            return None;
        };
        let is_listed = attempt
            .protocol
            .is_some_and(|protocol| listed.contains(&(Remote::Address(end.ip()), protocol, end.port())));
        let is_elsewhere = report.interface.role_of(end.ip()) == AddressRole::Other;
        let protocol = attempt.protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
        (is_elsewhere && !is_listed)
            .then(|| format!("{protocol}{end} failed at once ({}), so it is not listed", attempt.cause.name()))
    };
    report.attempts.iter().filter_map(said).collect()
}
