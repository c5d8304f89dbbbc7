//! Contents of the summary.

use netwatch_tests::{addresses::*, internet};

use crate::TRAFFIC;

#[test]
fn endpoints_are_sorted_by_bytes() {
    let net = internet!();
    let script = format!(
        "{TRAFFIC} udp {APP_V4}:{ECHO} 1 10; curl -s -o /dev/null http://{APP_V4}/big; {TRAFFIC} connect {APP_V4}:{REFUSED} 500"
    );
    let run = net.host.watch(&["sh", "-c", &script]);
    let endpoints = netwatch_tests::report::list(run.assert_ok().report(), "endpoints");
    let ports: Vec<_> = endpoints.iter().map(|endpoint| endpoint["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, [80, u64::from(REFUSED), u64::from(ECHO)], "{run}");
    let text = &run.stderr;
    assert!(
        text.contains("every packet counted") && text.contains("refused") && text.contains("nothing lost"),
        "{run}"
    );
}

#[test]
fn long_lists_are_truncated_with_a_count_of_the_rest() {
    let net = internet!();
    let script = format!("for port in $(seq 2000 2059); do {TRAFFIC} connect {APP_V4}:$port 500 > /dev/null; done");
    let run = net.host.watch(&["sh", "-c", &script]);
    let shown = run.assert_ok().stderr.matches(&APP_V4.to_string()).count();
    assert!(shown < 60, "{run}");
    assert!(run.stderr.contains(" more"), "{run}");
    assert_eq!(netwatch_tests::report::list(run.report(), "endpoints").len(), 60, "the JSON has all of them");
}

#[test]
fn quiet_prints_no_summary() {
    let net = internet!();
    assert_eq!(net.host.run(&["-q"], &["curl", "-s", "-o", "/dev/null", "http://app.example/"]).stderr, "");
}
