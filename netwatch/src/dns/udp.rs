//! Queries by UDP on one gateway address. The response is sent from the socket that received the
//! query, so from the address that the client queried.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::coop::consume_budget;

use super::exchange::{Transport, receive_from};
use super::forwarder::ForwarderState;
use super::message::{Query, format_error};
use super::resolve::resolve;

/// Pause after an error of the listening socket, so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn serve(socket: UdpSocket, shared: ForwarderState) {
    let socket = Arc::new(socket);
    loop {
        // The socket's readiness alone never makes this task yield: a client that sends without a
        // pause would keep responses to others from being sent.
        consume_budget().await;
        let received = match socket.readable().await {
            Ok(()) => receive_from(&socket),
            Err(error) => Err(error),
        };
        match received {
            Ok((message, client)) => handle(message, client, &socket, &shared),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}

fn handle(message: Vec<u8>, client: SocketAddr, socket: &Arc<UdpSocket>, shared: &ForwarderState) {
    match Query::parse(message) {
        Ok(query) => {
            shared.counters.lock().queries_udp += 1;
            let (socket, here) = (Arc::clone(socket), shared.clone());
            let resolvers = shared.resolvers();
            shared.in_flight.spawn(async move {
                let response = resolve(query, Transport::Udp, &resolvers, &here.counters).await;
                reply(&socket, &response, client, &here).await;
            });
        }
        Err(malformed) => {
            shared.counters.lock().malformed += 1;
            if let Some(response) = format_error(&malformed) {
                // Not worth waiting for space in the send buffer.
                let _ = socket.try_send_to(&response, client);
            }
        }
    }
}

async fn reply(socket: &UdpSocket, response: &[u8], client: SocketAddr, shared: &ForwarderState) {
    if socket.send_to(response, client).await.is_err() {
        shared.counters.lock().unsent += 1;
    }
}
