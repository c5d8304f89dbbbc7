//! Attempts to reach other hosts that failed before a packet was sent, and therefore belong to no
//! endpoint.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use ipnet::IpNet;

use super::need::{Need, Service, host};
use crate::flow::{Direction, Protocol, Remote};
use crate::process::{Attempt, AttemptCause, AttemptTarget};
use crate::report::{AddressRole, Report};

/// Maximum number of these in the header, for each run.
const MAX_LISTED: usize = 5;

/// An attempt that always failed before a packet was sent.
pub(super) struct FailedAtOnce {
    run: String,
    protocol: Option<Protocol>,
    end: SocketAddr,
    how: String,
}

impl FailedAtOnce {
    pub fn peer(&self) -> IpNet {
        host(self.end.ip())
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
pub(super) fn attempts(report: &Report, run: &str) -> Vec<FailedAtOnce> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint.key);
    let out = endpoints.filter(|key| key.direction == Direction::Egress);
    let listed: HashSet<_> = out.map(|key| (key.remote, key.protocol, key.port)).collect();
    let failed = |attempt: &Attempt| {
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
        let found = FailedAtOnce { run: run.to_owned(), protocol: attempt.protocol, end: *end, how };
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
        for FailedAtOnce { protocol, end, how, .. } in failed.iter().take(MAX_LISTED) {
            let protocol = protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
            lines.push(format!("{run}: {protocol}{end} {how} and is not listed"));
        }
        let more = failed.len().saturating_sub(MAX_LISTED);
        if more > 0 {
            lines.push(format!("{run}: {more} more addresses failed at once"));
        }
    }
    lines
}
