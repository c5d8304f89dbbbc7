//! Names of the remotes of attempts without a packet: those of lookups and of connections before
//! them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::flow::Direction;
use crate::name::{Lookup, NameSource};
use crate::process::{Attempt, AttemptTarget};
use crate::session::FlowRecord;

/// Half of the number of addresses that have a name.
const MAX_RECENT: usize = 1 << 14;
/// Stands for all ports of an address.
const ANY_PORT: u16 = 0;

type NameWithSource = (Arc<str>, NameSource);

/// The latest name of each address, and of each address and port that had a connection.
#[derive(Debug, Default)]
pub(super) struct RecentNames {
    recent: HashMap<SocketAddr, NameWithSource>,
    /// Those that were not learned again since `recent` was full.
    older: HashMap<SocketAddr, NameWithSource>,
}

impl RecentNames {
    /// Remembers the answers to a query of the target.
    pub(super) fn note_lookup(&mut self, lookup: &Lookup) {
        if lookup.queried_by != Direction::Egress || lookup.addresses.is_empty() {
            return;
        }
        let name: Arc<str> = lookup.question.name.as_str().into();
        for address in &lookup.addresses {
            self.insert(SocketAddr::new(*address, ANY_PORT), (name.clone(), NameSource::Dns));
        }
    }

    /// Remembers the name of a connection that the target opened.
    pub(super) fn note_flow(&mut self, record: &FlowRecord) {
        let flow = &record.flow;
        let display = record.naming.as_ref().and_then(|naming| naming.display_name.as_ref());
        let (Some(display), Direction::Egress) = (display, flow.opened_by) else { return };
        let end = SocketAddr::new(flow.key.remote.addr, flow.key.remote.port);
        let is_same = |known: &NameWithSource| (&*known.0, known.1) == (display.name.as_str(), display.source);
        if self.recent.get(&end).is_some_and(is_same) {
            return;
        }
        let name: NameWithSource = (display.name.as_str().into(), display.source);
        let whole = SocketAddr::new(end.ip(), ANY_PORT);
        if !display.source.is_of_connection() && self.get(whole).is_none() {
            self.insert(whole, name.clone());
        }
        self.insert(end, name);
    }

    fn insert(&mut self, end: SocketAddr, name: NameWithSource) {
        if self.recent.len() >= MAX_RECENT && !self.recent.contains_key(&end) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.older.remove(&end);
        self.recent.insert(end, name);
    }

    fn get(&self, end: SocketAddr) -> Option<&NameWithSource> {
        self.recent.get(&end).or_else(|| self.older.get(&end))
    }

    /// The name of the address that was to be reached: of its endpoint, whose connections have more
    /// evidence, or of the latest lookup.
    pub(super) fn name(&self, attempt: &Attempt) -> Option<(&str, NameSource)> {
        let AttemptTarget::Address(end) = attempt.target else { return None };
        let known = self.get(end).or_else(|| self.get(SocketAddr::new(end.ip(), ANY_PORT)));
        known.map(|(name, source)| (&**name, *source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_were_learned_last_are_remembered() {
        let mut names = RecentNames::default();
        let end = |number: u32| SocketAddr::from((number.to_be_bytes(), ANY_PORT));
        for number in 0..4 * MAX_RECENT as u32 {
            names.insert(end(number), (number.to_string().as_str().into(), NameSource::Dns));
            names.insert(end(7), ("app.example".into(), NameSource::Dns));
        }
        assert!(names.recent.len() + names.older.len() <= 2 * MAX_RECENT);
        assert_eq!(names.get(end(7)).map(|(name, _)| &**name), Some("app.example"));
        assert!(names.get(end(8)).is_none() && names.get(end(4 * MAX_RECENT as u32 - 1)).is_some());
    }
}
