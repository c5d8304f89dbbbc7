//! Which flows changed, by their place in the table: when they did last, and which of them still have to be handed to the recording.

use std::collections::VecDeque;

/// The flows that changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// By place in the table.
    marks: Vec<Mark>,
    /// Places that wait to be handed over, in the order in which they changed first since they were.
    waiting: VecDeque<usize>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Mark {
    /// The step in which it changed last, plus one; 0 for none.
    step: u64,
    waits: bool,
}

impl Changed {
    /// A flow changed in a step. Whether that was the first time in it.
    pub(super) fn note(&mut self, place: usize, step: u64, is_handed_over: bool) -> bool {
        if place >= self.marks.len() {
            self.marks.resize(place + 1, Mark::default());
        }
        let mark = &mut self.marks[place];
        if is_handed_over && !mark.waits {
            mark.waits = true;
            self.waiting.push_back(place);
        }
        let is_first = mark.step != step + 1;
        mark.step = step + 1;
        is_first
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes those that wait for longest, at most so many.
    pub(super) fn take(&mut self, most: usize) -> Vec<usize> {
        let taken: Vec<usize> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        taken.iter().for_each(|&place| self.marks[place].waits = false);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_first_once_a_step_and_waits_once() {
        let mut changed = Changed::default();
        assert!(changed.note(5, 0, true) && changed.note(2, 0, true) && !changed.note(5, 0, true));
        assert_eq!(changed.take(1), [5]);
        assert!(changed.note(5, 1, true), "another step");
        assert_eq!((changed.waiting(), changed.take(9)), (2, vec![2, 5]));
        assert!(!changed.note(5, 1, false), "changed in this step already");
        assert_eq!(changed.waiting(), 0, "nobody takes them");
    }
}
