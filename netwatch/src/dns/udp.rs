//! Queries by UDP on one gateway address. The answer goes out of the socket that heard the query, so from the address that was asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::ask::ask;
use super::exchange::{Transport, receive_from};
use super::forwarder::Shared;
use super::message::{Query, format_error};

/// After an error of the listening socket: long enough not to spin.
const REST: Duration = Duration::from_millis(10);

pub(super) async fn serve(socket: UdpSocket, shared: Shared) {
    let socket = Arc::new(socket);
    loop {
        let received = match socket.readable().await {
            Ok(()) => receive_from(&socket),
            Err(error) => Err(error),
        };
        match received {
            Ok((message, client)) => handle(message, client, &socket, &shared),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

fn handle(message: Vec<u8>, client: SocketAddr, socket: &Arc<UdpSocket>, shared: &Shared) {
    let head = message.clone();
    match Query::parse(message) {
        Ok(query) => {
            shared.counters.lock().queries_udp += 1;
            let (socket, here) = (Arc::clone(socket), shared.clone());
            let resolvers = shared.resolvers();
            shared.in_flight.spawn(async move {
                let answer = ask(Arc::new(query), Transport::Udp, &resolvers, &here.counters).await;
                reply(&socket, &answer, client, &here).await;
            });
        }
        Err(why) => {
            shared.counters.lock().malformed += 1;
            if let Some(answer) = format_error(&head, why) {
                // Not worth waiting for room in the buffer.
                let _ = socket.try_send_to(&answer, client);
            }
        }
    }
}

async fn reply(socket: &UdpSocket, answer: &[u8], client: SocketAddr, shared: &Shared) {
    if socket.send_to(answer, client).await.is_err() {
        shared.counters.lock().unsent += 1;
    }
}
