//! Which addresses a question led to, and by which names. Only what can be reached from the question counts: an answer may hold records about
//! anybody, and its sender is not the one to say who that is.

use std::net::IpAddr;

use crate::wire::Name;
use crate::wire::dns::{DnsMessage, RecordData, ResourceRecord};

/// Steps that are followed; resolvers give up earlier.
const MAX_STEPS: usize = 32;

/// An address that a question led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReachedAddress<'a> {
    pub address: IpAddr,
    /// The name that has the address.
    pub owner: &'a Name,
    /// What was asked; multicast answers come without.
    pub question: Option<&'a Name>,
}

/// Every address in a message that its questions lead to; without a question, every one.
pub(super) fn follow(message: &DnsMessage) -> Vec<ReachedAddress<'_>> {
    if message.questions.is_empty() {
        return message.records.iter().flat_map(|record| addresses(record, None)).collect();
    }
    let mut led = Vec::new();
    for question in &message.questions {
        for owner in reachable(&question.name, &message.records) {
            let of_owner = message.records.iter().filter(|record| record.owner == *owner);
            led.extend(of_owner.flat_map(|record| addresses(record, Some(&question.name))));
        }
    }
    led
}

/// The names that a name leads to, itself first.
fn reachable<'a>(name: &'a Name, records: &'a [ResourceRecord]) -> Vec<&'a Name> {
    let mut names = vec![name];
    let mut next = 0;
    while let Some(owner) = names.get(next).copied()
        && next < MAX_STEPS
    {
        for target in records.iter().filter(|record| record.owner == *owner).filter_map(target) {
            if !names.contains(&target) {
                names.push(target);
            }
        }
        next += 1;
    }
    names
}

fn target(record: &ResourceRecord) -> Option<&Name> {
    match &record.data {
        RecordData::Alias(target) | RecordData::Server(target) => Some(target),
        RecordData::ServiceBinding(service) => service.target.as_ref(),
        _ => None,
    }
}

fn addresses<'a>(record: &'a ResourceRecord, question: Option<&'a Name>) -> impl Iterator<Item = ReachedAddress<'a>> {
    let (one, hints, owner) = match &record.data {
        RecordData::Address(address) => (Some(*address), &[][..], &record.owner),
        RecordData::ServiceBinding(service) => {
            (None, &service.hints[..], service.target.as_ref().unwrap_or(&record.owner))
        }
        _ => (None, &[][..], &record.owner),
    };
    one.into_iter().chain(hints.iter().copied()).map(move |address| ReachedAddress { address, owner, question })
}
