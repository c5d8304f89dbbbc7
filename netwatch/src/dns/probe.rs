//! Queries each resolver once, for `doctor`: with the sockets of the forwarder, in its network
//! namespace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Exchanges, Transport};
use super::message::{self, Query};
use crate::wire::dns::Rcode;

/// Timeout of a query, which is then sent once more: a datagram may be lost.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// Queries to one resolver.
const MAX_TRIES: u32 = 2;
/// Timeout of a resolver.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(TRY_TIMEOUT.as_secs() * MAX_TRIES as u64);
/// Maximum number of resolvers that are queried.
const MAX_RESOLVERS: usize = 16;

/// A query for the name servers of the root, which every resolver has: a header that requests
/// recursion, the root, type NS, class IN.
const ROOT_NS: [u8; 17] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// A resolver, and what it did.
#[derive(Debug)]
pub struct ProbedResolver {
    /// Its address and port.
    pub address: SocketAddr,
    /// The response; without one, the error of the last query.
    pub response: io::Result<ProbeResponse>,
}

/// A response of a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeResponse {
    /// From the query to the response.
    pub time: Duration,
    /// Set if the forwarder would query the next resolver after this response.
    pub failure: Option<Rcode>,
}

/// Queries these resolvers at the same time, in at most [`PROBE_TIMEOUT`].
pub fn probe(resolvers: &[SocketAddr]) -> io::Result<Vec<ProbedResolver>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let resolvers = &resolvers[..resolvers.len().min(MAX_RESOLVERS)];
    Ok(runtime.block_on(async {
        let exchanges = Exchanges::new(MAX_RESOLVERS, 0);
        let mut probes: JoinSet<(usize, io::Result<ProbeResponse>)> = JoinSet::new();
        for (at, resolver) in resolvers.iter().copied().enumerate() {
            let exchanges = exchanges.clone();
            probes.spawn(async move { (at, query(&exchanges, resolver).await) });
        }
        let mut responses = probes.join_all().await;
        responses.sort_by_key(|(at, _)| *at);
        let probed = |(at, response): (usize, _)| ProbedResolver { address: resolvers[at], response };
        responses.into_iter().map(probed).collect()
    }))
}

async fn query(exchanges: &Exchanges, resolver: SocketAddr) -> io::Result<ProbeResponse> {
    let query = Query::parse(ROOT_NS.to_vec()).map_err(|_| io::ErrorKind::InvalidData)?;
    let query = Arc::new(query);
    let mut response = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..MAX_TRIES {
        let started = Instant::now();
        let exchange = exchanges.exchange(Transport::Udp, resolver, Arc::clone(&query));
        match timeout(TRY_TIMEOUT, exchange).await {
            Ok(received) => {
                response = received.map(|message| ProbeResponse {
                    time: started.elapsed(),
                    failure: message::is_unhelpful(&message).then(|| Rcode(message[3] & 0x0f)),
                });
                break;
            }
            Err(_) => continue,
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::thread;

    use super::*;

    /// A resolver on the loopback that ignores some queries and answers the next with this code.
    fn resolver(ignored: usize, code: u8) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = socket.local_addr().expect("address");
        thread::spawn(move || {
            let mut buffer = [0; 512];
            for at in 0..=ignored {
                let (length, client) = socket.recv_from(&mut buffer).expect("a query");
                if at == ignored {
                    buffer[2] |= 0x80;
                    buffer[3] = 0x80 | code;
                    socket.send_to(&buffer[..length], client).expect("send");
                }
            }
        });
        address
    }

    #[test]
    fn reports_what_each_resolver_does() {
        let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind").local_addr().expect("address");
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let resolvers = [resolver(0, 0), resolver(0, 5), closed, silent.local_addr().expect("address"), resolver(1, 3)];
        let probed = probe(&resolvers).expect("a runtime");
        let results: Vec<_> = probed
            .iter()
            .map(|one| match &one.response {
                Ok(response) => response.failure.map_or("answers".to_owned(), |code| code.to_string()),
                Err(error) => format!("{:?}", error.kind()),
            })
            .collect();
        assert_eq!(results, ["answers", "REFUSED", "ConnectionRefused", "TimedOut", "answers"]);
        assert!(probed.iter().zip(resolvers).all(|(one, address)| one.address == address));
    }
}
