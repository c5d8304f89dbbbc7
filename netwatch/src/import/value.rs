//! Words and numbers of a JSON report: times, protocols, directions, sources of names, processes.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use super::ImportError;
use super::document::{NamesObject, ProcessObject};
use crate::flow::{BalanceState, Direction, Protocol};
use crate::name::NameSource;
use crate::process::ProcessId;
use crate::report::ApplicationProtocol;
use crate::wire::Application;

const SOURCES: [NameSource; 8] = [
    NameSource::Sni,
    NameSource::Quic,
    NameSource::Http,
    NameSource::Dns,
    NameSource::Mdns,
    NameSource::Llmnr,
    NameSource::Hosts,
    NameSource::Ptr,
];

/// The index of each process in the list, by its number.
pub(super) struct Numbers(HashMap<u32, ProcessId>);

impl Numbers {
    pub fn of(processes: &[ProcessObject]) -> Self {
        Self((0..).zip(processes).map(|(place, process)| (process.number, ProcessId(place))).collect())
    }

    pub fn id(&self, number: u32) -> Option<ProcessId> {
        self.0.get(&number).copied()
    }
}

/// Nanoseconds since the Unix epoch; 0 for a time that the document leaves out.
pub(super) fn time_ns(text: &str) -> Result<u64, ImportError> {
    if text.is_empty() {
        return Ok(0);
    }
    let time = humantime::parse_rfc3339(text).map_err(|error| format!("invalid time {text} ({error})"))?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("the time {text} is before 1970"))?;
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) fn protocol(text: &str) -> Result<Protocol, ImportError> {
    let known = [Protocol::ICMP, Protocol::TCP, Protocol::UDP, Protocol::ICMPV6, Protocol::SCTP];
    let named = known.into_iter().find(|protocol| protocol.name() == Some(text));
    named.or_else(|| text.parse().ok().map(Protocol)).ok_or_else(|| format!("unknown protocol {text}"))
}

pub(super) fn direction(text: &str) -> Result<Direction, ImportError> {
    let known = [Direction::Egress, Direction::Ingress];
    known.into_iter().find(|one| one.of_flow() == text).ok_or_else(|| format!("unknown direction {text}"))
}

pub(super) fn source(text: &str) -> Result<NameSource, ImportError> {
    SOURCES.into_iter().find(|source| source.name() == text).ok_or_else(|| format!("unknown name source {text}"))
}

pub(super) fn lookup_protocol(text: &str) -> Result<Application, ImportError> {
    let known = [Application::Dns, Application::Mdns, Application::Llmnr];
    known.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("unknown lookup protocol {text}"))
}

/// Unknown if the document leaves it out.
pub(super) fn balance_state(text: Option<&str>) -> Result<BalanceState, ImportError> {
    let Some(text) = text else { return Ok(BalanceState::Unknown) };
    let known = BalanceState::ALL.into_iter().find(|state| state.name() == text);
    known.ok_or_else(|| format!("unknown state of the balance {text}"))
}

/// If the document has no evidence, it is the port.
pub(super) fn application(entry: &mut NamesObject) -> Option<ApplicationProtocol> {
    let name = entry.application.take()?;
    let evidence = entry.application_evidence.take().unwrap_or_else(|| ApplicationProtocol::PORT.to_owned());
    Some(ApplicationProtocol { name: name.into(), evidence: evidence.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_reports_write() {
        assert_eq!(time_ns("2026-01-01T00:00:00.001000002Z"), Ok(1_767_225_600_001_000_002));
        assert_eq!(time_ns(""), Ok(0));
        assert!(time_ns("yesterday").is_err());
        assert_eq!(protocol("47"), Ok(Protocol(47)));
        assert_eq!(protocol("icmpv6"), Ok(Protocol::ICMPV6));
        assert!(protocol("quic").is_err());
        assert_eq!(direction("in"), Ok(Direction::Ingress));
        assert_eq!(source("sni"), Ok(NameSource::Sni));
    }
}
