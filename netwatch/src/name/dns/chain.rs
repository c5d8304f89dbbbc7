//! The addresses that a question leads to, and their names. Only records that can be reached from
//! the question count, because a response may contain records of any name, including names that the
//! sender has no authority for.

use std::net::IpAddr;

use crate::wire::Name;
use crate::wire::dns::{DnsMessage, RecordData, ResourceRecord};

/// Maximum number of names followed; resolvers stop earlier.
const MAX_NAMES_FOLLOWED: usize = 32;

/// An address that a question leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReachedAddress<'a> {
    pub address: IpAddr,
    /// The name that has the address.
    pub owner: &'a Name,
    /// The name in the question; multicast responses have no question.
    pub question: Option<&'a Name>,
}

/// All addresses that the questions of a message lead to; without a question, all addresses.
pub(super) fn follow(message: &DnsMessage) -> Vec<ReachedAddress<'_>> {
    if message.questions.is_empty() {
        return message.records.iter().flat_map(|record| addresses(record, None)).collect();
    }
    let mut reached = Vec::new();
    for question in &message.questions {
        for owner in reachable(&question.name, &message.records) {
            let of_owner = message.records.iter().filter(|record| record.owner == *owner);
            reached.extend(of_owner.flat_map(|record| addresses(record, Some(&question.name))));
        }
    }
    reached
}

/// The names that a name leads to, beginning with itself.
fn reachable<'a>(name: &'a Name, records: &'a [ResourceRecord]) -> Vec<&'a Name> {
    let mut names = vec![name];
    let mut next = 0;
    while let Some(owner) = names.get(next).copied()
        && next < MAX_NAMES_FOLLOWED
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
