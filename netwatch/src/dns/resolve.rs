//! Forwards one query to the resolvers in order, until one sends a useful response. Slow resolvers
//! are not remembered: on the host, too, the order in resolv.conf applies to every query, and with
//! a VPN the first resolver may have names that the second denies.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::exchange::{Exchanges, Transport};
use super::message::{self, Query, rcode};
use super::stats::{ExchangeError, SharedStats};
use super::upstream::Resolvers;

/// Returns the best response that arrives within the resolvers' timeout; without one, a SERVFAIL
/// made here.
///
/// glibc waits 5 s for a name server, then queries the next. Here the client has only one name
/// server, so all attempts must fit into its first 5 s (the timeout is nine tenths of that). Each
/// resolver gets an equal share of it before the next one is queried as well. The earlier exchanges
/// continue meanwhile, and the first useful response wins. After an explicit failure (ICMP error,
/// reset, SERVFAIL, REFUSED, NOTIMP) the next resolver is queried at once. Lost datagrams are not
/// retransmitted: the client does that, as on the host.
pub(super) async fn resolve(
    query: Query,
    transport: Transport,
    resolvers: &Resolvers,
    exchanges: &Exchanges,
    counters: &SharedStats,
) -> Vec<u8> {
    let query = Arc::new(query);
    let start = |resolver| {
        let (exchanges, query) = (exchanges.clone(), Arc::clone(&query));
        async move { exchanges.exchange(transport, resolver, query).await }
    };
    let response = Resolution::new(resolvers, counters, start).run().await;
    response.unwrap_or_else(|| query.error(rcode::SERVFAIL))
}

struct Resolution<'a, S> {
    resolvers: &'a Resolvers,
    counters: &'a SharedStats,
    /// Starts an exchange with a resolver.
    start: S,
    /// Number of resolvers that have been queried.
    queried: usize,
    exchanges: JoinSet<(SocketAddr, io::Result<Vec<u8>>)>,
    next_at: Instant,
    deadline: Instant,
    /// The first response that reports a failure of the resolver. It is preferred to a SERVFAIL
    /// made here because it carries the reason.
    unhelpful: Option<(SocketAddr, Vec<u8>)>,
}

impl<'a, S, F> Resolution<'a, S>
where
    S: Fn(SocketAddr) -> F,
    F: Future<Output = io::Result<Vec<u8>>> + Send + 'static,
{
    fn new(resolvers: &'a Resolvers, counters: &'a SharedStats, start: S) -> Self {
        let now = Instant::now();
        Self {
            resolvers,
            counters,
            start,
            queried: 0,
            exchanges: JoinSet::new(),
            next_at: now,
            deadline: now + resolvers.timeout,
            unhelpful: None,
        }
    }

    async fn run(mut self) -> Option<Vec<u8>> {
        self.query_next();
        while !self.exchanges.is_empty() {
            tokio::select! {
                Some(done) = self.exchanges.join_next() => {
                    let Ok((resolver, result)) = done else { continue };
                    if let Some(response) = self.useful(resolver, result) {
                        self.counters.count_response(resolver);
                        return Some(response);
                    }
                    self.query_next();
                }
                () = sleep_until(self.next_at), if self.has_more() => self.query_next(),
                () = sleep_until(self.deadline) => break,
            }
        }
        self.give_up()
    }

    fn has_more(&self) -> bool {
        self.queried < self.resolvers.addresses.len()
    }

    fn query_next(&mut self) {
        let Some(&resolver) = self.resolvers.addresses.get(self.queried) else { return };
        self.queried += 1;
        self.next_at = Instant::now() + self.resolvers.timeout / self.resolvers.addresses.len() as u32;
        let exchange = (self.start)(resolver);
        self.exchanges.spawn(async move { (resolver, exchange.await) });
    }

    /// The response, if it ends the resolution.
    fn useful(&mut self, resolver: SocketAddr, result: io::Result<Vec<u8>>) -> Option<Vec<u8>> {
        match result {
            Ok(response) if message::is_unhelpful(&response) => {
                self.counters.count_failure(ExchangeError::Unhelpful);
                self.unhelpful.get_or_insert((resolver, response));
                None
            }
            Ok(response) => Some(response),
            Err(error) => {
                self.counters.count_failure(ExchangeError::of(&error));
                None
            }
        }
    }

    fn give_up(self) -> Option<Vec<u8>> {
        for _ in 0..self.exchanges.len() {
            self.counters.count_failure(ExchangeError::Timeout);
        }
        if let Some((resolver, response)) = self.unhelpful {
            self.counters.count_response(resolver);
            return Some(response);
        }
        self.counters.lock().servfail += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::stats::Stats;

    /// How a simulated resolver reacts to a query.
    #[derive(Debug, Clone, Copy)]
    enum Reaction {
        RespondsAfterMs(u64),
        Fails(u8),
        RefusesConnections,
        Ignores,
    }

    impl Reaction {
        async fn react(self) -> io::Result<Vec<u8>> {
            // A header: a response, recursion available, one question.
            let mut response = vec![0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
            match self {
                Self::RespondsAfterMs(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    response[7] = 1;
                }
                Self::Fails(code) => response[3] |= code,
                Self::RefusesConnections => return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
                Self::Ignores => std::future::pending().await,
            }
            Ok(response)
        }
    }

    /// What a resolution returned, and how long it took on the runtime's clock, which is paused: it
    /// advances to the next timer when there is nothing else to do.
    struct Outcome {
        rcode: Option<u8>,
        ms: u128,
        stats: Stats,
    }

    async fn outcome(timeout_ms: u64, reactions: &[Reaction]) -> Outcome {
        let addresses = (0..reactions.len()).map(|n| SocketAddr::from(([198, 51, 100, n as u8], 53))).collect();
        let resolvers = Resolvers { addresses, timeout: Duration::from_millis(timeout_ms) };
        let counters = SharedStats::default();
        let start = |resolver: SocketAddr| {
            let number = resolvers.addresses.iter().position(|address| *address == resolver).unwrap();
            reactions[number].react()
        };
        let began = Instant::now();
        let response = Resolution::new(&resolvers, &counters, start).run().await;
        let stats = counters.lock().clone();
        Outcome { rcode: response.map(|response| response[3] & 0x0f), ms: began.elapsed().as_millis(), stats }
    }

    #[tokio::test(start_paused = true)]
    async fn queries_the_next_resolver_after_an_equal_share_of_the_timeout() {
        let outcome = outcome(900, &[Reaction::Ignores, Reaction::RespondsAfterMs(0)]).await;
        assert_eq!((outcome.rcode, outcome.stats.responses, outcome.stats.servfail), (Some(0), 1, 0));
        assert!((450..=451).contains(&outcome.ms), "{}", outcome.ms);
    }

    #[tokio::test(start_paused = true)]
    async fn takes_a_late_response_of_an_earlier_resolver() {
        let outcome = outcome(900, &[Reaction::RespondsAfterMs(600), Reaction::Ignores]).await;
        assert_eq!(outcome.rcode, Some(0));
        assert!((600..=601).contains(&outcome.ms), "{}", outcome.ms);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_timeout() {
        let outcome = outcome(1800, &[Reaction::Ignores]).await;
        assert_eq!((outcome.rcode, outcome.stats.failed.timeout, outcome.stats.servfail), (None, 1, 1));
        assert!((1800..=1801).contains(&outcome.ms), "{}", outcome.ms);
    }

    #[tokio::test(start_paused = true)]
    async fn queries_the_next_resolver_at_once_after_an_explicit_failure() {
        let reactions = [Reaction::RefusesConnections, Reaction::Fails(rcode::SERVFAIL), Reaction::RespondsAfterMs(0)];
        let outcome = outcome(4500, &reactions).await;
        assert_eq!((outcome.rcode, outcome.stats.failed.refused, outcome.stats.failed.unhelpful), (Some(0), 1, 1));
        assert!(outcome.ms <= 1, "{}", outcome.ms);
    }

    #[tokio::test(start_paused = true)]
    async fn prefers_a_resolvers_failure_to_its_own() {
        let reactions = [Reaction::Fails(rcode::REFUSED), Reaction::Fails(rcode::SERVFAIL)];
        let outcome = outcome(4500, &reactions).await;
        assert_eq!((outcome.rcode, outcome.stats.responses, outcome.stats.servfail), (Some(rcode::REFUSED), 1, 0));
        assert!(outcome.ms <= 1, "{}", outcome.ms);
    }
}
