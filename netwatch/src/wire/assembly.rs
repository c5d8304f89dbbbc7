//! Reassembles a stream of bytes from pieces that arrive in any order, more than once, overlapping
//! or not at all, in bounded memory.

/// Maximum number of separate pieces. Each costs memory besides its bytes.
const MAX_PIECES: usize = 64;

/// A piece did not fit into the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Bytes of a stream by their offset. Where pieces overlap, the bytes that arrived first are kept:
/// a later piece cannot change what has been read.
#[derive(Debug)]
pub struct Assembly {
    /// In the order of their offsets, neither overlapping nor adjacent.
    pieces: Vec<Piece>,
    limit: usize,
    held: usize,
}

#[derive(Debug)]
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

impl Assembly {
    /// Holds at most `limit` bytes (and, as vectors grow, allocates at most twice that).
    pub fn new(limit: usize) -> Self {
        Self { pieces: Vec::new(), limit, held: 0 }
    }

    /// The number of bytes held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Adds bytes at an offset, as far as they fit.
    pub fn insert(&mut self, at: u64, bytes: &[u8]) -> Result<(), Full> {
        let Some(end) = at.checked_add(bytes.len() as u64) else { return Err(Full) };
        let (mut at, mut rest) = (at, bytes);
        while at < end {
            let next = self.pieces.partition_point(|piece| piece.end() <= at);
            if let Some(piece) = self.pieces.get(next)
                && piece.at <= at
            {
                rest = &rest[length(at, piece.end().min(end))..];
                at = piece.end().min(end);
                continue;
            }
            let gap_end = self.pieces.get(next).map_or(end, |piece| piece.at.min(end));
            let (fill, after) = rest.split_at(length(at, gap_end));
            self.fill(next, at, fill)?;
            (at, rest) = (gap_end, after);
        }
        Ok(())
    }

    /// Inserts bytes (at least one) that are in no piece before the piece `next`, and merges
    /// adjacent pieces.
    fn fill(&mut self, next: usize, at: u64, bytes: &[u8]) -> Result<(), Full> {
        let room = self.limit - self.held;
        let (bytes, rest) = bytes.split_at(bytes.len().min(room));
        if bytes.is_empty() {
            return Err(Full);
        }
        let touches = next.checked_sub(1).filter(|before| self.pieces[*before].end() == at);
        match touches {
            Some(before) => append(&mut self.pieces[before].bytes, bytes, self.limit),
            None if self.pieces.len() >= MAX_PIECES => return Err(Full),
            None => self.pieces.insert(next, Piece { at, bytes: bytes.to_vec() }),
        }
        self.held += bytes.len();
        self.join_next(touches.unwrap_or(next));
        if rest.is_empty() { Ok(()) } else { Err(Full) }
    }

    fn join_next(&mut self, index: usize) {
        if self.pieces.get(index + 1).is_some_and(|next| next.at == self.pieces[index].end()) {
            let next = self.pieces.remove(index + 1);
            append(&mut self.pieces[index].bytes, &next.bytes, self.limit);
        }
    }

    /// The contiguous bytes from an offset on; empty if there are none.
    pub fn from(&self, at: u64) -> &[u8] {
        let index = self.pieces.partition_point(|piece| piece.end() <= at);
        match self.pieces.get(index) {
            Some(piece) if piece.at <= at => &piece.bytes[length(piece.at, at)..],
            _ => &[],
        }
    }

    /// The offset of the first byte.
    pub fn start(&self) -> Option<u64> {
        self.pieces.first().map(|piece| piece.at)
    }

    /// Removes the bytes before an offset.
    pub fn remove_before(&mut self, at: u64) {
        let whole = self.pieces.partition_point(|piece| piece.end() <= at);
        let freed: usize = self.pieces.drain(..whole).map(|piece| piece.bytes.len()).sum();
        self.held -= freed;
        if let Some(first) = self.pieces.first_mut()
            && first.at < at
        {
            let part = length(first.at, at);
            first.bytes.drain(..part);
            first.at = at;
            self.held -= part;
        }
    }

    /// Removes all bytes and frees the memory.
    pub fn clear(&mut self) {
        self.pieces = Vec::new();
        self.held = 0;
    }
}

/// The distance between two offsets of the same piece.
fn length(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

/// Appends; the vector grows to at most twice its length, and never over `limit`.
fn append(to: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let needed = to.len() + bytes.len();
    if needed > to.capacity() {
        to.reserve_exact((needed * 2).min(limit).max(needed) - to.len());
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assembled(limit: usize, pieces: &[(u64, &[u8])]) -> Assembly {
        let mut assembly = Assembly::new(limit);
        pieces.iter().for_each(|(at, bytes)| assembly.insert(*at, bytes).unwrap());
        assembly
    }

    #[test]
    fn reassembles_pieces_in_any_order() {
        let stream = assembled(64, &[(3, b"def"), (0, b"ab"), (2, b"c"), (6, b"ghi")]);
        assert_eq!(stream.from(0), b"abcdefghi");
        assert_eq!(stream.from(7), b"hi");
        assert_eq!(stream.from(9), b"");
        assert_eq!(stream.pieces.len(), 1);
    }

    #[test]
    fn stops_at_a_gap() {
        let stream = assembled(64, &[(0, b"ab"), (3, b"d")]);
        assert_eq!(stream.from(0), b"ab");
        assert_eq!(stream.from(2), b"");
        assert_eq!(stream.from(3), b"d");
    }

    #[test]
    fn keeps_the_bytes_that_arrived_first() {
        let stream = assembled(64, &[(2, b"CD"), (0, b"abcdef"), (1, b"XXXX")]);
        assert_eq!(stream.from(0), b"abCDef");
    }

    #[test]
    fn limits_bytes_and_pieces() {
        let mut stream = assembled(4, &[(0, b"abc")]);
        assert_eq!(stream.insert(3, b"de"), Err(Full));
        assert_eq!(stream.from(0), b"abcd", "the part that fits");
        assert_eq!(stream.insert(0, b"abc"), Ok(()), "nothing new");
        assert_eq!(stream.insert(u64::MAX, b"xy"), Err(Full));
        let mut stream = Assembly::new(4096);
        let taken = (0..200).filter(|at| stream.insert(at * 2, b"x").is_ok()).count();
        assert_eq!(taken, MAX_PIECES);
    }

    #[test]
    fn removing_bytes_makes_room() {
        let mut stream = assembled(8, &[(0, b"abcd"), (6, b"gh")]);
        stream.remove_before(2);
        assert_eq!((stream.from(2), stream.held(), stream.start()), (&b"cd"[..], 4, Some(2)));
        stream.remove_before(7);
        assert_eq!((stream.from(7), stream.held()), (&b"h"[..], 1));
        stream.clear();
        assert_eq!((stream.held(), stream.start()), (0, None));
    }

    proptest! {
        /// Compares with a model: for each offset, the byte that arrived first.
        #[test]
        fn equals_the_model(pieces in prop::collection::vec((0u64..100, prop::collection::vec(any::<u8>(), 0..20)), 0..60), limit in 0usize..120) {
            let mut assembly = Assembly::new(limit);
            let mut model: Vec<Option<u8>> = vec![None; 128];
            for (at, bytes) in &pieces {
                if assembly.insert(*at, bytes).is_err() {
                    return Ok(());
                }
                for (byte, place) in bytes.iter().zip(*at as usize..) {
                    model[place].get_or_insert(*byte);
                }
            }
            prop_assert_eq!(assembly.held(), model.iter().flatten().count());
            prop_assert!(assembly.held() <= limit);
            for at in 0..model.len() {
                let expected: Vec<u8> = model[at..].iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(assembly.from(at as u64), &expected[..]);
            }
        }
    }
}
