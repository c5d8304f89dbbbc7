//! Counters of the forwarder. Every query without a response of a resolver is counted by its
//! reason; names are not stored.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of entries in [`Stats::responses_by_resolver`]: a host may change its resolvers
/// without limit.
const MAX_RESOLVERS: usize = 32;

/// Counters since the forwarder started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Well-formed queries by UDP.
    pub queries_udp: u64,
    /// Well-formed queries by TCP.
    pub queries_tcp: u64,
    /// Queries answered with a resolver's response of any RCODE.
    pub responses: u64,
    /// Queries that the forwarder itself answered with SERVFAIL, because no resolver responded.
    pub servfail: u64,
    /// Messages that were not queries; answered with FORMERR if they had a header and were not
    /// responses.
    pub malformed: u64,
    /// Datagrams and connections of other clients than the target, which are not answered.
    pub strangers: u64,
    /// UDP queries for which there was no memory, or too many were in flight from the same socket.
    pub dropped_queries: u64,
    /// Datagrams that the kernel dropped, nearly always because the buffer of the listening socket
    /// was full.
    pub dropped_by_kernel: u64,
    /// Responses that could not be sent to the client.
    pub unsent: u64,
    /// Exchanges with a resolver without a useful response; one query can cause several.
    pub failed: FailedExchanges,
    /// How many responses each resolver sent.
    pub responses_by_resolver: BTreeMap<SocketAddr, u64>,
}

/// Exchanges without a useful response, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedExchanges {
    /// No response in time.
    pub timeout: u64,
    /// No server at that address and port: ICMP port unreachable, or a TCP reset.
    pub refused: u64,
    /// No route, or no reachable host.
    pub unreachable: u64,
    /// A response after which a client tries its next server: SERVFAIL, NOTIMP, REFUSED, or an
    /// empty one of a server that is not authoritative and does not recurse.
    pub unhelpful: u64,
    /// Another error of the socket, such as too many open files.
    pub socket: u64,
}

/// Why one exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExchangeError {
    Timeout,
    Refused,
    Unreachable,
    Unhelpful,
    Socket,
}

impl ExchangeError {
    pub(super) fn of(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::EPIPE) => Self::Refused,
            // The server closed the TCP connection without a response.
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::Refused,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL) => Self::Unreachable,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            _ => Self::Socket,
        }
    }
}

/// The counters, shared by the forwarder's tasks and the thread that started it.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStats(Arc<Mutex<Stats>>);

impl SharedStats {
    pub(super) fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_failure(&self, error: ExchangeError) {
        let failed = &mut self.lock().failed;
        match error {
            ExchangeError::Timeout => failed.timeout += 1,
            ExchangeError::Refused => failed.refused += 1,
            ExchangeError::Unreachable => failed.unreachable += 1,
            ExchangeError::Unhelpful => failed.unhelpful += 1,
            ExchangeError::Socket => failed.socket += 1,
        }
    }

    pub(super) fn count_response(&self, resolver: SocketAddr) {
        let mut stats = self.lock();
        stats.responses += 1;
        let by_resolver = &mut stats.responses_by_resolver;
        if by_resolver.len() < MAX_RESOLVERS || by_resolver.contains_key(&resolver) {
            *by_resolver.entry(resolver).or_default() += 1;
        }
    }
}
