//! What the forwarder did, in numbers: every query that got no real answer is counted under a reason. Not: which names were asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

/// How many resolvers are told apart in [`Stats::answers_by_resolver`]; a host that changes its resolvers without end must not grow us.
const RESOLVERS_TOLD_APART: usize = 32;

/// Counters since the forwarder started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Well-formed queries by UDP.
    pub queries_udp: u64,
    /// Well-formed queries by TCP.
    pub queries_tcp: u64,
    /// Queries answered with a resolver's answer, whatever it said.
    pub answers: u64,
    /// Queries answered with SERVFAIL of our own, because no resolver answered.
    pub servfail: u64,
    /// Messages that were no query; answered with FORMERR where they had a header and were not a response.
    pub malformed: u64,
    /// The oldest queries, given up to make room for new ones.
    pub dropped_in_flight: u64,
    /// TCP connections closed at once because too many were open.
    pub dropped_connections: u64,
    /// Answers that could not be sent to the client.
    pub unsent: u64,
    /// Attempts at one resolver that brought no usable answer; one query can make several.
    pub failed: Failures,
    /// Which resolver gave how many of the answers.
    #[serde(serialize_with = "addresses_as_strings")]
    pub answers_by_resolver: BTreeMap<SocketAddr, u64>,
}

/// Attempts without a usable answer, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// No answer in time.
    pub timeout: u64,
    /// Nobody listens there: ICMP port unreachable, or a TCP reset.
    pub refused: u64,
    /// No way there.
    pub unreachable: u64,
    /// An answer that helps nobody: SERVFAIL, NOTIMP, REFUSED, or neither authority nor recursion.
    pub unhelpful: u64,
    /// Another error of the socket, such as too many open files.
    pub socket: u64,
}

/// Why one attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Refused,
    Unreachable,
    Unhelpful,
    Socket,
}

impl Failure {
    pub(super) fn of(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            // The other side hung up or sent nonsense over TCP: it was there and did not answer.
            Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::EPIPE) => Self::Refused,
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::Refused,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL) => Self::Unreachable,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            _ => Self::Socket,
        }
    }
}

/// The counters, shared by the forwarder's tasks and whoever reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters(Arc<Mutex<Stats>>);

impl Counters {
    pub(super) fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn failed(&self, failure: Failure) {
        let failed = &mut self.lock().failed;
        match failure {
            Failure::Timeout => failed.timeout += 1,
            Failure::Refused => failed.refused += 1,
            Failure::Unreachable => failed.unreachable += 1,
            Failure::Unhelpful => failed.unhelpful += 1,
            Failure::Socket => failed.socket += 1,
        }
    }

    pub(super) fn answered_by(&self, resolver: SocketAddr) {
        let mut stats = self.lock();
        stats.answers += 1;
        let by_resolver = &mut stats.answers_by_resolver;
        if by_resolver.len() < RESOLVERS_TOLD_APART || by_resolver.contains_key(&resolver) {
            *by_resolver.entry(resolver).or_default() += 1;
        }
    }
}

fn addresses_as_strings<S: serde::Serializer>(map: &BTreeMap<SocketAddr, u64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(map.iter().map(|(address, count)| (address.to_string(), count)))
}
