//! Attempts to reach other hosts that failed before a packet was sent, and therefore belong to no
//! endpoint.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use ipnet::IpNet;

use super::header::in_brackets;
use super::need::{Need, PeerFailures, Service, host};
use super::text::comment;
use crate::flow::{Direction, Protocol, Remote};
use crate::process::{Attempt, AttemptCause, AttemptTarget};
use crate::report::{AddressRole, AttemptNames, Report};

/// Maximum number of these in the header, for each run.
const MAX_LISTED: usize = 5;
/// Maximum length of a name, bytes.
const MAX_NAME_BYTES: usize = 80;

/// An attempt that always failed before a packet was sent.
pub(super) struct FailedAtOnce {
    run: String,
    protocol: Option<Protocol>,
    end: SocketAddr,
    how: String,
    cause: String,
    count: u64,
    /// What the program looked up.
    name: Option<String>,
    program: Option<String>,
}

impl FailedAtOnce {
    pub fn peer(&self) -> IpNet {
        host(self.end.ip())
    }

    pub fn failures(&self) -> PeerFailures {
        PeerFailures { at_once: [(self.cause.clone(), self.count)].into(), ..PeerFailures::default() }
    }

    /// `tcp app.example, 203.0.113.9:443 failed at once (no route) and is not listed (curl)`.
    fn line(&self) -> String {
        let protocol = self.protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
        let name = self.name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        let by = in_brackets(self.program.as_deref());
        format!("{protocol}{name}{} {} and is not listed{by}", self.end, self.how)
    }

    /// Whether it attempted this service.
    pub fn is_for(&self, need: &Need) -> bool {
        let service = self.protocol.map(|protocol| Service::Ports(protocol, self.end.port(), self.end.port()));
        need.direction == Direction::Egress && service == Some(need.service)
    }

    /// Whether a need lists its address for the service.
    pub fn is_listed_in(&self, need: &Need) -> bool {
        self.is_for(need) && need.peers.contains(&self.peer())
    }
}

/// These attempts of a run, without those to addresses that packets reached.
pub(super) fn attempts<'a>(report: &'a Report, run: &str) -> Vec<FailedAtOnce> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint.key);
    let out = endpoints.filter(|key| key.direction == Direction::Egress);
    let listed: HashSet<_> = out.map(|key| (key.remote, key.protocol, key.port)).collect();
    let names = AttemptNames::of(report);
    let failed = |attempt: &'a Attempt| {
        let (AttemptTarget::Address(end), AttemptCause::Errno(_) | AttemptCause::NoPacket) =
            (&attempt.target, &attempt.cause)
        else {
            return None;
        };
        let is_listed = attempt
            .protocol
            .is_some_and(|protocol| listed.contains(&(Remote::Address(end.ip()), protocol, end.port())));
        let is_elsewhere = report.interface.role_of(end.ip()) == AddressRole::Other;
        let how = match &attempt.cause {
            AttemptCause::NoPacket => attempt.cause.word().to_string(),
            cause => format!("failed at once ({})", cause.word()),
        };
        let found = FailedAtOnce {
            run: run.to_owned(),
            protocol: attempt.protocol,
            end: *end,
            how,
            cause: attempt.cause.word().to_string(),
            count: attempt.count,
            name: names.name(attempt).map(|name| comment(name, MAX_NAME_BYTES)),
            program: attempt
                .process
                .and_then(|id| report.processes.get(id))
                .map(|process| process.program().to_owned()),
        };
        (is_elsewhere && !is_listed).then_some(found)
    };
    report.attempts.iter().filter_map(failed).collect()
}

/// The lines of the header about attempts to addresses that no need lists.
pub(super) fn gaps(failed: &[FailedAtOnce]) -> Vec<String> {
    let mut runs: BTreeMap<&str, Vec<&FailedAtOnce>> = BTreeMap::new();
    failed.iter().for_each(|one| runs.entry(&one.run).or_default().push(one));
    let mut lines = Vec::new();
    for (run, failed) in runs {
        lines.extend(failed.iter().take(MAX_LISTED).map(|failed| format!("{run}: {}", failed.line())));
        let more = failed.len().saturating_sub(MAX_LISTED);
        if more > 0 {
            lines
                .push(format!("{run}: {more} more {} failed at once", if more == 1 { "address" } else { "addresses" }));
        }
    }
    lines
}
