//! Clients with more queries than the forwarder has room for, and other clients at the same time.

use super::*;

/// More than the connections that the forwarder serves at a time.
const MANY: usize = 500;

/// The kernel limits the backlog of a listening socket to this.
fn raise_backlog() {
    std::fs::write("/proc/sys/net/core/somaxconn", "4096").unwrap();
}

#[test]
fn answers_more_connections_than_it_serves_at_a_time() {
    in_namespace(|| async {
        raise_backlog();
        let running = forward(vec![resolver("127.0.0.1", Behavior::Responds { padding: 9000, after_ms: 5 }).await]);
        let clients: Vec<_> = (0..MANY)
            .map(|_| tokio::spawn(async { query_tcp((GATEWAY, 53), &[query(1, "big.example")]).await.len() }))
            .collect();
        for client in clients {
            assert_eq!(client.await.unwrap(), 1);
        }
        assert_eq!(running.status().stats().responses, MANY as u64);
    });
}

#[test]
fn an_idle_connection_gives_way_to_a_new_one() {
    in_namespace(|| async {
        raise_backlog();
        let _running = forward(vec![resolver("127.0.0.1", RESPONDS).await]);
        let mut idle = Vec::new();
        for _ in 0..MANY {
            idle.push(TcpStream::connect((GATEWAY, 53)).await.unwrap());
        }
        assert_eq!(query_tcp((GATEWAY, 53), &[query(1, "app.example")]).await.len(), 1);
        // If all of them had reached the idle timeout, none would be left.
        let open = idle.iter().filter(|stream| stream.try_read(&mut [0; 1]).is_err()).count();
        assert!(open > 0, "every idle connection was closed");
    });
}

/// A resolver that answers questions for `app.example` and ignores all others.
async fn selective_resolver() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // The flood must not fill it: its queries are read as fast as this task runs.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20)).unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            if buffer[..length].windows(4).any(|bytes| bytes == b"\x03app") {
                socket.send_to(&response_to(&buffer[..length]), client).await.unwrap();
            }
        }
    });
    at
}

#[test]
fn a_flood_from_one_socket_leaves_the_others_their_answers() {
    const FLOOD: u64 = 50_000;
    in_namespace(|| async {
        let running = forward(vec![selective_resolver().await]);
        let flood = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        flood.connect((GATEWAY, 53)).await.unwrap();
        for part in 1..=50 {
            for id in 0..(FLOOD / 50) as u16 {
                flood.send(&query(id, "flood.example")).await.unwrap();
            }
            assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
            let stats = running.status().stats();
            assert_eq!(stats.responses, part, "{stats:?}");
        }
        let stats = running.status().stats();
        let in_flight = FLOOD - stats.dropped_queries - stats.dropped_by_kernel - stats.servfail;
        assert!(in_flight <= 2048, "{stats:?}");
        assert_eq!(stats.queries_udp + stats.dropped_by_kernel, FLOOD + 50);
    });
}

#[test]
fn a_client_that_does_not_read_delays_no_other() {
    in_namespace(|| async {
        let _running = forward(vec![resolver("127.0.0.1", Behavior::Responds { padding: 60_000, after_ms: 0 }).await]);
        let mut slow = Vec::new();
        for _ in 0..40 {
            let mut stream = TcpStream::connect((GATEWAY, 53)).await.unwrap();
            let queries: Vec<u8> = (0..16).flat_map(|id| framed(&query(id, "big.example"))).collect();
            stream.write_all(&queries).await.unwrap();
            slow.push(stream);
        }
        assert_eq!(
            query_udp((GATEWAY, 53), &query(1, "app.example")).await.len(),
            query(1, "app.example").len() + 60_000
        );
        assert_eq!(query_tcp((GATEWAY, 53), &[query(2, "app.example")]).await.len(), 1);
    });
}
