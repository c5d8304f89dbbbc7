//! Questions, added up: how often, and how they went.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::Heard;
use super::chain;
use crate::flow::Direction;
use crate::name::limits::Lost;
use crate::wire::dns::{Data, Question, Rcode};
use crate::wire::{Application, Name};

/// Addresses and aliases of one question that are kept.
const MAX_ADDRESSES: usize = 64;
const MAX_ALIASES: usize = 16;

/// A question and everything that came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// What was asked.
    pub question: Question,
    /// [`Application::Dns`], [`Application::Mdns`] or [`Application::Llmnr`].
    pub application: Application,
    /// Egress: the target asked; ingress: it was asked.
    pub asked_by: Direction,
    /// How often.
    pub asked: u64,
    /// Answers, bad ones too; more than questions where these were not seen.
    pub answered: u64,
    /// Answers by how it went.
    pub outcomes: BTreeMap<Rcode, u64>,
    /// Answers that left something out.
    pub truncated: u64,
    /// How long answers took.
    pub response: ResponseTimes,
    /// The first time, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Addresses that it led to.
    pub addresses: Vec<IpAddr>,
    /// Names that it led to, in their order.
    pub aliases: Vec<Name>,
}

/// Response times, nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ResponseTimes {
    /// How many were measured.
    pub count: u64,
    /// The least.
    pub min_ns: u64,
    /// The greatest.
    pub max_ns: u64,
    /// All together.
    pub sum_ns: u64,
}

impl ResponseTimes {
    fn add(&mut self, took_ns: u64) {
        self.min_ns = if self.count == 0 { took_ns } else { self.min_ns.min(took_ns) };
        self.max_ns = self.max_ns.max(took_ns);
        self.sum_ns = self.sum_ns.saturating_add(took_ns);
        self.count += 1;
    }

    /// Their mean.
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }
}

impl Lookup {
    /// Questions without any answer.
    pub fn unanswered(&self) -> u64 {
        self.asked.saturating_sub(self.answered)
    }

    /// Answers other than "no error".
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().filter(|(rcode, _)| **rcode != Rcode::NOERROR).map(|(_, count)| count).sum()
    }

    fn learn(&mut self, heard: &Heard<'_>) {
        for led in chain::follow(heard.message) {
            if led.question == Some(&self.question.name)
                && !self.addresses.contains(&led.address)
                && self.addresses.len() < MAX_ADDRESSES
            {
                self.addresses.push(led.address);
            }
        }
        for record in &heard.message.records {
            if let Data::Alias(alias) = &record.data
                && !self.aliases.contains(alias)
                && self.aliases.len() < MAX_ALIASES
            {
                self.aliases.push(alias.clone());
            }
        }
    }
}

type Key = (Question, Application, Direction);

/// All of them, in the order in which they were seen first.
#[derive(Debug)]
pub(in crate::name) struct Lookups {
    all: Vec<Lookup>,
    index: HashMap<Key, usize>,
    limit: usize,
}

impl Lookups {
    pub fn new(limit: usize) -> Self {
        Self { all: Vec::new(), index: HashMap::new(), limit }
    }

    pub fn all(&self) -> &[Lookup] {
        &self.all
    }

    pub(super) fn asked(&mut self, question: &Question, heard: &Heard<'_>, lost: &mut Lost) {
        if let Some(lookup) = self.lookup(question, heard, heard.direction, lost) {
            lookup.asked += 1;
        }
    }

    pub(super) fn answered(&mut self, question: &Question, heard: &Heard<'_>, took_ns: Option<u64>, lost: &mut Lost) {
        let Some(lookup) = self.lookup(question, heard, heard.direction.opposite(), lost) else { return };
        lookup.answered += 1;
        *lookup.outcomes.entry(heard.message.rcode).or_default() += 1;
        lookup.truncated += u64::from(heard.message.is_truncated);
        took_ns.into_iter().for_each(|took_ns| lookup.response.add(took_ns));
        lookup.learn(heard);
    }

    fn lookup(
        &mut self,
        question: &Question,
        heard: &Heard<'_>,
        asked_by: Direction,
        lost: &mut Lost,
    ) -> Option<&mut Lookup> {
        let key = (question.clone(), heard.application, asked_by);
        if let Some(index) = self.index.get(&key) {
            return self.all.get_mut(*index);
        }
        if self.all.len() >= self.limit {
            lost.lookups += 1;
            return None;
        }
        self.index.insert(key, self.all.len());
        self.all.push(Lookup {
            question: question.clone(),
            application: heard.application,
            asked_by,
            asked: 0,
            answered: 0,
            outcomes: BTreeMap::new(),
            truncated: 0,
            response: ResponseTimes::default(),
            first_seen_ns: heard.time_ns,
            addresses: Vec::new(),
            aliases: Vec::new(),
        });
        self.all.last_mut()
    }
}
