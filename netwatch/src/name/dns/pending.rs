//! Queries whose response is pending.

use std::collections::{HashMap, VecDeque};

use super::ObservedMessage;
use crate::flow::{Direction, FlowKey};
use crate::name::limits::NamesLost;
use crate::wire::dns::Question;

/// What identifies a transaction besides the question: the flow, the direction of the query, and
/// the id.
type TransactionKey = (FlowKey, Direction, u16);

/// Time that a program waits for a response, nanoseconds: the default of resolver libraries
/// (resolv.conf(5), `timeout`). A query without a response counts as in flight for this long.
pub const RESPONSE_TIMEOUT_NS: u64 = 5_000_000_000;

#[derive(Debug)]
struct PendingQuery {
    /// The first question of the message. Servers ignore others.
    question: Option<Question>,
    queried_by: Direction,
    time_ns: u64,
    /// Number of messages, retransmissions included.
    messages: u64,
}

/// Queries of one question that may still be answered.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct WaitingQueries {
    /// Number of messages, retransmissions included.
    pub messages: u64,
    /// The retransmissions among them.
    pub repeats: u64,
}

/// Pending queries, bounded.
#[derive(Debug)]
pub(super) struct Pending {
    queries: HashMap<TransactionKey, PendingQuery>,
    /// Keys by age; some of these queries have been answered.
    by_age: VecDeque<TransactionKey>,
    limit: usize,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        Self { queries: HashMap::new(), by_age: VecDeque::new(), limit: limit.max(1) }
    }

    /// Adds a query. A retransmission does not restart the time. Returns whether it is one.
    pub fn insert(&mut self, observed: &ObservedMessage<'_>, lost: &mut NamesLost) -> bool {
        let key = (observed.flow, observed.direction, observed.message.id);
        let question = observed.message.questions.first().cloned();
        if let Some(query) = self.queries.get_mut(&key).filter(|query| query.question == question) {
            query.messages += 1;
            return true;
        }
        let (time_ns, queried_by) = (observed.time_ns, observed.queried_by());
        if self.queries.insert(key, PendingQuery { question, queried_by, time_ns, messages: 1 }).is_none() {
            self.by_age.push_back(key);
        }
        self.shrink(lost);
        false
    }

    /// Removes the query of a response and returns its time. `None` if the question differs.
    pub fn take(&mut self, observed: &ObservedMessage<'_>) -> Option<u64> {
        let key = (observed.flow, observed.direction.opposite(), observed.message.id);
        let question = observed.message.questions.first();
        // Servers may omit the question from an error.
        if question.is_some() && self.queries.get(&key)?.question.as_ref() != question {
            return None;
        }
        self.queries.remove(&key).map(|query| query.time_ns)
    }

    /// Queries that may still be answered at this time: who sent them, and how many messages.
    pub fn in_flight(&self, now_ns: u64) -> HashMap<(&Question, Direction), WaitingQueries> {
        let mut in_flight: HashMap<_, WaitingQueries> = HashMap::new();
        let is_recent = |query: &&PendingQuery| now_ns.saturating_sub(query.time_ns) < RESPONSE_TIMEOUT_NS;
        for query in self.queries.values().filter(is_recent) {
            if let Some(question) = &query.question {
                let sum = in_flight.entry((question, query.queried_by)).or_default();
                sum.messages += query.messages;
                sum.repeats += query.messages.saturating_sub(1);
            }
        }
        in_flight
    }

    fn shrink(&mut self, lost: &mut NamesLost) {
        while self.queries.len() > self.limit
            && let Some(oldest) = self.by_age.pop_front()
        {
            lost.pending += u64::from(self.queries.remove(&oldest).is_some());
        }
        // Keys of answered queries are removed before they outnumber the pending ones.
        if self.by_age.len() > 2 * self.limit {
            let mut kept = std::mem::take(&mut self.by_age);
            kept.retain(|key| self.queries.contains_key(key));
            self.by_age = kept;
        }
    }
}
