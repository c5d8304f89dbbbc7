//! Reads the counters. Entries stay in the kernel and only grow, so nothing can be lost between reading and deleting; what grew is the
//! difference to the last reading.

use std::collections::HashMap;
use std::os::fd::AsFd;

use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::remainder;

use super::clock::Clock;
use super::object::Loaded;
use super::{sys, translate};
use crate::error::{Error, Result};
use crate::flow::Increment;

/// Entries read with one system call. Large enough for the fullest bucket the kernel will ever have.
const BATCH: usize = 4096;
const KEY: usize = size_of::<FlowKey>();
const VALUE: usize = size_of::<FlowValue>();

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct Drain {
    last: HashMap<FlowKey, FlowValue>,
}

impl Drain {
    pub(super) fn run(&mut self, loaded: &Loaded, grown: &mut dyn FnMut(Increment)) -> Result<()> {
        let clock = Clock::now();
        self.flows(loaded, clock, grown)?;
        for slot in 0..remainder::COUNT {
            let mut value = [0; VALUE];
            sys::map_lookup(loaded.map("REMAINDERS").as_fd(), &slot.to_ne_bytes(), &mut value).map_err(failed)?;
            self.entry(remainder::key(slot), value_of(&value), clock, grown);
        }
        Ok(())
    }

    fn flows(&mut self, loaded: &Loaded, clock: Clock, grown: &mut dyn FnMut(Increment)) -> Result<()> {
        let (mut keys, mut values) = (vec![0; BATCH * KEY], vec![0; BATCH * VALUE]);
        let mut position = None;
        loop {
            let map = loaded.map("FLOWS").as_fd();
            let batch = sys::map_lookup_batch(map, &mut position, &mut keys, &mut values, BATCH).map_err(failed)?;
            for (key, value) in keys.chunks_exact(KEY).zip(values.chunks_exact(VALUE)).take(batch.count) {
                self.entry(key_of(key), value_of(value), clock, grown);
            }
            if batch.finished {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, key: FlowKey, value: FlowValue, clock: Clock, grown: &mut dyn FnMut(Increment)) {
        let last = self.last.get(&key).copied().unwrap_or_default();
        if let Some(increment) = translate::increment(&key, &value, &last, clock) {
            grown(increment);
            self.last.insert(key, value);
        }
    }
}

fn failed(cause: std::io::Error) -> Error {
    Error::os("read", "the flow table", cause)
}

fn key_of(bytes: &[u8]) -> FlowKey {
    debug_assert_eq!(bytes.len(), KEY);
    // SAFETY: as many bytes as the type has, and any of them are valid (`Pod`).
    unsafe { bytes.as_ptr().cast::<FlowKey>().read_unaligned() }
}

fn value_of(bytes: &[u8]) -> FlowValue {
    debug_assert_eq!(bytes.len(), VALUE);
    // SAFETY: as above.
    unsafe { bytes.as_ptr().cast::<FlowValue>().read_unaligned() }
}
