//! How much a trace stores, and when it searches for ended sockets and processes.

/// Maps and sets that are looked up for every event of a socket.
pub(super) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// As [`HashMap`], for large values: they lie side by side, in memory that grows without a copy.
pub(super) type IndexMap<K, V> = indexmap::IndexMap<K, V, foldhash::fast::RandomState>;
pub(super) type HashSet<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

/// Limits of a trace. What exceeds one is counted in [`ProcessLosses::beyond`].
///
/// [`ProcessLosses::beyond`]: crate::process::ProcessLosses::beyond
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceLimits {
    /// Programs in processes.
    pub programs: usize,
    pub sockets: usize,
    /// Flows with their sockets: more than a report lists individually.
    pub flows: usize,
    /// Paths of local sockets.
    pub local_sockets: usize,
    /// Processes that connected to local sockets, summed over all paths. They are never removed.
    pub local_socket_users: usize,
    /// Failed attempts; each keeps its process.
    pub failures: usize,
}

pub(super) const TRACE_LIMITS: TraceLimits = TraceLimits {
    programs: 1 << 17,
    sockets: 1 << 18,
    flows: 1 << 18,
    local_sockets: 1 << 12,
    local_socket_users: 1 << 15,
    failures: 1 << 14,
};

/// The capacity of a store from which ended entries are removed.
///
/// The store is searched for ended entries when it has twice as many as the last search left, so
/// that it holds mostly live entries, and before it is full. Not more often, because a search
/// visits every entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    max: usize,
    tidy_at: usize,
}

impl Capacity {
    pub(super) fn new(max: usize) -> Self {
        Self { max, tidy_at: max / 16 }
    }

    /// So many entries are kept although they may have ended.
    pub(super) fn few(self) -> usize {
        self.max / 16
    }

    pub(super) fn is_full(self, len: usize) -> bool {
        len >= self.max
    }

    /// Whether to search the store, which has this many entries.
    pub(super) fn is_due(self, len: usize) -> bool {
        len >= self.tidy_at
    }

    /// A search left this many entries.
    pub(super) fn was_tidied(&mut self, len: usize) {
        let step = self.max / 16;
        // The remaining quarter has room for what arrives within a second.
        let nearly_full = self.max - self.max / 4;
        self.tidy_at = (2 * len).clamp(step, nearly_full).max(len + step).min(self.max);
    }
}
