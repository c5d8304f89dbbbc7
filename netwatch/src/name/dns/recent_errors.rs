//! Errors of recent lookups: a resolver library that gets one may ask again, with the same
//! transaction id and from the same socket. That is the same lookup.

use std::collections::HashMap;

use super::ObservedMessage;
use crate::flow::FlowKey;
use crate::wire::dns::{Question, Rcode};

/// Half of the number of transactions.
const MAX_RECENT: usize = 4096;
/// Time after which an equal id is that of another lookup, nanoseconds: more than the default
/// timeout of resolver libraries for all their attempts (resolv.conf(5)).
const MAX_LOOKUP_NS: u64 = 30_000_000_000;

type Transactions = HashMap<(FlowKey, u16), (Question, Rcode, u64)>;

/// Transactions whose last response was an error, bounded.
#[derive(Debug, Default)]
pub(super) struct RecentErrors {
    recent: Transactions,
    /// Those before `recent` was full.
    older: Transactions,
}

impl RecentErrors {
    /// Whether the transaction of this error had the same error before.
    pub(super) fn is_again(&mut self, question: &Question, observed: &ObservedMessage<'_>) -> bool {
        let key = (observed.flow, observed.message.id);
        let error = (question.clone(), observed.message.rcode, observed.time_ns);
        if self.recent.len() >= MAX_RECENT && !self.recent.contains_key(&key) {
            self.older = std::mem::take(&mut self.recent);
        }
        let before = self.recent.insert(key, error).or_else(|| self.older.remove(&key));
        before.is_some_and(|(asked, rcode, time_ns)| {
            let is_same = asked == *question && rcode == observed.message.rcode;
            is_same && observed.time_ns.saturating_sub(time_ns) < MAX_LOOKUP_NS
        })
    }
}
