//! Data that an exited process left in its sockets is let out before the link goes.

use std::time::Duration;

use netwatch_tests::{addresses::*, eventually, internet, report};

use crate::TRAFFIC;

const MEGABYTE: u64 = 1_000_000;

#[test]
fn a_megabyte_sent_just_before_exit_arrives() {
    let net = internet!();
    // A slow link, so that most of it is still in the socket when the process ends.
    let slow = net.host.try_sh("tc qdisc add dev uplink root tbf rate 40mbit burst 32k latency 400ms").0;
    for (number, to) in [format!("{APP_V4}:{SINK}"), format!("[{APP_V6}]:{SINK}")].iter().enumerate() {
        let run = net.host.watch(&[TRAFFIC, "send", to, &MEGABYTE.to_string()]);
        run.assert_ok();
        eventually(|| if net.sunk().len() > number { Ok(()) } else { Err("not closed".to_owned()) })
            .unwrap_or_else(|why| panic!("{why}: {run}"));
        assert_eq!(net.sunk()[number], MEGABYTE, "slow link: {slow}: {run}");
        assert!(report::number(run.report(), "totals.egress.wire_bytes") > MEGABYTE as i64, "{run}");
    }
}

#[test]
fn a_peer_that_takes_nothing_is_not_waited_for_longer_than_asked() {
    let net = internet!();
    // Nothing comes back any more from the moment the connection stands.
    net.inet.sh("nft add table inet stall; nft add chain inet stall input '{ type filter hook input priority 0; }'
        nft add rule inet stall input tcp dport 9000 meta length '>' 100 drop");
    let run = net.host.run(&["--drain-timeout", "300ms"], &[TRAFFIC, "send", &format!("{APP_V4}:{SINK}"), "15000"]);
    run.assert_ok();
    assert!(run.took < Duration::from_secs(3), "{run}");
    assert!(run.stderr.contains("--drain-timeout"), "says what was left: {run}");
}
