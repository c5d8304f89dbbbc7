//! One direction of a TCP flow: segments put in order, and the place where reading is.

use crate::wire::{Assembly, Full};

/// Where the first segment that is seen is put. Segments before it have room too.
const ORIGIN: u64 = 1 << 40;
/// Places that are remembered.
const MAX_PLACES: usize = 64;

/// Segments in order.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Assembly,
    /// A sequence number and its place, so that others can be placed by their distance.
    known: Option<(u32, u64)>,
    /// From a SYN.
    first: Option<u32>,
    /// Where reading is.
    position: u64,
    /// Something before `position` was understood, so nothing can come before that any more.
    is_read: bool,
    /// Where segments behind `position` began, in order: where messages may begin.
    starts: Vec<u64>,
    /// Where samples were cut: what follows will never come.
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

    /// A SYN: the first byte's sequence number, before which nothing comes. False if this stream began elsewhere: it is another one.
    pub fn begin(&mut self, sequence: u32) -> bool {
        match (self.first, self.known) {
            (Some(first), _) => return first == sequence,
            (None, None) => self.known = Some((sequence, ORIGIN)),
            // A SYN that comes late. Behind what was seen it can only be another's.
            (None, Some(_)) if self.place(sequence) > self.bytes.start().unwrap_or(self.position) => return false,
            (None, Some(_)) => {}
        }
        self.first = Some(sequence);
        true
    }

    /// Adds a segment. True if reading has to begin anew, before where it was.
    pub fn push(&mut self, sequence: u32, payload: &[u8], is_cut: bool) -> Result<bool, Full> {
        let place = self.place(sequence);
        self.drop_foreign(place, payload);
        let end = place + payload.len() as u64;
        let rewinds = place < self.position && !self.is_read && self.bytes.held() > 0;
        if place < self.position && self.is_read {
            let skip = usize::try_from(self.position - place).unwrap_or(usize::MAX);
            if skip >= payload.len() {
                return Ok(false);
            }
            self.bytes.insert(self.position, &payload[skip..])?;
        } else {
            self.bytes.insert(place, payload)?;
            if self.bytes.held() == payload.len() && !self.is_read {
                self.position = place;
            }
        }
        if is_cut {
            remember(&mut self.cuts, end);
        }
        if rewinds {
            self.position = place;
        } else if place > self.position {
            remember(&mut self.starts, place);
        }
        Ok(rewinds)
    }

    /// Other bytes at the same place, before anything was understood: what was there was not of this stream. Devices are known that let the
    /// padding of short Ethernet frames pass for payload.
    fn drop_foreign(&mut self, place: u64, payload: &[u8]) {
        let held = self.bytes.from(place);
        let both = held.len().min(payload.len());
        if !self.is_read && held[..both] != payload[..both] {
            self.bytes.clear();
            self.starts.clear();
            self.position = place;
        }
    }

    fn place(&mut self, sequence: u32) -> u64 {
        let (known, known_place) = *self.known.get_or_insert((sequence, ORIGIN));
        let distance = sequence.wrapping_sub(known).cast_signed();
        let place = known_place.saturating_add_signed(distance.into());
        if place > known_place {
            self.known = Some((sequence, place));
        }
        place
    }

    /// The bytes that come next.
    pub fn readable(&self) -> &[u8] {
        self.bytes.from(self.position)
    }

    /// A sample was cut where the readable bytes end: more will not come.
    pub fn is_cut(&self) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(self.position + self.readable().len() as u64))
    }

    /// Goes on behind `count` bytes that were understood; some of them may be still to come.
    pub fn advance(&mut self, count: u64) {
        self.is_read = true;
        self.position = self.position.saturating_add(count);
        self.forget();
    }

    /// Goes on where the next segment begins; false if none does. Over a gap only if asked to.
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
            self.forget();
        }
        true
    }

    /// Steps over what is readable, once something was understood: it is of no use.
    pub fn skip_readable(&mut self) {
        if self.is_read {
            self.advance(self.readable().len() as u64);
        }
    }

    /// Something was understood.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    fn forget(&mut self) {
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

/// Adds a place in order, if there is room.
fn remember(places: &mut Vec<u64>, place: u64) {
    if let Err(index) = places.binary_search(&place)
        && places.len() < MAX_PLACES
    {
        places.insert(index, place);
    }
}
