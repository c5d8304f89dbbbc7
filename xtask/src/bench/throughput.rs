//! iperf3 through a namespace with netwatch, and through the same kind of namespace without, in
//! pairs.

use netwatch_tests::TestInternet;
use netwatch_tests::addresses::{APP_V4, IPERF};
use serde_json::Value;

use super::median;
use crate::Result;

/// Pairs; each takes twice two seconds.
const PAIRS: usize = 5;

/// The same veth, route and NAT, with neither classifier nor capture.
const WITHOUT: &str = include_str!("plain.sh");

/// Prints the rates and the median of the paired ratios.
pub fn measure(net: &TestInternet) -> Result {
    net.host.sh(WITHOUT);
    let iperf = format!("iperf3 -J -t 2 -c {APP_V4} -p {IPERF}");
    println!("iperf3, one TCP stream, {PAIRS} pairs");
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        // The order alternates, so that neither always runs on the warmer machine.
        let (with, without) = if pair % 2 == 0 {
            let with = with(net, &iperf)?;
            (with, plain(net, &iperf)?)
        } else {
            let without = plain(net, &iperf)?;
            (with(net, &iperf)?, without)
        };
        println!("  with {with:6.2} Gbit/s   without {without:6.2} Gbit/s   {:.3}", with / without);
        ratios.push(with / without);
    }
    println!("  median of the ratios        {:8.3}", median(ratios));
    Ok(())
}

fn with(net: &TestInternet, iperf: &str) -> Result<f64> {
    gigabits(&net.host.run(&["-q"], &["sh", "-c", iperf]).stdout)
}

fn plain(net: &TestInternet, iperf: &str) -> Result<f64> {
    gigabits(&net.host.sh(&format!("ip netns exec plain {iperf}")))
}

fn gigabits(text: &str) -> Result<f64> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("iperf3 printed no JSON: {error}"))?;
    let bits = document.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    bits.map(|bits| bits / 1e9).ok_or_else(|| format!("iperf3 failed: {}", document["error"]))
}
