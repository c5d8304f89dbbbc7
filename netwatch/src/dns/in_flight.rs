//! Bounds the memory of the queries in flight before any work for them begins: a UDP query that
//! does not fit is dropped and counted, a query by TCP waits in its connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for the queries in flight of each transport, KiB. UDP and TCP have separate budgets, so a
/// flood by one of them does not affect the other.
const BUDGET_KIB: usize = 32 << 10;

/// Memory of a UDP query besides its own bytes, KiB: its tasks, timers and sockets.
const TASK_KIB: usize = 2;

/// Memory of a query by TCP, KiB: its response, up to 64 KiB, waits for a client that may read
/// slowly.
const TCP_QUERY_KIB: usize = 64;

/// Maximum number of queries in flight from one UDP socket, so that a program that floods the
/// forwarder from one socket leaves room for others. Resolver libraries use a socket for each
/// lookup.
const MAX_PER_CLIENT: usize = 2048;

/// The budgets, which all listeners share.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    udp: Arc<Semaphore>,
    tcp: Arc<Semaphore>,
    by_client: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

/// Room for one query by UDP, returned when this is dropped.
#[derive(Debug)]
pub(super) struct UdpSlot {
    _memory: OwnedSemaphorePermit,
    client: SocketAddr,
    by_client: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            udp: Arc::new(Semaphore::new(BUDGET_KIB)),
            tcp: Arc::new(Semaphore::new(BUDGET_KIB)),
            by_client: Arc::default(),
        }
    }

    /// Room for a query of `length` bytes from this client. `None` if there is none.
    pub(super) fn try_udp(&self, client: SocketAddr, length: usize) -> Option<UdpSlot> {
        let kib = (TASK_KIB + length.div_ceil(1024)) as u32;
        let memory = Arc::clone(&self.udp).try_acquire_many_owned(kib).ok()?;
        let mut by_client = lock(&self.by_client);
        let queries = by_client.entry(client).or_default();
        if *queries >= MAX_PER_CLIENT {
            return None;
        }
        *queries += 1;
        Some(UdpSlot { _memory: memory, client, by_client: Arc::clone(&self.by_client) })
    }

    /// Waits for room for a query by TCP and its response. The room is returned when the permit is
    /// dropped.
    pub(super) async fn tcp(&self) -> OwnedSemaphorePermit {
        let tcp = Arc::clone(&self.tcp);
        tcp.acquire_many_owned(TCP_QUERY_KIB as u32).await.expect("the semaphore is never closed")
    }
}

impl Drop for UdpSlot {
    fn drop(&mut self) {
        let mut by_client = lock(&self.by_client);
        if let Some(queries) = by_client.get_mut(&self.client) {
            *queries -= 1;
            if *queries == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

fn lock(by_client: &Mutex<HashMap<SocketAddr, usize>>) -> MutexGuard<'_, HashMap<SocketAddr, usize>> {
    by_client.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        ([198, 51, 100, 1], port).into()
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        let in_flight = InFlight::new();
        let mut slots: Vec<_> = (0..MAX_PER_CLIENT).map(|_| in_flight.try_udp(client(1), 40).unwrap()).collect();
        assert!(in_flight.try_udp(client(1), 40).is_none());
        assert!(in_flight.try_udp(client(2), 40).is_some());
        slots.pop();
        assert!(in_flight.try_udp(client(1), 40).is_some());
        drop(slots);
        assert!(lock(&in_flight.by_client).is_empty());
        assert_eq!(in_flight.udp.available_permits(), BUDGET_KIB);
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_clients() {
        let in_flight = InFlight::new();
        let slots: Vec<_> = (0..u16::MAX).map_while(|port| in_flight.try_udp(client(port), 65_000)).collect();
        assert_eq!(slots.len(), BUDGET_KIB / (TASK_KIB + 64));
        assert!(in_flight.try_udp(client(0), 65_000).is_none());
    }

    #[tokio::test]
    async fn queries_by_tcp_wait_for_room() {
        let in_flight = InFlight::new();
        let mut slots = Vec::new();
        for _ in 0..BUDGET_KIB / TCP_QUERY_KIB {
            slots.push(in_flight.tcp().await);
        }
        let mut next = std::pin::pin!(in_flight.tcp());
        assert!(poll_once(next.as_mut()).await.is_none());
        slots.pop();
        assert!(poll_once(next).await.is_some());
    }

    /// The output of a future if it is ready after one poll.
    async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
