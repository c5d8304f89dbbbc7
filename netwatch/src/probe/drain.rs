//! Reads the tables and takes differences. Entries are never deleted while packets may come: the classifier could still
//! hold one, and what it adds then would be lost. The counters only grow; what grew is what is new.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::remainder;

use super::abi::{self, Before};
use super::clock::Clock;
use super::sys;
use crate::error::{Error, Result};
use crate::flow::Increment;

/// Entries per system call: enough to make the call's own price vanish, little enough to stay small.
const BATCH: usize = 1024;

/// What was handed over already.
#[derive(Debug, Default)]
pub(super) struct Drain {
    before: HashMap<FlowKey, Before>,
}

impl Drain {
    /// Hands over all growth in both tables.
    pub(super) fn run(
        &mut self,
        flows: &OwnedFd,
        remainders: &OwnedFd,
        clock: Clock,
        sink: &mut impl FnMut(Increment),
    ) -> Result<()> {
        let mut visit = |key: &FlowKey, value: &FlowValue| {
            if let Some(increment) = self.growth(key, value, clock) {
                sink(increment);
            }
        };
        read::<FlowKey>(flows, "FLOWS", &mut visit)?;
        read::<u32>(remainders, "REMAINDERS", &mut |slot, value| visit(&remainder::key(*slot), value))
    }

    /// Also keeps the maximum of what was seen: a look at a live entry may show one counter older than the last look did.
    fn growth(&mut self, key: &FlowKey, value: &FlowValue, clock: Clock) -> Option<Increment> {
        // An element whose first packet is not counted yet, or an unused remainder.
        if value.first_seen_ns == 0 {
            return None;
        }
        let before = self.before.entry(*key).or_default();
        let increment = abi::increment(key, before, value, clock);
        *before = Before::from(value);
        increment
    }
}

/// Visits every element of a map from `K` to [`FlowValue`].
pub(super) fn read<K: aya::Pod>(map: &OwnedFd, name: &str, visit: &mut impl FnMut(&K, &FlowValue)) -> Result<()> {
    match read_batches(map, visit) {
        // Before Linux 5.6, or a map type without batches.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)) => {
            read_each(map, visit)
        }
        other => other,
    }
    .map_err(|cause| Error::os("read BPF map", name, cause))
}

/// The kernel's own, which is not in user space's errno.h.
const ENOTSUPP: i32 = 524;

fn read_batches<K: aya::Pod>(map: &OwnedFd, visit: &mut impl FnMut(&K, &FlowValue)) -> std::io::Result<()> {
    let mut buffer = Buffer::<K>::new(BATCH);
    let mut position = None;
    loop {
        let round = position;
        match buffer.fill(map, &mut position) {
            Ok(batch) => {
                buffer.elements(batch.count).for_each(|(key, value)| visit(key, value));
                if batch.finished {
                    return Ok(());
                }
            }
            // One bucket holds more than fits: again from the same position, with more room.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                position = round;
                buffer = Buffer::new(buffer.keys.len() * 2);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Room for one batch.
struct Buffer<K> {
    keys: Vec<K>,
    values: Vec<FlowValue>,
}

impl<K: aya::Pod> Buffer<K> {
    fn new(capacity: usize) -> Self {
        // SAFETY: plain data, for which zero is a value.
        let key: K = unsafe { std::mem::zeroed() };
        Self { keys: vec![key; capacity], values: vec![FlowValue::EMPTY; capacity] }
    }

    fn fill(&mut self, map: &OwnedFd, position: &mut Option<u32>) -> std::io::Result<sys::Batch> {
        let capacity = self.keys.len();
        let (keys, values) = (bytes(&mut self.keys), bytes(&mut self.values));
        sys::map_lookup_batch(map.as_fd(), position, keys, values, capacity)
    }

    fn elements(&self, count: usize) -> impl Iterator<Item = (&K, &FlowValue)> {
        self.keys.iter().zip(&self.values).take(count)
    }
}

fn bytes<T: aya::Pod>(slice: &mut [T]) -> &mut [u8] {
    // SAFETY: plain data without padding: any bytes are a value and every byte is initialised.
    unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), size_of_val(slice)) }
}

fn read_each<K: aya::Pod>(map: &OwnedFd, visit: &mut impl FnMut(&K, &FlowValue)) -> std::io::Result<()> {
    let mut one = Buffer::<K>::new(2);
    let mut known = false;
    loop {
        let (current, next) = one.keys.split_at_mut(1);
        let current = known.then(|| &*bytes(current));
        if !sys::map_next_key(map.as_fd(), current, bytes(next))? {
            return Ok(());
        }
        sys::map_lookup(map.as_fd(), bytes(next), bytes(&mut one.values[..1]))?;
        visit(&one.keys[1], &one.values[0]);
        one.keys.swap(0, 1);
        known = true;
    }
}
