//! Traffic on the loopback of the namespace: each packet is counted once, and not in the totals.

use netwatch_tests::{internet, report};

use crate::TRAFFIC;

#[test]
fn each_packet_is_counted_once_and_not_in_the_totals() {
    let net = internet!();
    let script = format!(
        "{TRAFFIC} serve-udp 127.0.0.1:7777 & until ss -Hlun 'sport = :7777' | grep -q .; do sleep 0.02; done
        {TRAFFIC} udp 127.0.0.1:7777 1 100; wait"
    );
    let run = net.host.watch(&["sh", "-c", &script]);
    let document = run.assert_ok().report();
    assert!(report::list(document, "endpoints").is_empty(), "{run}");
    assert_eq!(report::number(document, "totals.egress.packets"), 0, "{run}");
    let flows = report::list(document, "loopback.flows");
    assert_eq!(flows.len(), 1, "{run}");
    for direction in report::DIRECTIONS {
        assert_eq!(report::number(&flows[0], &format!("{direction}.packets")), 1, "{run}");
    }
}

#[test]
fn a_refused_connection_to_the_loopback_gives_a_hint() {
    let net = internet!();
    let run = net.host.watch(&[TRAFFIC, "connect", "127.0.0.1:5432", "500"]);
    assert_eq!(run.assert_ok().stdout.trim(), "refused");
    assert!(run.stderr.contains("--host-loopback"), "{run}");
}
