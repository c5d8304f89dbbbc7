//! The reference meter: the user-space build of the parser and the accounting rules, with tables in
//! plain memory. It counts as the classifier does, so that tests can compare both.

use std::collections::HashMap;

use netwatch_common::access::ExclusiveAccess;
use netwatch_common::account;
use netwatch_common::config::Config;
use netwatch_common::flow::{EntryKey, FlowValue};
use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};
use netwatch_common::observation::Observation;
use netwatch_common::parse::{Captured, Frame, Hook, Meta};
use netwatch_common::{handshake, hash, remainder, round_trip};

#[derive(Debug, Default)]
pub(super) struct ReferenceMeter {
    /// By key and epoch.
    pub entries: HashMap<(EntryKey, u32), FlowValue>,
    epochs: HashMap<EntryKey, u32>,
    fragments: AllFragments,
    probes: HashMap<u32, round_trip::RttProbe>,
    pub config: Config,
}

#[derive(Debug, Default)]
struct AllFragments(HashMap<FragmentKey, FirstFragment>);

impl Fragments for AllFragments {
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment) {
        self.0.insert(*key, *first);
    }
    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        self.0.get(key).copied()
    }
}

impl ReferenceMeter {
    /// Number of stored first fragments.
    pub(super) fn fragments(&self) -> usize {
        self.fragments.0.len()
    }

    /// Counts a frame. Returns the key it was counted under.
    pub(super) fn run(&mut self, frame: &[u8], meta: &Meta, hook: Hook) -> EntryKey {
        self.count(&Captured::whole(frame), meta, hook)
    }

    /// As [`ReferenceMeter::run`], for any link layer.
    pub(super) fn count(&mut self, frame: &impl Frame, meta: &Meta, hook: Hook) -> EntryKey {
        let mut seen = Observation::new(frame, meta, hook, 1, &mut self.fragments);
        let key = if remainder::is_fixed(&seen.key) { remainder::key(remainder::slot(&seen.key)) } else { seen.key };
        assert_eq!(key, seen.key, "the key of a remainder's slot");
        let hash = hash::hash(hash::words(&seen.key));
        let Self { entries, epochs, probes, config, .. } = self;
        let probe = probes.entry(round_trip::probe_index(hash)).or_default();
        let epoch = epochs.entry(key).or_default();
        let before = entries.entry((key, *epoch)).or_default();
        // SAFETY: exclusive memory.
        if before.first_seen_ns != 0 && unsafe { handshake::begins_another(before, &seen) } {
            before.superseded = 1;
            *epoch += 1;
            // SAFETY: exclusive memory.
            unsafe { round_trip::disarm(probe, hash) };
        }
        let value = entries.entry((key, *epoch)).or_default();
        value.epoch = *epoch;
        // SAFETY: exclusive memory.
        unsafe {
            if value.first_seen_ns == 0 {
                account::open(value, &seen);
            }
            let repeated = round_trip::is_repeated(value, &seen.packet);
            account::record::<ExclusiveAccess>(value, &seen);
            let half = account::half(value, seen.direction);
            account::sample_reason::<ExclusiveAccess>(half, &seen, config);
            if seen.packet.flags != 0 {
                round_trip::measure::<ExclusiveAccess>(probe, value, hash, &mut seen, repeated, || 1);
            }
            if !remainder::is_fixed(&seen.key) {
                account::update_slow_path_mask(value, &seen.packet, config);
            }
        }
        key
    }

    /// Forgets all entries, as after all flows were retired. Remainders stay.
    pub(super) fn retire_all(&mut self) {
        self.entries.retain(|(key, _), _| remainder::is_fixed(key));
        self.epochs.clear();
    }
}
