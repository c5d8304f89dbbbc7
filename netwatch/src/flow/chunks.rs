//! A vector in chunks: it grows without moving its elements, so that no single push takes long.

use std::ops::{Index, IndexMut};

/// Elements of a chunk: at most some hundred kilobytes are allocated at once.
const CHUNK: usize = 1024;

/// A growing list of elements that stay where they are.
#[derive(Debug)]
pub struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunks<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        let full = self.0.len().saturating_sub(1) * CHUNK;
        full + self.0.last().map_or(0, Vec::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.0.push(chunk);
            }
        }
    }

    /// The element at this place.
    pub fn get(&self, place: usize) -> Option<&T> {
        self.0.get(place / CHUNK)?.get(place % CHUNK)
    }

    /// The element at this place, to change it.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.0.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.0[place / CHUNK][place % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.0[place / CHUNK][place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_where_they_are() {
        let mut chunks = Chunks::default();
        assert!(chunks.is_empty() && chunks.get(0).is_none());
        chunks.push(0);
        let first: *const usize = &chunks[0];
        (1..3 * CHUNK + 1).for_each(|number| chunks.push(number));
        assert_eq!(chunks.len(), 3 * CHUNK + 1);
        assert!(std::ptr::eq(first, &chunks[0]), "the first one has moved");
        chunks[CHUNK] += 1;
        *chunks.get_mut(CHUNK).expect("an element") -= 1;
        assert!(chunks.iter().copied().eq(0..3 * CHUNK + 1));
        assert_eq!((chunks.get(3 * CHUNK), chunks.get(3 * CHUNK + 1)), (Some(&(3 * CHUNK)), None));
    }
}
