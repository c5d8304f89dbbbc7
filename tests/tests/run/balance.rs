//! The balance closes for every kind of traffic. Every other test checks it too, in
//! [`netwatch_tests::TestHost::run`].

use netwatch_tests::{StartOptions, addresses::*, internet, needs, report, skip};

use crate::TRAFFIC;

#[test]
fn it_closes_at_full_speed_in_both_directions() {
    let mut net = internet!();
    needs!("iperf3");
    net.start_iperf();
    let server = APP_V4.to_string();
    for more in [&["-R"][..], &[], &["-u", "-b", "200M"], &["-u", "-b", "200M", "-R", "-l", "4000"]] {
        let command = [&["iperf3", "-c", &server, "-t", "1", "-P", "2"][..], more].concat();
        let run = net.host.watch(&command);
        run.assert_ok();
        assert!(report::number(run.report(), "totals.egress.bytes") > 0, "{run}");
    }
}

#[test]
fn it_closes_when_the_command_is_killed_during_a_transfer() {
    let mut net = internet!();
    needs!("iperf3");
    net.start_iperf();
    let run = net.host.run(&["--duration", "500ms"], &["iperf3", "-c", &APP_V4.to_string(), "-t", "10"]);
    run.assert_code(124).report();
}

#[test]
fn it_is_printed_when_the_difference_is_0() {
    let net = internet!();
    let run = net.host.watch(&[TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "3", "10"]);
    assert!(run.assert_ok().stderr.contains("every packet counted"), "{run}");
}

#[test]
fn packets_generated_by_the_kernel_are_housekeeping_and_no_endpoint() {
    let net = internet!();
    let run = net.host.run(&["-v"], &[TRAFFIC, "udp", &format!("[{APP_V6}]:{ECHO}"), "1", "10"]);
    let document = run.assert_ok().report();
    assert_eq!(report::list(document, "endpoints").len(), 1, "{run}");
    assert_eq!(report::list(document, "flows").len(), 1, "{run}");
    let neighbours = "balance.remainders.neighbour_discovery.egress.skbs";
    assert!(report::number(document, neighbours) > 0, "the kernel looks up the neighbor: {run}");
    assert!(run.stderr.contains("housekeeping"), "{run}");
}

#[test]
fn packets_beyond_a_full_flow_table_are_counted_as_overflow() {
    let net = internet!();
    let script = format!("for n in 1 2 3 4 5 6 7 8; do {TRAFFIC} udp {APP_V4}:{ECHO} 10 100; done");
    let run = net.host.run(&["--max-flows", "4"], &["sh", "-c", &script]);
    let totals = report::value(run.assert_ok().report(), "totals");
    report::assert_packets(totals, "egress", 80, 142);
    assert!(report::number(run.report(), "balance.remainders.overflow.egress.skbs") > 0, "{run}");
}

#[test]
fn flows_beyond_the_limit_fold_into_their_endpoints_with_exact_sums() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // For each limit: how many of the twelve flows are folded, and whether that number is a lower
    // bound.
    for (limit, folded, at_least) in [(1, 4, true), (4, 8, false), (12, 0, false)] {
        let options = StartOptions::env(&[("NETWATCH_FAULT", &format!("fold:{limit}"))]);
        let script = format!("for n in 1 2 3 4 5 6 7 8 9 10 11 12; do {TRAFFIC} udp {APP_V4}:{ECHO} 5 100; done");
        let run = net.host.run_with(options, &[], &["sh", "-c", &script]);
        let document = run.assert_ok().report();
        let endpoint = report::endpoint(document, "udp", APP_V4, ECHO);
        for direction in report::DIRECTIONS {
            report::assert_packets(endpoint, direction, 60, 142);
            report::assert_packets(report::value(document, "folded"), direction, 5 * (12 - limit), 142);
        }
        assert_eq!(report::list(document, "flows").len() as i64, limit, "{run}");
        assert_eq!(report::number(document, "folded.flows"), folded, "{run}");
        assert_eq!(report::number(endpoint, "flows"), limit + folded, "{run}");
        assert_eq!(document["folded"].get("at_least").is_some_and(|value| value == true), at_least, "{run}");
        // The report of the recording is checked as any other, and is equal.
        let read_back = net.host.netwatch(&["report", "--format", "json"]);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&read_back.assert_ok().stdout).ok().as_ref(),
            Some(document)
        );
    }
}

#[test]
fn later_classifiers_see_every_packet() {
    let net = internet!();
    let (attached, counted) = (net.host.gate(), net.host.gate());
    let traffic = format!("{TRAFFIC} udp {APP_V4}:{ECHO} 20 100");
    let script = format!("echo ready; {}; {traffic}; echo sent; {}", attached.wait(), counted.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    // A foreign classifier after netwatch's, on both sides of the interface: it sends copies to an
    // unconnected link.
    net.host.sh(
        "ip link add copies type veth peer name nowhere; ip link set copies up; ip link set nowhere up
        interface=$(ip -br link | grep -o '^nw[0-9a-f]*')
        for side in ingress egress; do
            tc filter add dev $interface $side protocol ip prio 50000 u32 match ip protocol 17 0xff action mirred egress mirror dev copies
        done",
    );
    attached.open();
    running.wait_for_stdout("sent");
    let seen = net
        .host
        .sh("for side in ingress egress; do tc -s filter show dev $(ip -br link | grep -o '^nw[0-9a-f]*') $side; done");
    // Received packets have no Ethernet header there.
    for expected in ["Sent 2560 bytes 20 pkt", "Sent 2840 bytes 20 pkt"] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    counted.open();
    let run = running.finish();
    report::assert_packets(report::endpoint(run.assert_ok().report(), "udp", APP_V4, ECHO), "egress", 20, 142);
}
