//! One side as its subjects and their numbers.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::book::Book;
use super::range::Range;
use super::subject::{Port, Subject};
use crate::flow::{Counters, Direction, EndpointKey, PerDirection, Protocol, Remote};
use crate::process::{Attempt, AttemptCause, AttemptTarget, Attribution};
use crate::report::{Report, ReportEndpoint, ReportFlow};
use crate::wire::Application;

/// What is counted of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unit {
    Sent,
    Received,
    Connections,
    Times,
}

/// The numbers of a subject.
pub(super) type Numbers<T> = BTreeMap<Unit, T>;

/// What one or several runs have.
#[derive(Debug, Default)]
pub(super) struct Picture(pub BTreeMap<Subject, Numbers<Range>>);

impl Picture {
    /// The runs, each by itself, then as ranges.
    pub fn of(reports: &[&Report], book: &Book) -> Self {
        let mut picture = Self::default();
        for report in reports {
            for (subject, numbers) in One::of(report, book).0 {
                let known = picture.0.entry(subject).or_default();
                for (unit, number) in numbers {
                    known.entry(unit).and_modify(|range| *range = range.with(number.into())).or_insert(number.into());
                }
            }
        }
        picture
    }
}

/// One run.
#[derive(Default)]
struct One(BTreeMap<Subject, Numbers<u64>>);

impl One {
    fn of(report: &Report, book: &Book) -> Self {
        let mut one = Self::default();
        let mut flows: HashMap<EndpointKey, Vec<&ReportFlow>> = HashMap::new();
        for known in &report.flows {
            flows.entry(EndpointKey::of(&known.flow.key, known.flow.opened_by)).or_default().push(known);
        }
        for known in &report.endpoints {
            let flows = flows.remove(&known.endpoint.key).unwrap_or_default();
            one.add_endpoint(report, book, known, &flows);
        }
        one.add_names(report);
        for process in &report.processes.list {
            one.add(Subject::Process(book.program(process)), [(Unit::Times, 1)]);
        }
        report.attempts.iter().for_each(|attempt| one.add_attempt(report, book, attempt));
        one
    }

    fn add<const N: usize>(&mut self, subject: Subject, numbers: [(Unit, u64); N]) {
        let known = self.0.entry(subject).or_default();
        for (unit, number) in numbers {
            *known.entry(unit).or_default() += number;
        }
    }

    fn add_endpoint(&mut self, report: &Report, book: &Book, known: &ReportEndpoint, flows: &[&ReportFlow]) {
        let key = &known.endpoint.key;
        self.add(Subject::Protocol { protocol: key.protocol, application: None }, []);
        let Remote::Address(address) = key.remote else { return };
        let port = if key.fragment { Port::None } else { Port::of(key.protocol, key.port) };
        self.add(Subject::Port { direction: key.direction, protocol: key.protocol, port }, []);
        let subject = |name: Option<String>| Subject::Endpoint {
            direction: key.direction,
            protocol: key.protocol,
            port,
            remote: book.remote(report, key, address, name),
        };
        // Flow by flow, because one address may serve several names; the rest of them was folded.
        let mut rest = (known.endpoint.counters, known.endpoint.connections);
        for flow in flows {
            let connections = flow.flow.connections();
            self.add(
                subject(flow.display_name().map(|shown| shown.name.to_string())),
                sizes(flow.flow.counters, connections),
            );
            rest = (rest.0.zip(flow.flow.counters, Counters::saturating_sub), rest.1.saturating_sub(connections));
            self.add_spoken(key.protocol, flow);
        }
        if !rest.0.both().is_zero() || flows.is_empty() {
            self.add(subject(known.display_name.as_ref().map(|shown| shown.name.to_string())), sizes(rest.0, rest.1));
        }
    }

    fn add_spoken(&mut self, protocol: Protocol, known: &ReportFlow) {
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

    /// Names that DNS was asked for, and those that flows said. Not the names of addresses: those are addresses.
    fn add_names(&mut self, report: &Report) {
        let is_reverse = |name: &str| name.ends_with(".in-addr.arpa") || name.ends_with(".ip6.arpa");
        for lookup in &report.naming.lookups {
            let name = lookup.question.name.to_string();
            let is_ours = lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
            if is_ours && !is_reverse(&name) {
                self.add(Subject::Name(name), [(Unit::Times, lookup.queries)]);
            }
        }
        for known in report.flows.iter().filter(|known| known.flow.opened_by == Direction::Egress) {
            let said = known.naming.iter().flat_map(|naming| &naming.names).map(|named| named.shown().to_string());
            for name in said.chain(known.display_name().map(|shown| shown.name.to_string())) {
                self.add(Subject::Name(name), []);
            }
        }
    }

    fn add_attempt(&mut self, report: &Report, book: &Book, attempt: &Attempt) {
        let target = match &attempt.target {
            AttemptTarget::Address(end) => {
                let protocol = attempt.protocol.unwrap_or(Protocol::TCP);
                let remote = book.tried(report, end.ip(), end.port(), protocol);
                with_port(remote, Port::of(protocol, end.port()))
            }
            AttemptTarget::Name(name, _) => name.clone(),
            AttemptTarget::LocalSocket(path) => path.clone(),
        };
        let cause = match &attempt.cause {
            AttemptCause::Dns(code) => format!("dns {code}"),
            AttemptCause::Icmp(error) => format!("icmp type {} code {}", error.kind, error.code),
            AttemptCause::Errno(number) if attempt.cause.name() == "errno" => format!("errno {number}"),
            cause => cause.name().to_owned(),
        };
        self.add(Subject::Failure { target, protocol: attempt.protocol, cause }, [(Unit::Times, attempt.count)]);
    }
}

fn with_port(remote: String, port: Port) -> String {
    match (port, remote.parse::<IpAddr>()) {
        (Port::None, _) => remote,
        (Port::Number(port), Ok(IpAddr::V6(_))) => format!("[{remote}]:{port}"),
        (Port::Number(port), _) => format!("{remote}:{port}"),
        (Port::Ephemeral, _) => format!("{remote} (ephemeral port)"),
    }
}

fn sizes(counters: PerDirection<Counters>, connections: u64) -> [(Unit, u64); 3] {
    let PerDirection { egress, ingress } = counters;
    [(Unit::Sent, egress.wire_bytes), (Unit::Received, ingress.wire_bytes), (Unit::Connections, connections)]
}

/// Whether processes were looked for in all of these runs.
pub(super) fn knows_processes(reports: &[&Report]) -> bool {
    reports.iter().all(|report| report.processes.attribution == Attribution::On)
}
