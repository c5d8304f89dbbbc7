//! The requirements of a program, from the reports of one or several runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::RuleOptions;
use super::at_once::{self, FailedAtOnce};
use super::families::AskedFamilies;
use super::generalize::generalize;
use super::need::{Need, Pattern, PeerFailures, Service, host};
use super::peers::PeerNames;
use super::purpose::purpose;
use super::text::comment;
use super::unresolved::{Unresolved, UnresolvedName};
use crate::flow::{Direction, Endpoint, EndpointKey, FailedAttempts, Remote};
use crate::process::file_name;
use crate::report::{AddressRole, Report, ReportEndpoint};
use crate::wire::Name;
use crate::wire::port;

/// A run that the requirements come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRun {
    /// The run's id, or the name of the capture file.
    pub id: String,
    /// The programs that used the network, without folders and arguments, which may be
    /// confidential. Empty for a capture.
    pub programs: Vec<String>,
    /// What ran, for titles: a script, otherwise the programs. Empty for a capture.
    pub subjects: Vec<String>,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
}

/// Everything that a firewall must allow, and what is known to be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The runs.
    pub sources: Vec<SourceRun>,
    /// What to open: outgoing before incoming, peers with a name before peers without.
    pub needs: Vec<Need>,
    /// Multicast and broadcast that the program sent.
    pub groups: Vec<Need>,
    /// What the program attempted and never succeeded.
    pub failed: Vec<Need>,
    /// The program used the DNS resolvers of the machine.
    pub dns: bool,
    /// These resolvers, as far as the runs show them.
    pub resolvers: BTreeSet<IpAddr>,
    /// Names that had no address in any run.
    pub unresolved: Vec<UnresolvedName>,
    /// What is left out on purpose, escaped for comments.
    pub left_out: Vec<String>,
    /// Why the list may be incomplete, escaped for comments.
    pub gaps: Vec<String>,
}

impl Requirements {
    /// Collects the requirements of these reports.
    pub fn of(reports: &[&Report], options: &RuleOptions) -> Self {
        let mut collected = Collector::default();
        reports.iter().for_each(|report| collected.add_report(report, options));
        collected.finish(options)
    }

    /// Needs of one direction.
    pub fn of_direction(&self, direction: Direction) -> impl Iterator<Item = &Need> {
        self.needs.iter().filter(move |need| need.direction == direction)
    }

    /// Failed attempts that the needs do not open.
    pub fn not_opened(&self) -> impl Iterator<Item = &Need> {
        let opens = |need: &Need, failed: &Need, peer: &IpNet| {
            need.direction == failed.direction
                && need.service.covers(failed.service)
                && need.peers.iter().any(|own| own.contains(peer))
        };
        let is_opened = move |failed: &Need, peer: &IpNet| self.needs.iter().any(|need| opens(need, failed, peer));
        self.failed.iter().filter(move |failed| !failed.attempted.iter().all(|peer| is_opened(failed, peer)))
    }

    /// What the first run ran; empty if it is not known of any.
    pub fn subject(&self) -> &str {
        self.sources.iter().flat_map(|source| &source.subjects).map(String::as_str).next().unwrap_or_default()
    }

    /// What all runs ran, each once.
    pub fn subjects(&self) -> Vec<&str> {
        let mut subjects: Vec<&str> = Vec::new();
        for subject in self.sources.iter().flat_map(|source| &source.subjects) {
            if !subjects.contains(&subject.as_str()) {
                subjects.push(subject);
            }
        }
        subjects
    }
}

/// Sorts needs by direction, and those with a name first.
type NeedKey = (Direction, bool, Option<Name>, Service);

#[derive(Default)]
struct Collector {
    sources: Vec<SourceRun>,
    needs: BTreeMap<NeedKey, Need>,
    groups: BTreeMap<NeedKey, Need>,
    failed: BTreeMap<NeedKey, Need>,
    dns: bool,
    resolvers: BTreeSet<IpAddr>,
    unresolved: Unresolved,
    asked: AskedFamilies,
    at_once: Vec<FailedAtOnce>,
    on_machine: BTreeSet<(Direction, Service)>,
    /// Incoming services of which a remote had only failed attempts.
    never_accepted: BTreeSet<Service>,
    left_out: BTreeSet<String>,
    gaps: BTreeSet<String>,
}

impl Collector {
    fn add_report(&mut self, report: &Report, options: &RuleOptions) {
        self.sources.push(source(report));
        let peers = PeerNames::of(report);
        let (served, errors) = (report.served_ports(), report.icmp_errors());
        let is_known = |known: &&ReportEndpoint| {
            let EndpointKey { protocol, port, .. } = known.endpoint.key;
            !known.endpoint.is_remnant() || served.contains(&(protocol, port))
        };
        for known in report.endpoints.iter().filter(is_known) {
            let key = &known.endpoint.key;
            if key.direction == Direction::Egress && errors.contains(key) {
                self.left_out.insert("ICMP errors that the kernel sent: they belong to connections".into());
            } else {
                self.add_endpoint(report, &peers, known, options);
            }
        }
        self.unresolved.add(report);
        self.asked.add(report);
        self.at_once.extend(at_once::attempts(report, &run_id(report)));
        self.gaps.extend(gaps(report));
    }

    fn add_endpoint(&mut self, report: &Report, peers: &PeerNames<'_>, known: &ReportEndpoint, options: &RuleOptions) {
        let Endpoint { key, .. } = &known.endpoint;
        let Remote::Address(address) = key.remote else {
            // The gaps of the report include this.
            return;
        };
        let Some(service) = Service::of(key) else {
            self.left_out
                .insert("fragments without their first fragment, which connection tracking reassembles".into());
            return;
        };
        if self.is_dns(report, known, address) {
            self.dns = true;
            // A run queries the resolvers of its host through the gateway.
            match report.replay.is_some() {
                true => drop(self.resolvers.insert(address)),
                false => self.resolvers.extend(report.dns.resolvers.iter().map(|resolver| resolver.ip())),
            }
            return;
        }
        if service == Service::Echo && key.direction == Direction::Ingress {
            self.left_out.insert(
                "ICMP from remotes: errors belong to connections, and no program requires answers to ping".into(),
            );
            return;
        }
        match report.interface.role_of(address) {
            AddressRole::OwnLink => {}
            AddressRole::Gateway => {
                self.on_machine.insert((key.direction, service));
            }
            AddressRole::Group => put(&mut self.groups, need(report, known, service, address, None)),
            AddressRole::Other => self.add_peer(report, peers, known, service, address, options),
        }
    }

    /// Whether this is DNS to the resolvers of the machine. A capture does not show which servers
    /// these are, so all DNS servers in it count as resolvers.
    fn is_dns(&self, report: &Report, known: &ReportEndpoint, address: IpAddr) -> bool {
        let key = &known.endpoint.key;
        let is_query = key.port == port::DNS && key.direction == Direction::Egress && key.protocol.has_ports();
        is_query && !address.is_multicast() && (report.replay.is_some() || report.interface.gateway.contains(&address))
    }

    fn add_peer(
        &mut self,
        report: &Report,
        peers: &PeerNames<'_>,
        known: &ReportEndpoint,
        service: Service,
        address: IpAddr,
        options: &RuleOptions,
    ) {
        if known.endpoint.key.direction == Direction::Ingress {
            return self.put_peer(known, need(report, known, service, address, None), options);
        }
        let names = peers.names(known);
        let named = names.iter().map(|name| Some(*name));
        // A peer without a name is also required.
        for name in named.chain(names.is_empty().then_some(None)) {
            let mut need = need(report, known, service, address, name);
            let queried = peers.queried(known, name);
            if !options.only_used {
                let answers = name.into_iter().flat_map(|name| peers.answers(name)).map(host);
                need.unused = answers.filter(|answer| !need.peers.contains(answer)).collect();
                need.peers.extend(&need.unused);
            }
            need.unqueried = if queried.is_empty() { need.peers.clone() } else { BTreeSet::new() };
            need.queried = queried.into_iter().cloned().map(Pattern::Exact).collect();
            self.put_peer(known, need, options);
        }
    }

    fn put_peer(&mut self, known: &ReportEndpoint, need: Need, options: &RuleOptions) {
        let only_failed = known.endpoint.has_only_failed() && !options.with_failed;
        if only_failed && need.direction == Direction::Ingress {
            // What remotes attempted is no failure of the program.
            self.never_accepted.insert(need.service);
            return;
        }
        put(if only_failed { &mut self.failed } else { &mut self.needs }, need);
    }

    fn finish(mut self, options: &RuleOptions) -> Requirements {
        self.mark_attempts();
        self.remove_failures_that_succeeded_elsewhere();
        let is_listed = |failed: &FailedAtOnce| self.needs.values().any(|need| failed.is_listed_in(need));
        self.at_once.retain(|failed| !is_listed(failed));
        self.gaps.extend(at_once::gaps(&self.at_once));
        self.gaps.extend(self.ephemeral());
        self.gaps.extend(self.asked.gaps(self.needs.values()));
        self.leave_out_services_of_the_machine();
        let values = |needs: BTreeMap<NeedKey, Need>| needs.into_values().collect::<Vec<_>>();
        let mut needs = values(self.needs);
        if let Some(rules) = &options.generalize {
            needs = generalize(needs, rules);
        }
        Requirements {
            sources: self.sources,
            needs,
            groups: values(self.groups),
            failed: values(self.failed),
            dns: self.dns,
            resolvers: self.resolvers,
            unresolved: self.unresolved.finish(),
            left_out: self.left_out.into_iter().collect(),
            gaps: self.gaps.into_iter().collect(),
        }
    }

    /// Marks addresses that DNS listed for a needed name and that were attempted.
    fn mark_attempts(&mut self) {
        for (key, need) in &mut self.needs {
            let failed = self.failed.get(key).into_iter().flat_map(|failed| &failed.peer_failures);
            failed.for_each(|(peer, failures)| need.mark_attempted(peer, failures));
            let at_once = self.at_once.iter().filter(|failed| failed.is_for(need));
            let at_once: Vec<(IpNet, PeerFailures)> =
                at_once.map(|failed| (failed.peer(), failed.failures())).collect();
            at_once.iter().for_each(|(peer, failures)| need.mark_attempted(peer, failures));
        }
    }

    /// Removes failed attempts that the needs list: at addresses that worked in another run, and at
    /// those of a name of which another address worked. They are marked there.
    fn remove_failures_that_succeeded_elsewhere(&mut self) {
        for (key, failed) in &mut self.failed {
            if let Some(need) = self.needs.get(key) {
                failed.peers.retain(|peer| !need.peers.contains(peer));
            }
            failed.attempted.retain(|peer| failed.peers.contains(peer));
        }
        self.failed.retain(|_, need| !need.attempted.is_empty());
    }

    /// Lists services that only the machine itself uses, or of which no connection succeeded. An
    /// incoming service that other hosts also use has a rule.
    fn leave_out_services_of_the_machine(&mut self) {
        for (direction, service) in &self.on_machine {
            let is_required = |need: &Need| (need.direction, need.service) == (*direction, *service);
            if *direction == Direction::Egress || !self.needs.values().any(is_required) {
                self.left_out.insert(on_machine(*service, *direction));
            }
        }
        for service in &self.never_accepted {
            let is_required = |need: &Need| (need.direction, need.service) == (Direction::Ingress, *service);
            if !self.needs.values().any(is_required) {
                self.left_out.insert(format!("{service} inbound: no connection of a remote succeeded"));
            }
        }
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
        (!services.is_empty()).then(|| format!("{listed}{more}: ephemeral ports, the next run may use others"))
    }
}

fn source(report: &Report) -> SourceRun {
    match &report.replay {
        // Without its folder, which may be confidential.
        Some(replay) => SourceRun {
            id: file_name(&replay.file).to_owned(),
            programs: Vec::new(),
            subjects: Vec::new(),
            started_ns: replay.started_ns,
        },
        None => SourceRun {
            id: report.run.id.clone(),
            programs: report.programs(),
            subjects: report.subjects(),
            started_ns: report.run.started_ns,
        },
    }
}

fn on_machine(service: Service, direction: Direction) -> String {
    match direction {
        Direction::Egress => {
            format!("{service} of the machine itself, through the gateway of the run, needs no rule")
        }
        Direction::Ingress => format!("{service} used only by the machine itself needs no rule"),
    }
}

fn need(report: &Report, known: &ReportEndpoint, service: Service, address: IpAddr, name: Option<&Name>) -> Need {
    let has_failures = known.endpoint.has_only_failed() || known.endpoint.failed.attempts() > 0;
    let failures = has_failures.then(|| PeerFailures { failed: known.endpoint.failed, ..PeerFailures::default() });
    Need {
        direction: known.endpoint.key.direction,
        service,
        name: name.cloned().map(Pattern::Exact),
        peers: BTreeSet::from([host(address)]),
        queried: BTreeSet::new(),
        unqueried: BTreeSet::from([host(address)]),
        unused: BTreeSet::new(),
        attempted: known.endpoint.has_only_failed().then(|| host(address)).into_iter().collect(),
        failed: known.endpoint.failed,
        peer_failures: failures.map(|failures| (host(address), failures)).into_iter().collect(),
        purpose: purpose(service, known.application.as_ref()),
        programs: report.programs_of(&known.processes),
    }
}

fn put(needs: &mut BTreeMap<NeedKey, Need>, need: Need) {
    let name = need.name.as_ref().map(|name| match name {
        Pattern::Exact(name) | Pattern::Below(name) => name.clone(),
    });
    let key = (need.direction, name.is_none(), name, need.service);
    match needs.get_mut(&key) {
        Some(known) => known.absorb(need),
        None => drop(needs.insert(key, need)),
    }
}

/// `1 refused, 2 timeout`.
pub(super) fn failures(failed: &FailedAttempts) -> String {
    PeerFailures { failed: *failed, ..PeerFailures::default() }.to_string()
}

/// Blind spots of this report that affect the requirements.
fn gaps(report: &Report) -> Vec<String> {
    let id = run_id(report);
    let mut gaps: Vec<String> = report.gaps().iter().map(|gap| format!("{id}: {}", comment(gap, 300))).collect();
    // The addresses of a capture, of cgroups and of the other end of a link are unknown.
    let local = &report.interface.local;
    let is_known = report.replay.is_none() && !local.is_empty();
    for (family, is_there) in [("IPv4", local.iter().any(IpAddr::is_ipv4)), ("IPv6", local.iter().any(IpAddr::is_ipv6))]
    {
        if is_known && !is_there {
            gaps.push(format!("{id}: the run had no {family}, so {family} addresses are not listed"));
        }
    }
    gaps
}

/// The id of a run in a header.
fn run_id(report: &Report) -> String {
    comment(&source(report).id, 80)
}
