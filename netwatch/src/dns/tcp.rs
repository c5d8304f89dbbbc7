//! Queries by TCP on one gateway address, message by message: many may be under way on one connection, and their answers come as they are
//! ready (RFC 7766 sections 6.2.1.1 and 7). Not for zone transfers, whose answer is several messages: they go to their server directly.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ask::ask;
use super::exchange::{Transport, framed, read_message};
use super::forwarder::Shared;
use super::message::{Query, format_error};

/// A connection on which nothing is asked, and one that does not take its answers, is closed after this (RFC 7766 section 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Open connections on one address.
const MAX_CONNECTIONS: usize = 64;

/// Answers that wait for a slow reader on one connection; then its next queries wait.
const QUEUE: usize = 16;

/// After a failed accept (too many open files): long enough not to spin.
const REST: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= MAX_CONNECTIONS => shared.counters.lock().dropped_connections += 1,
                Ok((stream, _)) => drop(connections.spawn(connection(stream, shared.clone()))),
                Err(_) => tokio::time::sleep(REST).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends when the client has said all and has all its answers.
async fn connection(stream: TcpStream, shared: Shared) {
    let (queries, answers) = stream.into_split();
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::join!(read(queries, sender, &shared), write(answers, receiver, &shared));
}

async fn read(mut from: OwnedReadHalf, answers: mpsc::Sender<Vec<u8>>, shared: &Shared) {
    while let Ok(Ok(message)) = timeout(IDLE, read_message(&mut from)).await {
        // A closed channel: the client does not read any more.
        let Ok(place) = answers.clone().reserve_owned().await else { return };
        let head = message.clone();
        match Query::parse(message) {
            Ok(query) => forward(query, place, shared),
            Err(why) => {
                shared.counters.lock().malformed += 1;
                // Without an answer to give, the stream cannot be trusted to be DNS.
                let Some(answer) = format_error(&head, why) else { return };
                place.send(answer);
            }
        }
    }
}

fn forward(query: Query, place: mpsc::OwnedPermit<Vec<u8>>, shared: &Shared) {
    shared.counters.lock().queries_tcp += 1;
    let counters = shared.counters.clone();
    let resolvers = shared.resolvers();
    shared.in_flight.spawn(async move {
        place.send(ask(Arc::new(query), Transport::Tcp, &resolvers, &counters).await);
    });
}

async fn write(mut to: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>, shared: &Shared) {
    while let Some(answer) = answers.recv().await {
        if !matches!(timeout(IDLE, to.write_all(&framed(&answer))).await, Ok(Ok(()))) {
            shared.counters.lock().unsent += 1;
            return;
        }
    }
}
