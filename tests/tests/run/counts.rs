//! Traffic of known size is counted exactly, in packets and bytes.

use std::net::IpAddr;

use netwatch_tests::{addresses::*, internet, needs, report};

use crate::TRAFFIC;

const ETHERNET: i64 = 14;
/// TCP header with the timestamp option, as in every segment except SYN.
const TCP: i64 = 32;
/// TCP header of a SYN: MSS, SACK permitted, timestamps, window scale.
const TCP_SYN: i64 = 40;

fn families() -> [(IpAddr, i64, String); 2] {
    [(APP_V4.into(), 20, format!("{APP_V4}")), (APP_V6.into(), 40, format!("[{APP_V6}]"))]
}

#[test]
fn udp_in_both_directions() {
    let net = internet!();
    for (remote, ip, shown) in families() {
        for (count, size) in [(1, 1), (100, 500), (10, 1400)] {
            let to = format!("{shown}:{ECHO}");
            let run = net.host.watch(&[TRAFFIC, "udp", &to, &count.to_string(), &size.to_string()]);
            let endpoint = report::endpoint(run.assert_ok().report(), "udp", remote, ECHO);
            for direction in report::DIRECTIONS {
                report::assert_packets(endpoint, direction, count, ETHERNET + ip + 8 + size);
            }
        }
    }
}

#[test]
fn fragments_belong_to_their_datagram() {
    let net = internet!();
    // 3000 bytes of payload and 8 of UDP header: 1480 + 1480 + 48 bytes after the IPv4 headers.
    let run = net.host.watch(&[TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "5", "3000"]);
    let document = run.assert_ok().report();
    assert_eq!(report::number(document, "totals.egress.packets"), 15, "{run}");
    assert_eq!(report::number(document, "totals.egress.wire_bytes"), 5 * (3008 + 3 * 34), "{run}");
    assert_eq!(report::number(document, "totals.ingress.wire_bytes"), 5 * (3008 + 3 * 34), "{run}");
}

#[test]
fn a_tcp_transfer() {
    let net = internet!();
    for (remote, ip, shown) in families() {
        let run = net.host.watch(&[TRAFFIC, "fetch", &format!("{shown}:{SOURCE}")]);
        assert_eq!(run.assert_ok().stdout.trim(), SOURCE_BYTES.to_string());
        let endpoint = report::endpoint(run.report(), "tcp", remote, SOURCE);
        let packets = report::number(endpoint, "ingress.packets");
        let expected = SOURCE_BYTES as i64 + packets * (ETHERNET + ip + TCP) + (TCP_SYN - TCP);
        assert_eq!(report::number(endpoint, "ingress.wire_bytes"), expected, "headers of {packets} packets: {run}");
        let full_segments = SOURCE_BYTES as i64 / (1500 - ip - TCP);
        assert!(packets > full_segments, "packets as on a wire, not as offloaded segments: {run}");
        assert!(report::number(endpoint, "ingress.skbs") <= packets, "{run}");
        let flow = report::flows(run.report(), "tcp", remote, SOURCE)[0];
        for flag in ['S', 'A', 'F'] {
            for direction in report::DIRECTIONS {
                let flags = flow[direction]["flags"].as_str().unwrap_or(report::USUAL_FLAGS);
                assert!(flags.contains(flag), "{flag} {direction}: {run}");
            }
        }
        assert_eq!(flow["end_reason"], "end_of_flow", "{run}");
    }
}

#[test]
fn icmp_echo() {
    let net = internet!();
    needs!("ping");
    for (remote, ip, protocol, family) in
        [(IpAddr::from(APP_V4), 20, "icmp", "-4"), (APP_V6.into(), 40, "icmpv6", "-6")]
    {
        let run = net.host.watch(&["ping", family, "-c", "4", "-i", "0.01", "-s", "100", &remote.to_string()]);
        let document = run.assert_ok().report();
        let flows: Vec<_> =
            report::list(document, "flows").iter().filter(|flow| flow["protocol"] == protocol).collect();
        assert_eq!(flows.len(), 1, "{run}");
        assert_eq!(flows[0]["remote"], remote.to_string(), "{run}");
        for direction in report::DIRECTIONS {
            report::assert_packets(flows[0], direction, 4, ETHERNET + ip + 8 + 100);
        }
    }
}

#[test]
fn refused_and_unanswered_connections_are_failed_attempts() {
    let net = internet!();
    let cases = [(REFUSED, "refused", "1000", 1), (SILENT, "timeout", "300", 0)];
    for (remote, ip, shown) in families() {
        for (port, outcome, timeout_ms, answers) in cases {
            let run = net.host.watch(&[TRAFFIC, "connect", &format!("{shown}:{port}"), timeout_ms]);
            assert_eq!(run.assert_ok().stdout.trim(), outcome);
            let endpoint = report::endpoint(run.report(), "tcp", remote, port);
            report::assert_packets(endpoint, "egress", 1, ETHERNET + ip + TCP_SYN);
            report::assert_packets(endpoint, "ingress", answers, ETHERNET + ip + 20);
            let failed = report::FAILURES.map(|kind| (kind, report::number(endpoint, kind)));
            let kind = if port == REFUSED { "refused" } else { "timeout" };
            assert_eq!(failed, report::FAILURES.map(|one| (one, i64::from(one == kind))), "{run}");
        }
    }
}

#[test]
fn the_first_packet_is_not_missed_in_twenty_short_runs() {
    let net = internet!();
    for _ in 0..20 {
        let run = net.host.watch(&[TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "1", "10"]);
        let endpoint = report::endpoint(run.assert_ok().report(), "udp", APP_V4, ECHO);
        report::assert_packets(endpoint, "egress", 1, ETHERNET + 20 + 8 + 10);
    }
}

/// Six HTTP requests, each in a connection of its own from port 40000. The server closes first, so
/// that no socket of this side is in TIME_WAIT; a socket in LAST_ACK still holds the port, until
/// the acknowledgement of its FIN arrives.
const CONNECTIONS_FROM_ONE_PORT: &str = r#"
import errno, socket, sys, time

def connect():
    while True:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(("", 40000))
        try:
            connection.connect((sys.argv[1], 80))
            return connection
        except OSError as failure:
            if failure.errno != errno.EADDRNOTAVAIL:
                raise
            connection.close()
            time.sleep(0.005)

for number in range(6):
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    while connection.recv(65536):
        pass
    connection.close()
"#;

/// The server closes first and is in TIME-WAIT when the next SYN arrives from the same port.
#[test]
fn each_connection_from_one_port_is_a_flow() {
    let net = internet!();
    let run = net.host.watch(&["/usr/bin/python3", "-c", CONNECTIONS_FROM_ONE_PORT, &APP_V4.to_string()]);
    let document = run.assert_ok().report();
    let flows = report::flows(document, "tcp", APP_V4, 80);
    let mut epochs: Vec<u64> = flows.iter().map(|flow| flow["epoch"].as_u64().unwrap_or(0)).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [0, 1, 2, 3, 4, 5], "{run}");
    for flow in flows {
        assert_eq!((&flow["local_port"], flow.get("connections")), (&40_000.into(), None), "one handshake: {run}");
        assert_eq!(flow["end_reason"], "end_of_flow", "{run}");
        assert!(flow["handshake_rtt_ns"].as_u64() > Some(0), "{run}");
        assert_eq!(flow["application"], "http", "each has names of its own: {run}");
    }
    let endpoint = report::endpoint(document, "tcp", APP_V4, 80);
    assert_eq!(report::number(endpoint, "flows"), 6, "{run}");
    assert_eq!(report::number(endpoint, "connections"), 6, "{run}");
}
