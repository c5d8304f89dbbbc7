//! Data that the command left in its sockets is delivered before the link is removed.

use netwatch_tests::{addresses::*, eventually, internet, report, wait_until};

use crate::TRAFFIC;

const MEGABYTE: u64 = 1_000_000;

/// How long netwatch waits without the flag `--drain-timeout`.
const DEFAULT_DRAIN_TIMEOUT_MS: u64 = 5000;

#[test]
fn a_megabyte_sent_just_before_the_exit_arrives() {
    let net = internet!();
    // On a slow link most of it is still in the socket when the process ends.
    let slow = net.host.try_sh("tc qdisc add dev uplink root tbf rate 40mbit burst 32k latency 400ms").0;
    for (number, to) in [format!("{APP_V4}:{SINK}"), format!("[{APP_V6}]:{SINK}")].iter().enumerate() {
        let run = net.host.watch(&[TRAFFIC, "send", to, &MEGABYTE.to_string()]);
        run.assert_ok();
        wait_until(|| net.sunk().len() > number, || format!("the end of the connection at the server: {run}"));
        assert_eq!(net.sunk()[number], MEGABYTE, "slow link: {slow}: {run}");
        assert!(report::number(run.report(), "totals.egress.wire_bytes") > MEGABYTE as i64, "{run}");
    }
}

#[test]
fn the_wait_for_a_peer_that_acknowledges_nothing_has_a_limit() {
    let net = internet!();
    // Only the handshake gets through.
    net.inet.sh("nft add table inet stall; nft add chain inet stall input '{ type filter hook input priority 0; }'
        nft add rule inet stall input tcp dport 9000 meta length '>' 100 drop");
    // Tried again when the machine was so busy that the wait took as long as the default limit.
    let waited_ms = eventually(|| {
        let run = net.host.run(&["--drain-timeout", "300ms"], &[TRAFFIC, "send", &format!("{APP_V4}:{SINK}"), "15000"]);
        let notes = report::value(run.assert_ok().report(), "notes").to_string();
        let waited_ms = notes.split_once(" ms (see --drain-timeout)").and_then(|(before, _)| before.rsplit(' ').next());
        let waited_ms: u64 = waited_ms.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{run}"));
        if waited_ms < DEFAULT_DRAIN_TIMEOUT_MS { Ok(waited_ms) } else { Err(run.to_string()) }
    })
    .unwrap_or_else(|run| panic!("the limit is not respected: {run}"));
    assert!(waited_ms >= 300, "{waited_ms} ms");
}
