//! Questions that wait for their answer.

use std::collections::{HashMap, VecDeque};

use super::ObservedMessage;
use crate::flow::{Direction, FlowKey};
use crate::name::limits::NamesLost;
use crate::wire::dns::Question;

/// What joins a question with its answer, beside what was asked.
type TransactionKey = (FlowKey, Direction, u16);

#[derive(Debug)]
struct PendingQuery {
    /// Only the first question of a message: servers answer no others.
    question: Option<Question>,
    time_ns: u64,
}

/// Within a bound.
#[derive(Debug)]
pub(super) struct Pending {
    asked: HashMap<TransactionKey, PendingQuery>,
    /// Keys by age; some are answered by now.
    by_age: VecDeque<TransactionKey>,
    limit: usize,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        Self { asked: HashMap::new(), by_age: VecDeque::new(), limit: limit.max(1) }
    }

    /// A repeated question is the same one: its answer took from the first time on.
    pub fn ask(&mut self, observed: &ObservedMessage<'_>, lost: &mut NamesLost) {
        let key = (observed.flow, observed.direction, observed.message.id);
        let question = observed.message.questions.first().cloned();
        if self.asked.get(&key).is_some_and(|asked| asked.question == question) {
            return;
        }
        if self.asked.insert(key, PendingQuery { question, time_ns: observed.time_ns }).is_none() {
            self.by_age.push_back(key);
        }
        self.shrink(lost);
    }

    /// When the question of this answer was asked. An answer to another question is none.
    pub fn answer(&mut self, observed: &ObservedMessage<'_>) -> Option<u64> {
        let key = (observed.flow, observed.direction.opposite(), observed.message.id);
        let question = observed.message.questions.first();
        // Servers may leave the question out of an error.
        if question.is_some() && self.asked.get(&key)?.question.as_ref() != question {
            return None;
        }
        self.asked.remove(&key).map(|asked| asked.time_ns)
    }

    fn shrink(&mut self, lost: &mut NamesLost) {
        while self.asked.len() > self.limit
            && let Some(oldest) = self.by_age.pop_front()
        {
            lost.pending += u64::from(self.asked.remove(&oldest).is_some());
        }
        // What was answered is thrown out before it is more than what waits.
        if self.by_age.len() > 2 * self.limit {
            let mut kept = std::mem::take(&mut self.by_age);
            kept.retain(|key| self.asked.contains_key(key));
            self.by_age = kept;
        }
    }
}
