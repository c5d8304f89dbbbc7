//! The balance closes on every kind of traffic. Every other test checks it too: [`netwatch_tests::TestHost::run`] does.

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
fn it_closes_when_the_command_is_killed_in_full_flight() {
    let mut net = internet!();
    needs!("iperf3");
    net.start_iperf();
    let run = net.host.run(&["--duration", "500ms"], &["iperf3", "-c", &APP_V4.to_string(), "-t", "10"]);
    run.assert_code(124).report();
}

#[test]
fn it_is_printed_also_at_difference_0() {
    let net = internet!();
    let run = net.host.watch(&[TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "3", "10"]);
    assert!(run.assert_ok().stderr.contains("balance"), "{run}");
}

#[test]
fn what_the_kernel_says_by_itself_is_housekeeping_and_no_endpoint() {
    let net = internet!();
    let run = net.host.watch(&[TRAFFIC, "udp", &format!("[{APP_V6}]:{ECHO}"), "1", "10"]);
    let document = run.assert_ok().report();
    assert_eq!(report::list(document, "endpoints").len(), 1, "{run}");
    assert_eq!(report::list(document, "flows").len(), 1, "{run}");
    let neighbours = "balance.remainders.neighbour_discovery.egress.skbs";
    assert!(report::number(document, neighbours) > 0, "IPv6 asks for its neighbour: {run}");
    assert!(run.stderr.contains("housekeeping"), "{run}");
}

#[test]
fn a_full_flow_table_coarsens_and_never_forgets() {
    let net = internet!();
    let script = format!("for n in 1 2 3 4 5 6 7 8; do {TRAFFIC} udp {APP_V4}:{ECHO} 10 100; done");
    let run = net.host.run(&["--max-flows", "4"], &["sh", "-c", &script]);
    let totals = report::value(run.assert_ok().report(), "totals");
    report::assert_packets(totals, "egress", 80, 142);
    assert!(report::number(run.report(), "balance.remainders.overflow.egress.skbs") > 0, "{run}");
}

#[test]
fn flows_beyond_the_bound_fold_into_their_endpoints_and_every_sum_is_exact() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // By the bound: how many of the twelve flows are folded, and whether they could be told apart.
    for (bound, folded, at_least) in [(1, 4, true), (4, 8, false), (12, 0, false)] {
        let options = StartOptions::env(&[("NETWATCH_FAULT", &format!("fold:{bound}"))]);
        let script = format!("for n in 1 2 3 4 5 6 7 8 9 10 11 12; do {TRAFFIC} udp {APP_V4}:{ECHO} 5 100; done");
        let run = net.host.run_with(options, &[], &["sh", "-c", &script]);
        let document = run.assert_ok().report();
        let endpoint = report::endpoint(document, "udp", APP_V4, ECHO);
        for direction in report::DIRECTIONS {
            report::assert_packets(endpoint, direction, 60, 142);
            report::assert_packets(report::value(document, "folded"), direction, 5 * (12 - bound), 142);
        }
        assert_eq!(report::list(document, "flows").len() as i64, bound, "{run}");
        assert_eq!(report::number(document, "folded.flows"), folded, "{run}");
        assert_eq!(report::number(endpoint, "flows"), bound + folded, "{run}");
        assert_eq!(document["folded"]["at_least"], at_least, "{run}");
        // What is read back from the recording is checked as any document is, and is the same.
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
    let script = format!("echo ready; sleep 0.5; {TRAFFIC} udp {APP_V4}:{ECHO} 20 100; echo sent; sleep 0.5");
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    // Somebody else's classifier, behind ours on both sides of the interface: it sends copies to a link that leads nowhere.
    net.host.sh(
        "ip link add copies type veth peer name nowhere; ip link set copies up; ip link set nowhere up
        interface=$(ip -br link | grep -o '^nw[0-9a-f]*')
        for side in ingress egress; do
            tc filter add dev $interface $side protocol ip prio 50000 u32 match ip protocol 17 0xff action mirred egress mirror dev copies
        done",
    );
    running.wait_for_stdout("sent");
    let seen = net
        .host
        .sh("for side in ingress egress; do tc -s filter show dev $(ip -br link | grep -o '^nw[0-9a-f]*') $side; done");
    // What comes in has no Ethernet header at that place.
    for counted in ["Sent 2560 bytes 20 pkt", "Sent 2840 bytes 20 pkt"] {
        assert!(seen.contains(counted), "{counted}: {seen}");
    }
    let run = running.finish();
    report::assert_packets(report::endpoint(run.assert_ok().report(), "udp", APP_V4, ECHO), "egress", 20, 142);
}
