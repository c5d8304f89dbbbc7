//! A ring buffer of the kernel, and the records that were moved out of it into memory. Moving is
//! all that has to keep pace with the kernel: what a record means can be determined later.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{Map, MapData, RingBuf};

use crate::error::{Error, Result};

/// Maximum memory of moved records. Beyond that, records stay in the ring, and those that find no
/// room there are counted as lost.
const MAX_MOVED_BYTES: usize = 32 << 20;

/// A ring that several threads can move records out of. A clone is the same ring.
#[derive(Clone)]
pub(super) struct SharedRing(Arc<Mutex<Ring>>);

struct Ring {
    ring: RingBuf<MapData>,
    moved: MovedRecords,
}

impl SharedRing {
    pub(super) fn open(map: &OwnedFd, name: &str) -> Result<Self> {
        let copy = map.try_clone().map_err(|cause| Error::os("open BPF map", name, cause))?;
        let failed = |cause: aya::maps::MapError| Error::other("open BPF map", name, cause.to_string());
        let map = MapData::from_fd(copy).map_err(failed)?;
        let ring = Map::from_map_data(map).and_then(RingBuf::try_from).map_err(failed)?;
        Ok(Self(Arc::new(Mutex::new(Ring { ring, moved: MovedRecords::default() }))))
    }

    /// Moves the records in the ring. Returns the number of their bytes.
    pub(super) fn move_records(&self) -> usize {
        let Ring { ring, moved } = &mut *self.lock();
        let before = moved.bytes.len();
        while moved.bytes.len() < MAX_MOVED_BYTES
            && let Some(record) = ring.next()
        {
            moved.push(&record);
        }
        moved.bytes.len() - before
    }

    /// Moves the records in the ring, and takes all that were moved.
    pub(super) fn take(&self) -> MovedRecords {
        self.move_records();
        std::mem::take(&mut self.lock().moved)
    }

    /// Returns the memory of records that were taken, to be used again.
    pub(super) fn give_back(&self, mut records: MovedRecords) {
        /// More is only needed in a burst.
        const MAX_KEPT_BYTES: usize = 1 << 20;
        records.bytes.clear();
        let moved = &mut self.lock().moved;
        if moved.bytes.capacity() == 0 && records.bytes.capacity() <= MAX_KEPT_BYTES {
            *moved = records;
        }
    }

    /// The descriptor that becomes readable when there are records in the ring.
    pub(super) fn descriptor(&self) -> RawFd {
        self.lock().ring.as_raw_fd()
    }

    /// A panic of another thread leaves complete records.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SharedRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedRing")
    }
}

/// Records in order, each after its length.
#[derive(Debug, Default)]
pub(super) struct MovedRecords {
    bytes: Vec<u8>,
}

impl MovedRecords {
    fn push(&mut self, record: &[u8]) {
        // The kernel limits a record to less than 512 MiB.
        self.bytes.extend((record.len() as u32).to_ne_bytes());
        self.bytes.extend(record);
    }

    /// Number of bytes, lengths included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let (record, after) = after.split_at(u32::from_ne_bytes(*length) as usize);
            rest = after;
            Some(record)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_order_and_bounds() {
        let mut records = MovedRecords::default();
        let pushed = [&b"first"[..], b"", b"third record"];
        pushed.iter().for_each(|record| records.push(record));
        assert_eq!(records.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(records.len(), 3 * 4 + 17);
    }
}
