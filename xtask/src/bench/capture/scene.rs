//! The namespaces of the bench, and its traffic, which is bounded by a count.

use std::path::Path;

use netwatch_tests::addresses::{APP_V4, IPERF};
use netwatch_tests::{InternetShape, TestInternet};
use serde_json::Value;

use crate::Result;

/// First port of the datagrams, which are dropped when they arrive.
const FIRST_PORT: u16 = 20_000;

/// Everything is removed when it is dropped.
pub struct CaptureScene {
    pub net: TestInternet,
}

impl CaptureScene {
    /// Creates the namespaces and starts the servers.
    pub fn start() -> Self {
        let mut net = TestInternet::start(InternetShape::default());
        net.start_iperf();
        net.inet.sh(&format!(
            "ip route add local 203.0.113.64/26 dev lo
            nft add table inet bench
            nft add chain inet bench first '{{ type filter hook prerouting priority -400; }}'
            nft add rule inet bench first udp dport '>=' {FIRST_PORT} drop"
        ));
        Self { net }
    }
}

/// Traffic, and what is captured of it.
pub struct CaptureCase {
    pub name: &'static str,
    /// Bytes of each packet; all without.
    pub snaplen: Option<u32>,
    pub command: String,
    /// The rate in what the command prints.
    pub rate: fn(&str) -> Result<f64>,
}

/// All cases. `load` is the program that sends datagrams.
pub fn cases(load: &Path) -> [CaptureCase; 3] {
    let iperf = |bytes: &str| format!("iperf3 -J -n {bytes} -c {APP_V4} -p {IPERF}");
    let datagrams = format!("{} datagrams to=203.0.113.65:{FIRST_PORT} count=900000 rate=300000", load.display());
    [
        CaptureCase { name: "heads, one TCP stream", snaplen: Some(96), command: iperf("4G"), rate: iperf_rate },
        CaptureCase { name: "heads, 300,000 datagrams/s", snaplen: Some(96), command: datagrams, rate: load_rate },
        CaptureCase { name: "full packets, one TCP stream", snaplen: None, command: iperf("2G"), rate: iperf_rate },
    ]
}

fn iperf_rate(printed: &str) -> Result<f64> {
    let document = printed.find('{').zip(printed.rfind('}')).map(|(start, end)| &printed[start..=end]);
    let document: Value = serde_json::from_str(document.unwrap_or_default())
        .map_err(|error| format!("iperf3 printed no JSON: {error}: {printed}"))?;
    let bits = document.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    bits.ok_or_else(|| format!("iperf3 failed: {}", document["error"]))
}

fn load_rate(printed: &str) -> Result<f64> {
    let rate = printed.lines().find_map(|line| line.strip_prefix("rate ")).and_then(|rate| rate.parse().ok());
    rate.ok_or_else(|| format!("no rate in {printed:?}"))
}
