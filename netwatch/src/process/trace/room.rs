//! How much is kept of something, and when it is time to look what of it is over.

/// Room for so many. What is over is looked for before it is full, and not again before there is a good deal more or no room at all: a look
/// is at everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    max: usize,
    tidy_at: usize,
}

impl Room {
    pub(super) fn new(max: usize) -> Self {
        Self { max, tidy_at: at_first(max) }
    }

    pub(super) fn is_full(self, len: usize) -> bool {
        len >= self.max
    }

    /// Whether to look.
    pub(super) fn is_due(self, len: usize) -> bool {
        len >= self.tidy_at
    }

    /// It was looked at, and so many are left.
    pub(super) fn was_tidied(&mut self, len: usize) {
        self.tidy_at = at_first(self.max).max(len + self.max / 16).min(self.max);
    }
}

/// What comes within a second finds room in the rest.
fn at_first(max: usize) -> usize {
    max - max / 4
}
