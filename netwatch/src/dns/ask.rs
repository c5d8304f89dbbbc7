//! One query, all resolvers: asks them in order until one helps. Not a cache, and without a memory of who was slow: on the host the
//! order in resolv.conf decides each time anew, and with a VPN the first one knows names that the second denies.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::exchange::{Transport, exchange};
use super::message::{self, Query, rcode};
use super::stats::{Counters, Failure};
use super::upstream::Resolvers;

type Outcome = (SocketAddr, io::Result<Vec<u8>>);

/// The best answer to be had within the resolvers' patience, at worst a SERVFAIL of our own.
///
/// Time: glibc waits 5 s for one name server, then takes the next. Here the client sees one name server, so all attempts must fit into its
/// first 5 s (patience is nine tenths of that): each resolver gets an equal share before the next is asked as well. The earlier ones
/// are not given up meanwhile, the first good answer wins. A resolver that says no (ICMP, reset, SERVFAIL, REFUSED, NOTIMP) hands over at once. Lost
/// datagrams are the client's to repeat, as they are on the host.
pub(super) async fn ask(
    query: Arc<Query>,
    transport: Transport,
    resolvers: &Resolvers,
    counters: &Counters,
) -> Vec<u8> {
    let mut round = Round::new(query, transport, resolvers);
    round.start_next();
    while !round.attempts.is_empty() {
        tokio::select! {
            Some(done) = round.attempts.join_next() => {
                let Ok(outcome) = done else { continue };
                if let Some((resolver, answer)) = round.judge(outcome, counters) {
                    counters.answered_by(resolver);
                    return answer;
                }
                round.start_next();
            }
            () = sleep_until(round.next_at), if round.has_more() => round.start_next(),
            () = sleep_until(round.deadline) => break,
        }
    }
    round.give_up(counters)
}

struct Round<'a> {
    query: Arc<Query>,
    transport: Transport,
    resolvers: &'a Resolvers,
    asked: usize,
    attempts: JoinSet<Outcome>,
    next_at: Instant,
    deadline: Instant,
    /// Better than an error of our own: it says why.
    unhelpful: Option<(SocketAddr, Vec<u8>)>,
}

impl<'a> Round<'a> {
    fn new(query: Arc<Query>, transport: Transport, resolvers: &'a Resolvers) -> Self {
        let now = Instant::now();
        let deadline = now + resolvers.patience;
        Self {
            query,
            transport,
            resolvers,
            asked: 0,
            attempts: JoinSet::new(),
            next_at: now,
            deadline,
            unhelpful: None,
        }
    }

    fn has_more(&self) -> bool {
        self.asked < self.resolvers.addresses.len()
    }

    fn start_next(&mut self) {
        let Some(&resolver) = self.resolvers.addresses.get(self.asked) else { return };
        self.asked += 1;
        self.next_at = Instant::now() + self.resolvers.patience / self.resolvers.addresses.len() as u32;
        let (query, transport) = (Arc::clone(&self.query), self.transport);
        self.attempts.spawn(async move { (resolver, exchange(transport, resolver, &query).await) });
    }

    /// The answer, if it ends the search.
    fn judge(&mut self, (resolver, result): Outcome, counters: &Counters) -> Option<(SocketAddr, Vec<u8>)> {
        match result {
            Ok(answer) if message::is_unhelpful(&answer) => {
                counters.failed(Failure::Unhelpful);
                self.unhelpful.get_or_insert((resolver, answer));
                None
            }
            Ok(answer) => Some((resolver, answer)),
            Err(error) => {
                counters.failed(Failure::of(&error));
                None
            }
        }
    }

    fn give_up(self, counters: &Counters) -> Vec<u8> {
        for _ in 0..self.attempts.len() {
            counters.failed(Failure::Timeout);
        }
        if let Some((resolver, answer)) = self.unhelpful {
            counters.answered_by(resolver);
            return answer;
        }
        counters.lock().servfail += 1;
        self.query.error(rcode::SERVFAIL)
    }
}
