//! Queries by TCP on one gateway address. Several may be in flight on one connection, and responses
//! are sent as they arrive (RFC 7766 sections 6.2.1.1 and 7). Zone transfers, whose response is
//! several messages, are not supported: clients send those to their server directly.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Transport, framed, read_message};
use super::forwarder::ForwarderState;
use super::message::{Query, format_error};
use super::resolve::resolve;

/// A connection is closed when no query arrives, or no response can be sent, for this long (RFC
/// 7766 section 6.2.3 recommends a few seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that has waited this long for a query may be closed to make room for a new one.
const MIN_IDLE_TIME: Duration = Duration::from_millis(500);

/// Maximum number of queries of one connection that are in flight or whose response has not been
/// sent. Further queries are read when one of these is complete.
const MAX_PIPELINED: usize = 16;

/// Pause after a failed accept (too many open files), so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A response, and the room that its query occupies until it has been sent.
type UnsentResponse = (Vec<u8>, OwnedSemaphorePermit);

/// The connections of one address.
#[derive(Debug, Clone)]
struct Connections {
    slots: Arc<Semaphore>,
    /// Makes the connection that has been idle for longest end.
    make_room: Arc<Notify>,
}

pub(super) async fn serve(listener: TcpListener, shared: ForwarderState) {
    let slots = Arc::new(Semaphore::new(shared.max_connections));
    let connections = Connections { slots, make_room: Arc::default() };
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, client)) if !shared.admits(client) => {}
                Ok((stream, _)) => {
                    let slot = connections.slot().await;
                    tasks.spawn(serve_connection(stream, slot, connections.clone(), shared.clone()));
                }
                Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

impl Connections {
    /// Waits until there is room for another connection. Further clients wait in the backlog of the
    /// listening socket, so none is refused.
    async fn slot(&self) -> OwnedSemaphorePermit {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return slot;
        }
        self.make_room.notify_one();
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Returns when the client has closed its side, or was idle, and all responses have been sent.
async fn serve_connection(
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    connections: Connections,
    shared: ForwarderState,
) {
    let (from, to) = stream.into_split();
    let (sender, receiver) = mpsc::channel(MAX_PIPELINED);
    tokio::join!(read_queries(from, sender, &shared, &connections), write_responses(to, receiver, &shared));
}

async fn read_queries(
    mut from: OwnedReadHalf,
    responses: mpsc::Sender<UnsentResponse>,
    shared: &ForwarderState,
    connections: &Connections,
) {
    while let Some(message) = next_message(&mut from, connections).await {
        // The channel is closed when responses can no longer be sent.
        let Ok(permit) = responses.clone().reserve_owned().await else { return };
        let room = shared.in_flight.tcp().await;
        match Query::parse(message) {
            Ok(query) => forward(query, room, permit, shared),
            Err(malformed) => {
                shared.counters.lock().malformed += 1;
                // If no response is possible, the stream is probably not DNS.
                let Some(response) = format_error(&malformed) else { return };
                permit.send((response, room));
            }
        }
    }
}

/// The next message; `None` if none arrives in time, or if another client needs the slot of the
/// connection (RFC 7766 section 6.2.3 permits closing an idle connection).
async fn next_message(from: &mut OwnedReadHalf, connections: &Connections) -> Option<Vec<u8>> {
    let mut message = pin!(read_message(from));
    if let Ok(message) = timeout(MIN_IDLE_TIME, &mut message).await {
        return message.ok();
    }
    tokio::select! {
        message = timeout(IDLE_TIMEOUT, message) => message.ok()?.ok(),
        () = connections.make_room.notified() => None,
    }
}

fn forward(
    query: Query,
    room: OwnedSemaphorePermit,
    permit: mpsc::OwnedPermit<UnsentResponse>,
    shared: &ForwarderState,
) {
    shared.counters.lock().queries_tcp += 1;
    let here = shared.clone();
    let resolvers = shared.resolvers();
    tokio::spawn(async move {
        let response = resolve(query, Transport::Tcp, &resolvers, &here.exchanges, &here.counters).await;
        permit.send((response, room));
    });
}

async fn write_responses(
    mut to: OwnedWriteHalf,
    mut responses: mpsc::Receiver<UnsentResponse>,
    shared: &ForwarderState,
) {
    while let Some((response, _room)) = responses.recv().await {
        if !matches!(timeout(IDLE_TIMEOUT, to.write_all(&framed(&response))).await, Ok(Ok(()))) {
            shared.counters.lock().unsent += 1;
            return;
        }
    }
}
