//! Queries whose response is pending.

use std::collections::{HashMap, VecDeque};

use super::ObservedMessage;
use crate::flow::{Direction, FlowKey};
use crate::name::limits::NamesLost;
use crate::wire::dns::Question;

/// What identifies a transaction besides the question: the flow, the direction of the query, and
/// the id.
type TransactionKey = (FlowKey, Direction, u16);

#[derive(Debug)]
struct PendingQuery {
    /// The first question of the message; servers answer no others.
    question: Option<Question>,
    time_ns: u64,
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

    /// Adds a query. A retransmission does not restart the time.
    pub fn insert(&mut self, observed: &ObservedMessage<'_>, lost: &mut NamesLost) {
        let key = (observed.flow, observed.direction, observed.message.id);
        let question = observed.message.questions.first().cloned();
        if self.queries.get(&key).is_some_and(|query| query.question == question) {
            return;
        }
        if self.queries.insert(key, PendingQuery { question, time_ns: observed.time_ns }).is_none() {
            self.by_age.push_back(key);
        }
        self.shrink(lost);
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
