//! One direction of a TCP flow: orders segments, and keeps the offset up to which it has been read.

use crate::wire::{Assembly, Full};

/// The offset of the first segment that is observed. Earlier segments have smaller offsets.
const ORIGIN: u64 = 1 << 40;
/// Maximum number of offsets in each list.
const MAX_OFFSETS: usize = 64;

/// Segments in order.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Assembly,
    /// A sequence number and its offset, from which the offsets of others are computed.
    known: Option<(u32, u64)>,
    /// The first sequence number, from a SYN.
    first: Option<u32>,
    /// The offset up to which the stream has been read.
    position: u64,
    /// Whether bytes before `position` were recognized. Then no byte is read twice.
    is_read: bool,
    /// Offsets of segments after `position`, in order: messages may begin there.
    starts: Vec<u64>,
    /// Offsets at which samples were cut: the bytes that follow will never arrive.
    cuts: Vec<u64>,
}

impl Stream {
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Assembly::new(limit),
            known: None,
            first: None,
            position: ORIGIN,
            is_read: false,
            starts: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Takes the sequence number of the first byte, from a SYN. False if this stream began at
    /// another one: the SYN is of another connection.
    pub fn begin(&mut self, sequence: u32) -> bool {
        match (self.first, self.known) {
            (Some(first), _) => return first == sequence,
            (None, None) => self.known = Some((sequence, ORIGIN)),
            // A SYN that arrives late. If its sequence number follows that of bytes which have
            // already arrived, it belongs to another connection.
            (None, Some(_)) if self.offset(sequence) > self.bytes.start().unwrap_or(self.position) => return false,
            (None, Some(_)) => {}
        }
        self.first = Some(sequence);
        true
    }

    /// Adds an offset in order, if there is room.
    pub fn push(&mut self, sequence: u32, payload: &[u8], is_cut: bool) -> Result<bool, Full> {
        let offset = self.offset(sequence);
        self.drop_foreign(offset, payload);
        let end = offset + payload.len() as u64;
        let rewinds = offset < self.position && !self.is_read && self.bytes.held() > 0;
        if offset < self.position && self.is_read {
            let skip = usize::try_from(self.position - offset).unwrap_or(usize::MAX);
            if skip >= payload.len() {
                return Ok(false);
            }
            self.bytes.insert(self.position, &payload[skip..])?;
        } else {
            self.bytes.insert(offset, payload)?;
            if self.bytes.held() == payload.len() && !self.is_read {
                self.position = offset;
            }
        }
        if is_cut {
            remember(&mut self.cuts, end);
        }
        if rewinds {
            self.position = offset;
        } else if offset > self.position {
            remember(&mut self.starts, offset);
        }
        Ok(rewinds)
    }

    /// Removes the earlier bytes if other bytes arrive at the same offset before anything was
    /// recognized: the earlier ones did not belong to this stream. Some devices pass on the padding
    /// of short Ethernet frames as payload.
    fn drop_foreign(&mut self, offset: u64, payload: &[u8]) {
        let held = self.bytes.from(offset);
        let both = held.len().min(payload.len());
        if !self.is_read && held[..both] != payload[..both] {
            self.bytes.clear();
            self.starts.clear();
            self.position = offset;
        }
    }

    fn offset(&mut self, sequence: u32) -> u64 {
        let (known, known_offset) = *self.known.get_or_insert((sequence, ORIGIN));
        let distance = sequence.wrapping_sub(known).cast_signed();
        let offset = known_offset.saturating_add_signed(distance.into());
        if offset > known_offset {
            self.known = Some((sequence, offset));
        }
        offset
    }

    /// The contiguous bytes at the current offset.
    pub fn readable(&self) -> &[u8] {
        self.bytes.from(self.position)
    }

    /// Whether a sample was cut at the end of the readable bytes. Then no more will arrive.
    pub fn is_cut(&self) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(self.position + self.readable().len() as u64))
    }

    /// Moves behind `count` bytes that were recognized; some of them may not have arrived yet.
    pub fn advance(&mut self, count: u64) {
        self.is_read = true;
        self.position = self.position.saturating_add(count);
        self.trim();
    }

    /// Moves to the start of the next segment; false if there is none. Moves across a gap only if
    /// `over_gaps` is true.
    pub fn next_start(&mut self, over_gaps: bool) -> bool {
        let reachable = self.position + self.readable().len() as u64;
        let next = self.starts.partition_point(|start| *start <= self.position);
        let Some(start) = self.starts.get(next).copied() else { return false };
        if start > reachable && self.is_read && !over_gaps {
            return false;
        }
        self.position = start;
        self.starts.drain(..=next);
        if self.is_read {
            self.trim();
        }
        true
    }

    /// Skips the readable bytes if anything has been recognized: they are not needed.
    pub fn skip_readable(&mut self) {
        if self.is_read {
            self.advance(self.readable().len() as u64);
        }
    }

    /// Whether anything has been recognized.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    fn trim(&mut self) {
        self.bytes.remove_before(self.position);
        self.starts.retain(|start| *start > self.position);
        self.cuts.retain(|cut| *cut > self.position);
    }

    pub fn held(&self) -> usize {
        self.bytes.held()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts = Vec::new();
        self.cuts = Vec::new();
    }
}

/// Inserts an offset in order, if there is room.
fn remember(offsets: &mut Vec<u64>, offset: u64) {
    if let Err(index) = offsets.binary_search(&offset)
        && offsets.len() < MAX_OFFSETS
    {
        offsets.insert(index, offset);
    }
}
