//! Queries by TCP on one gateway address. Several may be in flight on one connection, and responses
//! are sent as they arrive (RFC 7766 sections 6.2.1.1 and 7). Zone transfers, whose response is
//! several messages, are not supported: clients send those to their server directly.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Transport, framed, read_message};
use super::forwarder::ForwarderState;
use super::message::{Query, format_error};
use super::resolve::resolve;

/// A connection is closed when no query arrives, or no response can be sent, for this long (RFC
/// 7766 section 6.2.3 recommends a few seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of open connections on one address.
const MAX_CONNECTIONS: usize = 64;

/// Maximum number of queries of one connection that are in flight or whose response has not been
/// sent. Further queries are read when one of these is complete.
const MAX_PIPELINED: usize = 16;

/// Pause after a failed accept (too many open files), so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener, shared: ForwarderState) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= MAX_CONNECTIONS => shared.counters.lock().dropped_connections += 1,
                Ok((stream, _)) => drop(connections.spawn(serve_connection(stream, shared.clone()))),
                Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns when the client has closed its side and all responses have been sent.
async fn serve_connection(stream: TcpStream, shared: ForwarderState) {
    let (from, to) = stream.into_split();
    let (sender, receiver) = mpsc::channel(MAX_PIPELINED);
    tokio::join!(read_queries(from, sender, &shared), write_responses(to, receiver, &shared));
}

async fn read_queries(mut from: OwnedReadHalf, responses: mpsc::Sender<Vec<u8>>, shared: &ForwarderState) {
    while let Ok(Ok(message)) = timeout(IDLE_TIMEOUT, read_message(&mut from)).await {
        // The channel is closed when responses can no longer be sent.
        let Ok(permit) = responses.clone().reserve_owned().await else { return };
        match Query::parse(message) {
            Ok(query) => forward(query, permit, shared),
            Err(malformed) => {
                shared.counters.lock().malformed += 1;
                // Where no response is possible, the stream is probably not DNS.
                let Some(response) = format_error(&malformed) else { return };
                permit.send(response);
            }
        }
    }
}

fn forward(query: Query, permit: mpsc::OwnedPermit<Vec<u8>>, shared: &ForwarderState) {
    shared.counters.lock().queries_tcp += 1;
    let counters = shared.counters.clone();
    let resolvers = shared.resolvers();
    shared.in_flight.spawn(async move {
        permit.send(resolve(query, Transport::Tcp, &resolvers, &counters).await);
    });
}

async fn write_responses(mut to: OwnedWriteHalf, mut responses: mpsc::Receiver<Vec<u8>>, shared: &ForwarderState) {
    while let Some(response) = responses.recv().await {
        if !matches!(timeout(IDLE_TIMEOUT, to.write_all(&framed(&response))).await, Ok(Ok(()))) {
            shared.counters.lock().unsent += 1;
            return;
        }
    }
}
