//! Queries by UDP on one gateway address. The response is sent from the socket that received the
//! query, and therefore from the address that the client queried.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::yield_now;

use super::exchange::{Transport, receive_from};
use super::forwarder::ForwarderState;
use super::message::{Query, format_error};
use super::resolve::resolve;

/// Pause after an error of the listening socket, so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Maximum number of datagrams to read before other tasks run. The other tasks then run for a few
/// tens of milliseconds at most, and in a flood the socket's buffer has to last that long.
const MAX_BATCH: usize = 4096;

pub(super) async fn serve(socket: UdpSocket, shared: ForwarderState) {
    let socket = Arc::new(socket);
    loop {
        let ready = socket.readable().await.and_then(|()| read_batch(&socket, &shared));
        if ready.is_err() {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        // The socket's readiness alone never makes this task yield: a client that sends without a
        // pause would keep responses to others from being sent.
        yield_now().await;
    }
}

/// Reads what has arrived.
fn read_batch(socket: &Arc<UdpSocket>, shared: &ForwarderState) -> io::Result<()> {
    for _ in 0..MAX_BATCH {
        match receive_from(socket) {
            Ok((message, client)) if shared.admits(client) => handle(message, client, socket, shared),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn handle(message: Vec<u8>, client: SocketAddr, socket: &Arc<UdpSocket>, shared: &ForwarderState) {
    match Query::parse(message) {
        Ok(query) => forward(query, client, socket, shared),
        Err(malformed) => {
            shared.counters.lock().malformed += 1;
            if let Some(response) = format_error(&malformed) {
                // An error response is not worth waiting for space in the send buffer.
                let _ = socket.try_send_to(&response, client);
            }
        }
    }
}

/// Forwards a query. If there is no room for it, it is dropped, as by a full socket buffer, and the
/// client sends it again.
fn forward(query: Query, client: SocketAddr, socket: &Arc<UdpSocket>, shared: &ForwarderState) {
    let slot = shared.in_flight.try_udp(client, query.bytes().len());
    let mut counters = shared.counters.lock();
    counters.queries_udp += 1;
    let Some(slot) = slot else {
        counters.dropped_queries += 1;
        return;
    };
    drop(counters);
    let (socket, here) = (Arc::clone(socket), shared.clone());
    let resolvers = shared.resolvers();
    tokio::spawn(async move {
        let _slot = slot;
        let response = resolve(query, Transport::Udp, &resolvers, &here.exchanges, &here.counters).await;
        reply(&socket, &response, client, &here).await;
    });
}

async fn reply(socket: &UdpSocket, response: &[u8], client: SocketAddr, shared: &ForwarderState) {
    if socket.send_to(response, client).await.is_err() {
        shared.counters.lock().unsent += 1;
    }
}
