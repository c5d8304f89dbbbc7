//! Counts what the proxy passed on and what it could not, in counters that its tasks and the reader
//! share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::report::HostService;

/// Counters since the proxy started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoopbackCounts {
    /// Connections that the host accepted.
    pub connections: u64,
    /// Connections that the host refused.
    pub refused: u64,
    /// The service and the error of the last refused connection.
    pub last_refusal: Option<String>,
    /// Connections that were still passing on data when the run ended.
    pub cut_off: u64,
    /// Datagrams that the host refused, or that a full buffer dropped, in both directions.
    pub dropped_datagrams: u64,
    /// UDP clients that were evicted for newer ones.
    pub evicted_clients: u64,
}

/// The counters and the number of open connections.
#[derive(Debug, Default)]
struct ProxyState {
    counts: LoopbackCounts,
    open: u64,
}

/// Counters that every task of the proxy shares.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedCounts(Arc<Mutex<ProxyState>>);

impl SharedCounts {
    /// The counters at this moment. `is_ended`: open connections will not pass on more data.
    pub(super) fn read(&self, is_ended: bool) -> LoopbackCounts {
        let state = self.lock();
        LoopbackCounts { cut_off: if is_ended { state.open } else { 0 }, ..state.counts.clone() }
    }

    pub(super) fn refuse(&self, service: HostService, error: &io::Error) {
        let counts = &mut self.lock().counts;
        counts.refused += 1;
        counts.last_refusal = Some(format!("{service}: {error}"));
    }

    pub(super) fn drop_datagram(&self) {
        self.lock().counts.dropped_datagrams += 1;
    }

    pub(super) fn evict_client(&self) {
        self.lock().counts.evicted_clients += 1;
    }

    /// Counts a connection, which is open until the result is dropped.
    pub(super) fn open_connection(&self) -> OpenConnection {
        let mut state = self.lock();
        state.counts.connections += 1;
        state.open += 1;
        OpenConnection(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that passes on data.
#[derive(Debug)]
pub(super) struct OpenConnection(SharedCounts);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}
