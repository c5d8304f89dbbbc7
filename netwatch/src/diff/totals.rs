//! The subjects of one side and their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::identity::Identities;
use super::range::ValueRange;
use super::subject::{ComparedPort, Subject};
use crate::flow::{Counters, Direction, PerDirection, Protocol, Remote};
use crate::process::{AttemptTarget, Attribution};
use crate::report::{Failure, Report, ReportEndpoint, ReportFlow};
use crate::wire::Application;

/// The kinds of numbers of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum MeasureKind {
    Sent,
    Received,
    Connections,
    Times,
}

/// The numbers of a subject, by kind.
pub(super) type MeasureValues<T> = BTreeMap<MeasureKind, T>;

/// The subjects of one or several runs, with ranges of numbers.
#[derive(Debug, Default)]
pub(super) struct SideTotals {
    pub subjects: BTreeMap<Subject, MeasureValues<ValueRange>>,
    /// Which programs failed. No part of the failure, because not every run recorded them.
    pub programs: BTreeMap<Subject, BTreeSet<String>>,
}

impl SideTotals {
    /// Sums up each run, then combines the runs to ranges.
    pub fn of(reports: &[&Report], identities: &Identities) -> Self {
        let mut totals = Self::default();
        for report in reports {
            let one = RunTotals::of(report, identities);
            for (subject, programs) in one.programs {
                totals.programs.entry(subject).or_default().extend(programs);
            }
            for (subject, numbers) in one.subjects {
                let known = totals.subjects.entry(subject).or_default();
                for (kind, number) in numbers {
                    known.entry(kind).and_modify(|range| *range = range.with(number.into())).or_insert(number.into());
                }
            }
        }
        totals
    }
}

/// The subjects of one run.
#[derive(Default)]
struct RunTotals {
    subjects: BTreeMap<Subject, MeasureValues<u64>>,
    programs: BTreeMap<Subject, BTreeSet<String>>,
}

impl RunTotals {
    fn of(report: &Report, identities: &Identities) -> Self {
        let mut one = Self::default();
        let errors = report.icmp_errors();
        let endpoints = report.endpoints.iter().zip(report.flows_by_endpoint());
        for (known, flows) in endpoints.filter(|(known, _)| !errors.contains(&known.endpoint.key)) {
            one.add_endpoint(report, identities, known, &flows);
        }
        one.add_names(report);
        for process in &report.processes.list {
            one.add(Subject::Process(identities.program(process)), [(MeasureKind::Times, 1)]);
        }
        for failure in report.failures() {
            one.add_failure(report, identities, &failure);
        }
        one
    }

    fn add<const N: usize>(&mut self, subject: Subject, numbers: [(MeasureKind, u64); N]) {
        let known = self.subjects.entry(subject).or_default();
        for (kind, number) in numbers {
            *known.entry(kind).or_default() += number;
        }
    }

    fn add_endpoint(
        &mut self,
        report: &Report,
        identities: &Identities,
        known: &ReportEndpoint,
        flows: &[&ReportFlow],
    ) {
        let key = &known.endpoint.key;
        self.add(Subject::Protocol { protocol: key.protocol, application: None }, []);
        let Remote::Address(address) = key.remote else { return };
        let port = if key.fragment { ComparedPort::None } else { ComparedPort::of(key.protocol, key.port) };
        self.add(Subject::Port { direction: key.direction, protocol: key.protocol, port }, []);
        let subject = |name: Option<String>| Subject::Endpoint {
            direction: key.direction,
            protocol: key.protocol,
            port,
            remote: identities.remote(report, key, address, name),
        };
        // Added by flow, because one address may serve several names. The rest belongs to folded
        // flows.
        let mut rest = (known.endpoint.counters, known.endpoint.connections);
        for flow in flows {
            let connections = flow.flow.connections();
            self.add(
                subject(flow.display_name().map(|shown| shown.name.to_string())),
                sizes(flow.flow.counters, connections),
            );
            rest = (rest.0.zip(flow.flow.counters, Counters::saturating_sub), rest.1.saturating_sub(connections));
            self.add_application(key.protocol, flow);
        }
        if !rest.0.both().is_zero() || flows.is_empty() {
            self.add(subject(known.display_name.as_ref().map(|shown| shown.name.to_string())), sizes(rest.0, rest.1));
        }
    }

    fn add_application(&mut self, protocol: Protocol, known: &ReportFlow) {
        let application = known
            .naming
            .as_ref()
            .and_then(|naming| naming.application.as_ref())
            .filter(|application| application.is_proven());
        if let Some(application) = application {
            let application = Some(application.name.to_string());
            self.add(Subject::Protocol { protocol, application }, []);
        }
    }

    /// Names of DNS lookups, and names that flows contain. Reverse lookups stand for addresses and
    /// are left out.
    fn add_names(&mut self, report: &Report) {
        let is_reverse = |name: &str| name.ends_with(".in-addr.arpa") || name.ends_with(".ip6.arpa");
        for lookup in &report.naming.lookups {
            let name = lookup.question.name.to_string();
            let is_ours = lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
            if is_ours && !is_reverse(&name) {
                self.add(Subject::Name(name), [(MeasureKind::Times, lookup.queries)]);
            }
        }
        for known in report.flows.iter().filter(|known| known.flow.opened_by == Direction::Egress) {
            let in_flow = known.naming.iter().flat_map(|naming| &naming.names).map(|named| named.shown().to_string());
            for name in in_flow.chain(known.display_name().map(|shown| shown.name.to_string())) {
                self.add(Subject::Name(name), []);
            }
        }
    }

    fn add_failure(&mut self, report: &Report, identities: &Identities, failure: &Failure<'_>) {
        let attempt = failure.attempt;
        let target = match &attempt.target {
            AttemptTarget::Address(end) => {
                let protocol = attempt.protocol.unwrap_or(Protocol::TCP);
                let remote = identities.attempted(report, failure.name, *end, protocol);
                with_port(remote, ComparedPort::of(protocol, end.port()))
            }
            AttemptTarget::Name(name, _) => name.clone(),
            AttemptTarget::LocalSocket(path) => path.clone(),
        };
        let subject = Subject::Failure { target, protocol: attempt.protocol, cause: attempt.cause.word() };
        if let Some(process) = attempt.process.and_then(|id| report.processes.get(id)) {
            self.programs.entry(subject.clone()).or_default().insert(process.program().to_owned());
        }
        self.add(subject, [(MeasureKind::Times, failure.count)]);
    }
}

fn with_port(remote: String, port: ComparedPort) -> String {
    match (port, remote.parse::<IpAddr>()) {
        (ComparedPort::None, _) => remote,
        (ComparedPort::Number(port), Ok(IpAddr::V6(_))) => format!("[{remote}]:{port}"),
        (ComparedPort::Number(port), _) => format!("{remote}:{port}"),
        (ComparedPort::Ephemeral, _) => format!("{remote} (ephemeral port)"),
    }
}

fn sizes(counters: PerDirection<Counters>, connections: u64) -> [(MeasureKind, u64); 3] {
    let PerDirection { egress, ingress } = counters;
    [
        (MeasureKind::Sent, egress.wire_bytes),
        (MeasureKind::Received, ingress.wire_bytes),
        (MeasureKind::Connections, connections),
    ]
}

/// Whether processes were recorded in all of these runs.
pub(super) fn have_processes(reports: &[&Report]) -> bool {
    reports.iter().all(|report| report.processes.attribution == Attribution::On)
}
