//! Names of successive connections on one five-tuple. Samples have a time but no epoch, and a drain
//! may deliver several connections at once: names are divided by the times at which the connections
//! began.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::flow::FlowKey;
use crate::report::FlowNaming;

/// Looked up several times for every connection.
type ByFlow<V> = std::collections::HashMap<FlowKey, V, foldhash::fast::RandomState>;

/// Maximum number of five-tuples. Beyond it, names of a connection may be those of the one before.
const MAX_KEYS: usize = 65_536;

/// Maximum number of connections of one five-tuple that have not ended.
const MAX_PER_KEY: usize = 1024;

/// The beginnings of connections, and the names of those that were followed by another one.
#[derive(Debug, Default)]
pub(super) struct ConnectionNames {
    /// When connections began of which no sample was observed yet, the earliest first.
    begun: ByFlow<SmallVec<[u64; 1]>>,
    /// Names of earlier connections, and when the next one began, the earliest first.
    named: ByFlow<Vec<DividedNames>>,
}

/// When the next connection began, and the names until then.
type DividedNames = (u64, Option<Arc<FlowNaming>>);

/// What is known about the names of a connection.
pub(super) enum NamesOf<'c> {
    /// They were divided from those of the next connection.
    Earlier(Option<&'c Arc<FlowNaming>>),
    /// They are the newest names of its five-tuple.
    Newest,
    /// None was observed.
    Unobserved,
}

impl ConnectionNames {
    /// A connection began.
    pub(super) fn begin(&mut self, flow: FlowKey, time_ns: u64) {
        if self.begun.len() < MAX_KEYS || self.begun.contains_key(&flow) {
            let begun = self.begun.entry(flow).or_default();
            begun.push(time_ns);
            begun.truncate(MAX_PER_KEY);
        }
    }

    /// The time at which a connection began whose first sample has this time. The names so far are
    /// those of the connection before.
    pub(super) fn next(&mut self, flow: &FlowKey, sample_ns: u64) -> Option<u64> {
        let begun = self.begun.get_mut(flow)?;
        let count = begun.iter().take_while(|began| **began <= sample_ns).count();
        let next = begun.drain(..count).next();
        if begun.is_empty() {
            self.begun.remove(flow);
        }
        next
    }

    /// Stores the names of a connection. The next one began at `until_ns`.
    pub(super) fn store(&mut self, flow: FlowKey, until_ns: u64, naming: Option<Arc<FlowNaming>>) {
        if self.named.len() < MAX_KEYS || self.named.contains_key(&flow) {
            let named = self.named.entry(flow).or_default();
            named.push((until_ns, naming));
            named.truncate(MAX_PER_KEY);
        }
    }

    /// The names of the connection that began at `began_ns`.
    pub(super) fn names_of(&self, flow: &FlowKey, began_ns: u64) -> NamesOf<'_> {
        let earlier = self.named.get(flow).and_then(|all| all.iter().find(|(until, _)| *until > began_ns));
        if let Some((_, naming)) = earlier {
            return NamesOf::Earlier(naming.as_ref());
        }
        let is_unobserved = self.begun.get(flow).is_some_and(|begun| begun.iter().any(|began| *began <= began_ns));
        if is_unobserved { NamesOf::Unobserved } else { NamesOf::Newest }
    }

    /// Forgets the connection that began at `began_ns`.
    pub(super) fn forget(&mut self, flow: &FlowKey, began_ns: u64) {
        if let Some(named) = self.named.get_mut(flow) {
            named.iter().position(|(until, _)| *until > began_ns).map(|own| named.remove(own));
            if named.is_empty() {
                self.named.remove(flow);
            }
        }
        if let Some(begun) = self.begun.get_mut(flow) {
            begun.retain(|began| *began > began_ns);
            if begun.is_empty() {
                self.begun.remove(flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ObservationPoint, TransportAddress};
    use crate::report::DisplayName;

    fn key() -> FlowKey {
        let end = |port| TransportAddress { addr: [198, 51, 100, 1].into(), port };
        FlowKey { point: ObservationPoint::Link, protocol: 6, fragment: false, local: end(1), remote: end(2) }
    }

    fn naming(name: &str) -> Option<Arc<FlowNaming>> {
        let display_name =
            Some(DisplayName { name: crate::wire::Name::of_text(name), source: crate::name::NameSource::Sni });
        Some(Arc::new(FlowNaming { display_name, ..FlowNaming::default() }))
    }

    fn name_of(connections: &ConnectionNames, began_ns: u64) -> String {
        match connections.names_of(&key(), began_ns) {
            NamesOf::Earlier(naming) => {
                naming.and_then(|it| it.display_name.as_ref()).map_or("none".into(), |it| it.name.to_string())
            }
            NamesOf::Newest => "newest".into(),
            NamesOf::Unobserved => "unobserved".into(),
        }
    }

    #[test]
    fn samples_belong_to_the_connection_that_began_last() {
        let mut connections = ConnectionNames::default();
        [10, 20, 30].into_iter().for_each(|time| connections.begin(key(), time));
        assert_eq!(connections.next(&key(), 15), Some(10), "nothing was observed before");
        assert_eq!(connections.next(&key(), 16), None);
        assert_eq!((name_of(&connections, 10), name_of(&connections, 20)), ("newest".into(), "unobserved".into()));
        assert_eq!(connections.next(&key(), 25), Some(20));
        connections.store(key(), 20, naming("first.example"));
        assert_eq!(name_of(&connections, 10), "first.example");
        assert_eq!((name_of(&connections, 20), name_of(&connections, 30)), ("newest".into(), "unobserved".into()));
        connections.forget(&key(), 10);
        assert_eq!(name_of(&connections, 20), "newest");
        connections.forget(&key(), 30);
        assert!(connections.begun.is_empty() && connections.named.is_empty());
    }

    #[test]
    fn the_number_of_five_tuples_is_bounded() {
        let mut connections = ConnectionNames::default();
        let flow = |port: usize| FlowKey {
            local: TransportAddress { port: port as u16, ..key().local },
            remote: TransportAddress { port: (port >> 16) as u16, ..key().remote },
            ..key()
        };
        for port in 0..MAX_KEYS + 10 {
            connections.begin(flow(port), 1);
            connections.store(flow(port), 2, None);
        }
        assert_eq!((connections.begun.len(), connections.named.len()), (MAX_KEYS, MAX_KEYS));
    }
}
