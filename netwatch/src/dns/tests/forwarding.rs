//! Which queries are forwarded to which resolver, and which response the client receives.

use super::*;
use crate::dns::stats::FailedExchanges;

#[test]
fn forwards_by_udp_and_tcp_in_both_families() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.53", Behavior::Responds { padding: 4000, after_ms: 0 }).await]);
        let question = query(7, "app.example");
        for gateway in [GATEWAY, GATEWAY6] {
            let response = query_udp((gateway, 53), &question).await;
            assert_eq!(response.len(), question.len() + 4000);
            assert_eq!(response[12..question.len()], question[12..]);
            let pipelined: Vec<_> = (0..40).map(|id| query(id, "app.example")).collect();
            let mut ids: Vec<_> =
                query_tcp((gateway, 53), &pipelined).await.iter().map(|response| response[1]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..40).collect::<Vec<u8>>());
        }
        let stats = running.status().stats();
        assert_eq!((stats.queries_udp, stats.queries_tcp, stats.responses), (2, 80, 82));
        assert_eq!(stats.failed, FailedExchanges::default());
    });
}

#[test]
fn forwards_the_largest_responses() {
    in_namespace(|| async {
        let question = query(7, "app.example");
        let udp = resolver("::1", Behavior::Responds { padding: 65507 - question.len(), after_ms: 0 }).await;
        let running = forward(vec![udp]);
        assert_eq!(query_udp((GATEWAY, 53), &question).await.len(), 65507);
        drop(running);
        let tcp = resolver("::1", Behavior::Responds { padding: 65535 - question.len(), after_ms: 0 }).await;
        let _running = forward(vec![tcp]);
        assert_eq!(query_tcp((GATEWAY, 53), &[question]).await[0].len(), 65535);
    });
}

#[test]
fn answers_every_query_of_a_burst() {
    const QUERIES: u16 = 1500;
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Behavior::Responds { padding: 16, after_ms: 20 }).await]);
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20)).unwrap();
        socket.connect((GATEWAY, 53)).await.unwrap();
        let started = Instant::now();
        for id in 0..QUERIES {
            socket.send(&query(id, "app.example")).await.unwrap();
        }
        let mut seen = std::collections::HashSet::new();
        let mut buffer = [0; 2048];
        while seen.len() < QUERIES.into() {
            socket.recv(&mut buffer).await.unwrap();
            seen.insert([buffer[0], buffer[1]]);
        }
        eprintln!("{QUERIES} queries: {:?}", started.elapsed());
        let stats = running.status().stats();
        let all = u64::from(QUERIES);
        assert_eq!((stats.queries_udp, stats.responses, stats.dropped_queries), (all, all, 0));
        assert_eq!(stats.dropped_by_kernel, 0);
    });
}

#[test]
fn queries_the_next_resolver_until_one_is_useful() {
    in_namespace(|| async {
        let good = resolver("127.0.0.1", RESPONDS).await;
        let closed_port: SocketAddr = "127.0.0.9:9".parse().unwrap();
        let unreachable: SocketAddr = "198.51.100.1:53".parse().unwrap();
        let failing = resolver("127.0.0.2", Behavior::Fails(2)).await;
        let running = forward(vec![closed_port, unreachable, failing, good]);
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[query(1, "app.example")]).await[0]), 0);
        let stats = running.status().stats();
        assert_eq!((stats.failed.refused, stats.failed.unreachable, stats.failed.unhelpful), (2, 2, 2));
        assert_eq!(stats.responses_by_resolver[&good], 2);
    });
}

/// How long the forwarder waits is tested in `resolve`, with a paused clock.
#[test]
fn queries_the_second_resolver_when_the_first_ignores_queries() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions timeout:1\n").unwrap();
        let _ignores = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let good = UdpSocket::bind("127.0.0.3:53").await.unwrap();
        let _running = forward_to(Upstream::at(&path));
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = good.recv_from(&mut buffer).await.unwrap();
            good.send_to(&response_to(&buffer[..length]), client).await.unwrap();
        });
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 0);
    });
}

#[test]
fn returns_servfail_when_no_resolver_responds() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.2\noptions timeout:1\n").unwrap();
        let _ignores = UdpSocket::bind("127.0.0.2:53").await.unwrap();
        let running = forward_to(Upstream::at(&path));
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(1, "app.example")).await), 2);
        let stats = running.status().stats();
        assert_eq!((stats.servfail, stats.failed.timeout, stats.failed.refused), (1, 1, 0));
        drop(running);
        let running = forward(vec!["127.0.0.9:9".parse().unwrap()]);
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &query(2, "app.example")).await), 2);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[query(3, "app.example")]).await[0]), 2);
        let stats = running.status().stats();
        assert_eq!((stats.servfail, stats.failed.timeout, stats.failed.refused), (2, 0, 2));
    });
}

#[test]
fn ignores_responses_to_other_queries() {
    in_namespace(|| async {
        let _running = forward(vec![resolver("127.0.0.1", Behavior::SendsForgedFirst).await]);
        let question = query(0x1234, "app.example");
        assert_eq!(query_udp((GATEWAY, 53), &question).await[..2], question[..2]);
        assert_eq!(query_tcp((GATEWAY, 53), std::slice::from_ref(&question)).await[0][..2], question[..2]);
    });
}

#[test]
fn counts_malformed_queries_and_returns_formerr() {
    in_namespace(|| async {
        let running = forward(vec![resolver("127.0.0.1", Behavior::Ignores).await]);
        let mut two = query(9, "app.example");
        two[5] = 2;
        assert_eq!(rcode(&query_udp((GATEWAY, 53), &two).await), 1);
        assert_eq!(rcode(&query_tcp((GATEWAY, 53), &[two]).await[0]), 1);
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.send_to(b"short", (GATEWAY, 53)).await.unwrap();
        assert!(query_tcp((GATEWAY, 53), &[b"short".to_vec()]).await.is_empty());
        assert_eq!(running.status().stats().malformed, 4);
    });
}
