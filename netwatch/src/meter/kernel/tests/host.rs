//! The host's build of the parser and the rules of accounting, in plain memory.

use std::collections::HashMap;

use netwatch_common::access::Exclusive;
use netwatch_common::account;
use netwatch_common::config::Config;
use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{Captured, Hook, Meta};
use netwatch_common::{hash, remainder, round_trip};

#[derive(Debug, Default)]
pub(super) struct Host {
    pub entries: HashMap<FlowKey, FlowValue>,
    fragments: Remembered,
    probes: HashMap<u32, round_trip::RttProbe>,
    pub config: Config,
}

#[derive(Debug, Default)]
struct Remembered(HashMap<FragmentKey, FirstFragment>);

impl Fragments for Remembered {
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment) {
        self.0.insert(*key, *first);
    }
    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        self.0.get(key).copied()
    }
}

impl Host {
    /// How many first fragments it remembers.
    pub(super) fn fragments(&self) -> usize {
        self.fragments.0.len()
    }

    /// Counts a frame, and says under which key.
    pub(super) fn run(&mut self, frame: &[u8], meta: &Meta, hook: Hook) -> FlowKey {
        let mut seen = Observation::new(&Captured::whole(frame), meta, hook, 1, &mut self.fragments);
        let key = if remainder::is_fixed(&seen.key) { remainder::key(remainder::slot(&seen.key)) } else { seen.key };
        assert_eq!(key, seen.key, "the slot of a remainder stands for its key");
        let value = self.entries.entry(key).or_default();
        // SAFETY: exclusive memory.
        unsafe {
            if value.first_seen_ns == 0 {
                account::open(value, &seen);
            }
            let repeated = round_trip::is_repeated(value, &seen.packet);
            account::record::<Exclusive>(value, &seen);
            let half = account::half(value, seen.direction);
            account::sample_reason::<Exclusive>(half, &seen, &self.config);
            if seen.packet.flags != 0 {
                let hash = hash::hash(hash::words(&seen.key));
                let probe = self.probes.entry(round_trip::probe_index(hash)).or_default();
                round_trip::measure::<Exclusive>(probe, value, hash, &mut seen, repeated, || 1);
            }
            if !remainder::is_fixed(&seen.key) {
                account::update_slow_path_mask(value, &seen.packet, &self.config);
            }
        }
        key
    }
}
