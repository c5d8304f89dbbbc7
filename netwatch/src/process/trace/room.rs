//! How much is kept of something, and when it is time to look what of it is over.

/// Room for so many. ProcessAction is over is looked for when there is twice as much as the last look left, so that memory is for what goes on, and
/// before it is full; not more often, because a look is at everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    max: usize,
    tidy_at: usize,
}

impl Room {
    pub(super) fn new(max: usize) -> Self {
        Self { max, tidy_at: max / 16 }
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
        let some = self.max / 16;
        // ProcessAction comes within a second finds room in the rest.
        let nearly_full = self.max - self.max / 4;
        self.tidy_at = (2 * len).clamp(some, nearly_full).max(len + some).min(self.max);
    }
}
