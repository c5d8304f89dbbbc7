//! The simulated internet with the additions of the bench: a namespace without netwatch, an end for
//! datagrams, iperf3.

use std::path::PathBuf;

use netwatch_tests::addresses::{APP_V4, IPERF};
use netwatch_tests::{InternetShape, TestInternet};
use serde_json::Value;

use super::EngineOptions;
use super::sender::FIRST_PORT;
use crate::Result;

/// The same veth, route and NAT as netwatch creates, with neither classifier nor capture.
const PLAIN: &str = include_str!("../plain.sh");

/// Everything is removed when it is dropped.
pub struct Scene {
    /// The namespaces.
    pub net: TestInternet,
    myself: PathBuf,
    /// Seconds of one measurement.
    pub seconds: f64,
}

/// The network in which a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandNetwork {
    /// The host itself.
    Host,
    /// A namespace behind the host, created with `ip`.
    Plain,
    /// A namespace that netwatch creates.
    Watched,
}

impl Scene {
    /// Creates the namespaces.
    pub fn start(options: &EngineOptions) -> Result<Self> {
        if let Some(reason) = netwatch_tests::missing() {
            return Err(format!("cannot measure here: {reason}"));
        }
        let myself = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut net = TestInternet::start(InternetShape::default());
        net.start_iperf();
        net.host.sh(PLAIN);
        // Before connection tracking and routing: only the path up to here is measured.
        net.inet.sh(&format!(
            "nft add table inet bench
            nft add chain inet bench first '{{ type filter hook prerouting priority -400; }}'
            nft add rule inet bench first udp dport '>=' {FIRST_PORT} drop"
        ));
        Ok(Self { net, myself, seconds: options.seconds })
    }

    /// The command line that sends datagrams.
    pub fn sender(&self, flags: &[&str]) -> Vec<String> {
        let words = [self.myself.to_str().unwrap_or_default(), "send"];
        words.iter().chain(flags).map(|word| (*word).to_owned()).collect()
    }

    /// Datagrams per second.
    pub fn flood(&self, network: CommandNetwork, flows: u64) -> Result<f64> {
        let sender = self.sender(&["--flows", &flows.to_string(), "--seconds", &self.seconds.to_string()]);
        super::sender::rate(&self.run(network, &sender.join(" "))?)
    }

    /// Gbit/s of one TCP stream.
    pub fn stream(&self, network: CommandNetwork) -> Result<f64> {
        let seconds = self.seconds;
        let printed = self.run(network, &format!("iperf3 -J -t {seconds} -c {APP_V4} -p {IPERF}"))?;
        let document: Value =
            serde_json::from_str(&printed).map_err(|error| format!("iperf3 printed no JSON: {error}"))?;
        let bits = document.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
        bits.map(|bits| bits / 1e9).ok_or_else(|| format!("iperf3 failed: {}", document["error"]))
    }

    fn run(&self, network: CommandNetwork, command: &str) -> Result<String> {
        match network {
            CommandNetwork::Host => Ok(self.net.host.sh(command)),
            CommandNetwork::Plain => Ok(self.net.host.sh(&format!("ip netns exec plain {command}"))),
            CommandNetwork::Watched => {
                let run = self.net.host.run(&["-q"], &["sh", "-c", command]);
                if run.code == Some(0) { Ok(run.stdout) } else { Err(format!("netwatch failed: {run}")) }
            }
        }
    }
}
