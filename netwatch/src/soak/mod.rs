//! What a soak test is for: findings of a long run, from its series. Trends compare windows of the
//! whole run; storms and idle periods are found while the series still has fine intervals of them.
//! docs/soak.md is the manual.

mod storm;
#[cfg(test)]
mod tests;
mod trend;
mod window;

use crate::flow::EndpointKey;
use crate::report::Series;
pub use storm::{IdlePeriod, ReconnectStorm};
pub use trend::{Rise, RisingQuantity};

const SECOND: u64 = 1_000_000_000;
/// A shorter run has no other finding than that it is: its beginning is a large part of it.
pub const MIN_SOAK_NS: u64 = 600 * SECOND;
/// Maximum number of findings of one kind; further ones are counted.
pub const MAX_FINDINGS: usize = 10;
/// DNS failures are a finding from this number and this part of all responses on.
const MIN_DNS_FAILED: u64 = 10;
const MIN_DNS_FAILED_PERCENT: u64 = 5;

/// Something that a soak shows.
#[derive(Debug, Clone, PartialEq)]
pub enum SoakFinding {
    /// Connections that never close: more are open, and the load does not explain it.
    Leak(Rise),
    /// A quantity that rises.
    Rising(RisingQuantity, Rise),
    /// Many connections that are opened at once.
    Storm(ReconnectStorm),
    /// DNS responses with an error.
    DnsFailures {
        /// Responses with an error.
        failed: u64,
        /// All responses with a known time.
        responses: u64,
    },
    /// An endpoint that was first used in the second half of the run.
    LateEndpoint {
        /// The endpoint.
        key: EndpointKey,
        /// From the start to its first packet, nanoseconds.
        after_ns: u64,
    },
    /// A time without a packet.
    Idle(IdlePeriod),
    /// The run is shorter than [`MIN_SOAK_NS`], and was not searched.
    TooShort {
        /// Its length so far, nanoseconds.
        length_ns: u64,
    },
    /// Further findings of a kind.
    More {
        /// How the kind is called.
        of: &'static str,
        /// Their number.
        count: u64,
    },
}

impl SoakFinding {
    /// Whether something is likely to be wrong. Others are observations.
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::Leak(_) | Self::Rising(..) | Self::Storm(_) | Self::DnsFailures { .. } => true,
            Self::LateEndpoint { .. } | Self::Idle(_) | Self::TooShort { .. } | Self::More { .. } => false,
        }
    }
}

/// What was found so far in intervals that are combined later.
#[derive(Debug, Default)]
pub struct Soak {
    storms: Vec<ReconnectStorm>,
    more_storms: u64,
    idle: Vec<IdlePeriod>,
    more_idle: u64,
    /// The start of the last idle period, which may still continue.
    last_idle_ns: u64,
    /// The end of what was searched, nanoseconds since the Unix epoch.
    searched_ns: u64,
}

impl Soak {
    /// Searches what followed since the last call. To be called about once a minute.
    pub fn observe(&mut self, series: &Series, started_ns: u64, now_ns: u64) {
        // A storm is searched when the intervals around it are there.
        self.search(series, started_ns, now_ns.saturating_sub(storm::SLOT_NS));
    }

    /// Searches the rest of a run that has ended.
    pub fn observe_end(&mut self, series: &Series, started_ns: u64, end_ns: u64) {
        self.search(series, started_ns, end_ns);
    }

    fn search(&mut self, series: &Series, started_ns: u64, until_ns: u64) {
        let from_ns = self.searched_ns.max(started_ns.saturating_add(storm::WARM_UP_NS));
        if until_ns <= from_ns {
            return;
        }
        for storm in storm::storms(series, from_ns, until_ns) {
            let has_room = self.storms.len() < MAX_FINDINGS;
            match self.storms.last_mut() {
                Some(last) if last.continues(&storm) => last.extend(&storm),
                _ if has_room => self.storms.push(storm),
                _ => self.more_storms += 1,
            }
        }
        for idle in storm::idle_periods(series, from_ns, until_ns) {
            let has_room = self.idle.len() < MAX_FINDINGS;
            match self.idle.last_mut() {
                Some(last) if last.end_ns() >= idle.start_ns => last.length_ns = idle.end_ns() - last.start_ns,
                _ if has_room => self.idle.push(idle.clone()),
                _ => self.more_idle += u64::from(idle.start_ns > self.last_idle_ns),
            }
            self.last_idle_ns = idle.start_ns;
        }
        self.searched_ns = until_ns;
    }

    /// All findings: alarms first. `first_used` has the time of the first packet of each endpoint.
    pub fn findings(
        &self,
        series: &Series,
        (started_ns, now_ns): (u64, u64),
        first_used: impl Iterator<Item = (EndpointKey, u64)>,
    ) -> Vec<SoakFinding> {
        let length_ns = now_ns.saturating_sub(started_ns);
        if length_ns < MIN_SOAK_NS {
            return vec![SoakFinding::TooShort { length_ns }];
        }
        let mut findings = trend::findings(series, started_ns, now_ns);
        findings.extend(self.storms.iter().cloned().map(SoakFinding::Storm));
        findings.extend(more("reconnect storms", self.more_storms));
        findings.extend(dns_failures(series));
        findings.extend(late_endpoints(started_ns, now_ns, first_used));
        let idle = self.idle.iter().filter(|idle| idle.length_ns >= storm::MIN_IDLE_NS);
        findings.extend(idle.cloned().map(SoakFinding::Idle));
        findings.extend(more("idle periods", self.more_idle));
        findings
    }
}

fn more(of: &'static str, count: u64) -> Option<SoakFinding> {
    (count > 0).then_some(SoakFinding::More { of, count })
}

fn dns_failures(series: &Series) -> Option<SoakFinding> {
    let failed = series.intervals.iter().map(|one| one.dns_failed).sum();
    let responses: u64 = series.intervals.iter().map(|one| one.dns.count()).sum();
    let responses = responses.max(failed);
    let is_finding = failed >= MIN_DNS_FAILED && failed * 100 >= responses * MIN_DNS_FAILED_PERCENT;
    is_finding.then_some(SoakFinding::DnsFailures { failed, responses })
}

/// Endpoints that were first used in the second half, the earliest first.
fn late_endpoints(
    started_ns: u64,
    now_ns: u64,
    first_used: impl Iterator<Item = (EndpointKey, u64)>,
) -> Vec<SoakFinding> {
    let half_ns = started_ns + now_ns.saturating_sub(started_ns) / 2;
    let mut late: Vec<(u64, EndpointKey)> =
        first_used.filter(|(_, time_ns)| *time_ns > half_ns).map(|(key, time_ns)| (time_ns, key)).collect();
    late.sort_unstable();
    let rest = late.len().saturating_sub(MAX_FINDINGS) as u64;
    late.truncate(MAX_FINDINGS);
    let listed =
        late.into_iter().map(|(time_ns, key)| SoakFinding::LateEndpoint { key, after_ns: time_ns - started_ns });
    listed.chain(more("endpoints that were first used in the second half", rest)).collect()
}
